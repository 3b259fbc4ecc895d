"""`parley.testing`: a whole gateway, and the SDK against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest

import parley
from parley.testing import Gateway, Models, parley_gateway
from parley_server.config_sources import ConfigError

__all__ = ["parley_gateway"]  # the fixture under test


@pytest.fixture
def parley_models() -> Models:
    return {
        "weather": {"reply": "sunny"},
        "busy": {"errors": [{"status": 429, "retry_after": 60}], "repeat_errors": True},
    }


def test_the_fixture_gives_a_gateway_to_talk_to(parley_gateway: Gateway) -> None:
    with parley_gateway.client() as client:
        assert client.chat("mock/echo", "hello").text == "hello"
        assert client.chat("mock/weather", "and now?").text == "sunny"
        with client.stream("mock/echo", "one two three") as stream:
            assert "".join(stream) == "one two three"
            assert stream.reply().finish_reason == "stop"
        assert len(client.embed("mock/embed", ["a", "b"]).vectors) == 2
        assert {"mock/echo", "mock/weather"} <= {model.id for model in client.models()}
        assert client.info().providers == ["mock"]
        assert client.health() == "serving"
    bodies = [request.body for request in parley_gateway.requests if request.path.endswith("/chat/completions")]
    assert [body["messages"][-1]["content"] for body in bodies] == ["hello", "and now?", "one two three"]


def test_errors_of_a_provider_come_typed(parley_gateway: Gateway) -> None:
    with parley_gateway.client() as client:
        with pytest.raises(parley.RateLimited) as caught:
            client.chat("mock/busy", "hello")
        assert caught.value.retry_after == 60
        assert caught.value.provider_error is not None
        assert caught.value.provider_error.http_status == 429
        assert caught.value.request_id
        with pytest.raises(parley.ModelNotFound):
            client.chat("mock/nobody", "hello")
        with pytest.raises(parley.InvalidRequest) as invalid:
            client.chat("mock/echo", "hello", temperature=float("nan"))
        assert invalid.value.violations[0].field == "sampling.temperature"


async def test_the_asynchronous_client_too(parley_gateway: Gateway) -> None:
    async with parley_gateway.async_client() as client:
        assert (await client.chat("mock/echo", "hello")).text == "hello"


def test_tools_run_against_a_gateway() -> None:
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    adder = {"tool_calls": [{"name": "add", "arguments": {"a": 2, "b": 3}}]}
    with Gateway({"adder": adder}) as gateway, gateway.client() as client:
        run = client.run_tools("mock/adder", "What is 2 + 3?", tools=[add])
    assert "5" in run.text
    assert [message.role for message in run.messages][1:3] == [parley.v1.ROLE_ASSISTANT, parley.v1.ROLE_TOOL]


def test_a_wrong_configuration_is_told_and_leaves_no_thread() -> None:
    gateway = Gateway({"weather": {"replie": "sunny"}})
    with pytest.raises(ConfigError, match="replie"):
        gateway.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = gateway.address


def test_the_environment_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    monkeypatch.setenv("PARLEY_SERVER__ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("PARLEY_TOKEN", "of another gateway")
    with Gateway() as gateway, gateway.client() as client:
        assert client.info().providers == ["mock"]


def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parley_server", None)
    with pytest.raises(ImportError, match=r"parley-client\[testing\]"):
        Gateway().start()


def test_texts_of_all_kinds_reach_the_models() -> None:
    text = "naïve 🎉 \x7f 'quoted' \"twice\": {yes}\n# no"
    with Gateway({"parrot": {"reply": text}}) as gateway, gateway.client() as client:
        assert client.chat("mock/parrot", "say it").text == text


def test_it_is_a_plugin_for_projects_of_others(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["parley.testing"]\n')
    (tmp_path / "test_theirs.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def parley_models():\n"
        "    return {'weather': {'reply': 'sunny'}}\n"
        "def test_theirs(parley_gateway):\n"
        "    with parley_gateway.client() as client:\n"
        "        assert client.chat('mock/weather', 'hello').text == 'sunny'\n"
        "    assert parley_gateway.requests[-1].body['messages'][-1]['content'] == 'hello'\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


EXAMPLES = Path(__file__).resolve().parents[3] / "clients/python/examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example_runs_as_it_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with Gateway() as gateway:
        monkeypatch.setenv("PARLEY_ADDRESS", gateway.address)
        monkeypatch.setattr("sys.argv", [str(path)])
        capsys.readouterr()
        run_path(str(path), run_name="__main__")
        assert capsys.readouterr().out.strip()
