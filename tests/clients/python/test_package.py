"""The package as such: light imports, a fresh synchronous twin, the settings of a channel."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc_testing
import pytest

import parley
from parley import channel, v1
from parley.v1 import gateway_service_pb2

ROOT = Path(__file__).resolve().parents[3] / "clients/python"
SERVICE = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("statement", ["import parley.v1", "from parley import v1", "import parley.fold"])
def test_messages_and_fold_load_no_client(statement: str) -> None:
    loaded = modules_after(statement)
    assert "parley.v1.chat_pb2" in loaded
    assert not loaded & {"grpc", "typer", "rich", "asyncio", "parley.errors", "parley._sync.client"}


def test_the_client_loads_neither_terminal_nor_test_nor_trace_libraries() -> None:
    loaded = modules_after("import parley; parley.Client; parley.AsyncClient; parley.tool")
    assert "grpc" in loaded
    assert not loaded & {"typer", "rich", "pytest", "pydantic", "opentelemetry", "parley_server", "grpc_status"}


def test_every_public_name_is_there() -> None:
    for name in parley.__all__:
        assert getattr(parley, name) is not None
    assert set(parley.__all__) <= set(dir(parley))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        parley.nonsense  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    source = (ROOT / "src/parley/__init__.py").read_text()
    for name in parley.__all__:
        assert f" import {name} as {name}\n" in source
    assert len(re.findall(r"^    from \S+ import \w+ as \w+$", source, re.MULTILINE)) == len(parley.__all__)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", ROOT / "tools/generate_sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_synchronous_client_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator().main(check=True) == 0, capsys.readouterr().out


def test_the_generator_tells_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    (tmp_path / "_async").mkdir()
    (tmp_path / "_sync").mkdir()
    (tmp_path / "_async/a.py").write_text("async def f(): return await g()\n")
    (tmp_path / "_sync/gone.py").write_text("")
    (tmp_path / "_sync/wire.py").write_text("by hand")
    assert module.main(check=True) == 1
    assert [line.split(":")[0].rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == [
        "a.py",
        "gone.py",
    ]
    assert module.main(check=False) == 0
    assert module.main(check=True) == 0
    assert "def f(): return g()\n" in (tmp_path / "_sync/a.py").read_text()
    assert sorted(path.name for path in (tmp_path / "_sync").iterdir()) == ["a.py", "wire.py"]


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(parley.Client) == public(parley.AsyncClient)
    assert public(parley.Stream) == public(parley.AsyncStream)


def test_service_config_retries_what_did_not_reach_a_gateway() -> None:
    config = channel.service_config()
    everything, cheap = config["methodConfig"]
    assert everything["name"] == [{"service": "parley.v1.GatewayService"}]
    for method in (everything, cheap):
        assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
        assert 1 < method["retryPolicy"]["maxAttempts"] <= 5
        assert method["waitForReady"] is False
    assert {name["method"] for name in cheap["name"]} < {method.name for method in SERVICE.methods}
    assert config["healthCheckConfig"]["serviceName"] == SERVICE.full_name
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]


def test_options_of_the_caller_win() -> None:
    dial = channel.dial("a:1", token="", tls=None, config={"x": 1}, options=[("grpc.keepalive_time_ms", 1)])
    assert dict(dial.options)["grpc.keepalive_time_ms"] == 1
    assert int(dict(dial.options)["grpc.max_receive_message_length"]) >= 20 * 2**20
    assert json.loads(str(dict(dial.options)["grpc.service_config"])) == {"x": 1}
    assert "grpc.service_config" not in dict(dial.plain().options)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("[::1]:1", False),
        ("dns:///localhost:1", False),
        ("unix:/run/parley.sock", False),
        ("gateway:50051", True),
        ("10.0.0.5:50051", True),
        ("dns:///gateway:50051", True),
        ("127.0.0.1.example.com:1", True),
    ],
)
def test_a_token_leaves_the_machine_only_encrypted_or_on_purpose(address: str, refused: bool) -> None:
    def dial(tls: bool | None) -> channel.Dial:
        return channel.dial(address, token="s3cret", tls=tls, config={}, options=())

    if refused:
        with pytest.raises(ValueError, match="in clear") as caught:
            dial(None)
        assert "s3cret" not in str(caught.value)
    else:
        assert dial(None).credentials is None
    assert dial(False).credentials is None
    assert dial(True).credentials is not None
    assert "s3cret" not in repr(dial(True))


def test_an_address_is_no_url() -> None:
    with pytest.raises(ValueError, match="tls=True"):
        parley.Client("https://gateway")


def test_the_synchronous_client_over_a_scripted_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What exactly is asked of gRPC: method, metadata, request."""
    scripted = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    monkeypatch.setattr("parley._sync.wire.connect", lambda dial: scripted)
    seen: list[Any] = []

    def answer() -> None:
        metadata, request, rpc = scripted.take_unary_unary(SERVICE.methods_by_name["Chat"])
        seen.extend([dict(metadata)["authorization"], request])
        rpc.send_initial_metadata(())
        rpc.terminate(v1.ChatResponse(id="resp_1"), (), grpc.StatusCode.OK, "")

    thread = threading.Thread(target=answer)
    thread.start()
    client = parley.Client("127.0.0.1:1", token="t")
    assert client.chat("mock/echo", "hi").id == "resp_1"
    thread.join()
    assert seen == ["Bearer t", v1.ChatRequest(model="mock/echo", messages=[parley.user("hi")])]
