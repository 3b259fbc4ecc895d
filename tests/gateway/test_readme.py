"""What the README shows works as it stands there: only the address, and secrets nobody has, are put in its place."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from parley_server.config import load
from tests.clients.toolchain import needs
from tests.gateway.process import Gateway, config, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:50051"
KEYS = {"OPENAI_API_KEY": "sk-nobody", "ANTHROPIC_API_KEY": "sk-ant-nobody"}


def blocks(language: str) -> list[str]:
    """The code blocks of that language, in order."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no block of {language}"
    return found


def commands(program: str) -> list[str]:
    """The commands that begin with `program`, continued lines joined."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(f"{program} ")]
    assert found, f"the README shows no command of {program}"
    return found


def tool(name: str) -> str:
    """The program's path; without it the test is skipped, or fails in CI."""
    found = next((str(path) for path in [ROOT / ".venv-gen" / "bin" / name] if path.exists()), None)
    if found is None:
        needs(name)
    return found or name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    async with gateway(config(), folder) as server:
        yield server


async def run(*command: str, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Standard output of a command that has to succeed and to complain of nothing."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": _absolute(os.environ.get("PYTHONPATH", "")), **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (command, out.decode(), err.decode())
    assert "Traceback" not in err.decode()
    return out.decode()


def _absolute(search_path: str) -> str:
    return os.pathsep.join(str(Path(entry).absolute()) for entry in search_path.split(os.pathsep) if entry)


async def test_the_python_snippet_prints_what_it_asked_for(running: Gateway, tmp_path: Path) -> None:
    [snippet] = blocks("python")
    assert ADDRESS in snippet
    out = await run(sys.executable, "-c", snippet.replace(ADDRESS, running.address), cwd=tmp_path)
    assert out.splitlines() == ["hello", "one word at a time"]


async def test_the_buf_commands_answer(running: Gateway, tmp_path: Path) -> None:
    buf = tool("buf")
    for command in commands("buf"):
        assert ADDRESS in command
        _, *arguments = shlex.split(command.replace(ADDRESS, running.address))
        out = await run(buf, *arguments, cwd=tmp_path, environ={"HOME": str(tmp_path)})
        events = _documents(out)
        said = "".join(event.get("partDelta", {}).get("text", "") for event in events)
        assert said == "hi"
        assert "completed" in events[-1]


async def test_the_grpcurl_commands_answer(running: Gateway, tmp_path: Path) -> None:
    grpcurl = tool("grpcurl")
    outputs = {}
    for command in commands("grpcurl"):
        assert ADDRESS in command
        _, *arguments = shlex.split(command.replace(ADDRESS, running.address), comments=True)
        if "Watch" in command or "-format-error" in command:
            continue  # they do not end, or not well
        outputs[arguments[-1]] = await run(grpcurl, *arguments, cwd=tmp_path)
    assert "parley.v1.GatewayService" in outputs["list"].splitlines()
    assert "message ChatRequest {" in outputs["parley.v1.ChatRequest"]
    assert json.loads(outputs["parley.v1.GatewayService/Chat"])["message"]["parts"][0]["text"] == "hi"
    events = _documents(outputs["parley.v1.GatewayService/StreamChat"])
    assert "started" in events[0]
    assert "completed" in events[-1]
    assert json.loads(outputs["grpc.health.v1.Health/Check"]) == {"status": "SERVING"}


async def test_grpcurl_watches_health_until_it_is_stopped(running: Gateway) -> None:
    [command] = [line for line in commands("grpcurl") if "Watch" in line]
    _, *arguments = shlex.split(command.replace(ADDRESS, running.address), comments=True)
    process = await asyncio.create_subprocess_exec(tool("grpcurl"), *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(process.stdout.readuntil(b"}"), 30)
        assert json.loads(said) == {"status": "SERVING"}
        await asyncio.sleep(0.2)
        assert process.returncode is None
    finally:
        process.terminate()
        await process.wait()


async def test_grpcurl_shows_the_details_of_an_error(running: Gateway) -> None:
    [command] = [line for line in commands("grpcurl") if "-format-error" in line]
    _, *arguments = shlex.split(command.replace(ADDRESS, running.address), comments=True)
    process = await asyncio.create_subprocess_exec(tool("grpcurl"), *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 64 + 3  # INVALID_ARGUMENT
    details = {detail["@type"].rpartition(".")[2]: detail for detail in json.loads(said)["details"]}
    assert details["ErrorInfo"]["reason"] == "INVALID_REQUEST"
    assert details["ErrorInfo"]["metadata"]["requestId"]
    assert details["BadRequest"]["field_violations"][0]["field"] == "messages"


async def test_the_command_line_answers(running: Gateway, tmp_path: Path) -> None:
    [command] = re.findall(r"`\.venv/bin/(parley chat [^`]+)`", README)
    _, *arguments = shlex.split(command)
    environ = {"PARLEY_ADDRESS": running.address}
    out = await run(sys.executable, "-m", "parley.cli", *arguments, cwd=tmp_path, environ=environ)
    assert out.strip() == arguments[-1]


async def test_the_configuration_loads_and_means_what_it_says() -> None:
    [text] = blocks("yaml")
    settings = load(text, KEYS)
    assert settings.server.address == ADDRESS
    assert {name: provider.kind for name, provider in settings.providers.items()} == {
        "openai": "openai",
        "anthropic": "anthropic",
        "ollama": "ollama",
        "lab": "openai-compatible",
        "mock": "mock",
    }
    assert settings.timeouts.idle == 60
    assert "sk-nobody" not in repr(settings)


async def test_the_configuration_passes_the_check_that_the_readme_recommends(tmp_path: Path) -> None:
    [text] = blocks("yaml")
    (tmp_path / "parley.yaml").write_text(text)
    [command] = [line for line in commands(".venv/bin/parley-server") if " check " in line]
    _, *arguments = shlex.split(command, comments=True)
    out = await run(sys.executable, "-m", "parley_server", *arguments, cwd=tmp_path, environ=KEYS)
    assert "sk-nobody" not in out


async def test_a_setting_as_a_variable_is_heard(tmp_path: Path) -> None:
    [variable] = re.findall(r"^(PARLEY_\w+)=127\.0\.0\.1:6000 .*serve", "\n".join(blocks("sh")), re.MULTILINE)
    settings = config()
    del settings["server"]
    async with gateway(settings, tmp_path, {variable: "127.0.0.1:0"}) as server:
        assert server.port not in (0, 50051)


def _documents(text: str) -> list[dict[str, Any]]:
    """JSON documents that follow one another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        document, end = decoder.raw_decode(text, at)
        found.append(document)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found
