"""What docs/streaming.md shows works as it stands there; only address, model and ID are put in its place."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict, Parse

from parley import v1
from parley_server.config import Config, load
from tests.gateway.process import Gateway, config, gateway
from tests.gateway.test_readme import run

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
ADDRESS = "127.0.0.1:50051"
SLOW = {"slow": {"token_delay": 0.05}}
REQUESTS: dict[str, Any] = {
    "StreamChat": v1.StreamChatRequest,
    "GetChat": v1.GetChatRequest,
    "CancelChat": v1.CancelChatRequest,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Each command's arguments, in order."""
    words = shlex.split("\n".join(blocks("sh")).replace("\\\n", " ").replace("\ngrpcurl ", " ; grpcurl "))
    return [list(filter(None, one.split("\0"))) for one in "\0".join(words).split("\0;\0")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    settings = config(providers={"mock": {"models": SLOW}})
    async with gateway(settings, tmp_path_factory.mktemp("gateway")) as server:
        yield server


async def answers(running: Gateway, command: list[str], tmp_path: Path) -> list[dict[str, Any]]:
    """What grpcurl prints for `command`; without grpcurl, what it would have been told."""
    program, plain, _, text, address, method = command
    assert (program, plain, address) == ("grpcurl", "-plaintext", ADDRESS)
    if (found := shutil.which(program)) is not None:
        out = await run(found, plain, "-d", text, running.address, method, cwd=tmp_path)
        return [json.loads(one) for one in re.split(r"(?<=^\})\n", out, flags=re.MULTILINE) if one.strip()]
    name = method.removeprefix("parley.v1.GatewayService/")
    call = getattr(running.stub, name)(Parse(text, REQUESTS[name]()))
    said = [event async for event in call] if name == "StreamChat" else [await call]
    return [MessageToDict(one, preserving_proto_field_name=True) for one in said]


async def test_the_commands_show_what_the_page_says(running: Gateway, tmp_path: Path) -> None:
    begin, *others = commands()
    whole = await answers(running, begin, tmp_path)
    example = json.loads(blocks("json")[0])
    assert example["started"].keys() <= whole[0]["started"].keys()
    begun, placeholder = whole[0]["started"]["response_id"], example["started"]["response_id"]
    assert len(begun) == len(placeholder)
    resume, get, cancel = [[word.replace(placeholder, begun) for word in command] for command in others]
    rest = await answers(running, resume, tmp_path)
    assert rest == whole[2:]
    assert "".join(event.get("part_delta", {}).get("text", "") for event in whole) == "one two three"
    [found] = await answers(running, get, tmp_path)
    assert found["state"] == "STATE_SUCCEEDED"
    assert found["response"]["message"]["parts"][0]["text"] == "one two three"
    [cancelled] = await answers(running, cancel, tmp_path)
    assert cancelled["usage"] == found["response"]["usage"]


async def test_the_client_does_not_notice_that_its_connection_breaks(running: Gateway, tmp_path: Path) -> None:
    [snippet] = blocks("python")
    question = " ".join(f"word{number}" for number in range(40))
    breaking = Breaking(running.port)
    server = await asyncio.start_server(breaking.serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for old, new in ((ADDRESS, address), ("mock/echo", "mock/slow"), ("one two three", question)):
            assert old in snippet
            snippet = snippet.replace(old, new)
        out = await run(sys.executable, "-c", snippet, cwd=tmp_path)
    assert out == question
    assert breaking.broken == 1


class Breaking:
    """Passes bytes on to the gateway; its first connection breaks in the middle of the answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.broken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sink = await asyncio.open_connection("127.0.0.1", self._port)
        there = asyncio.create_task(self._pass(reader, sink, 0))
        await self._pass(upstream, writer, 1000 if not self.broken else 0)
        there.cancel()
        await asyncio.gather(there, return_exceptions=True)
        sink.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
        """Pass on what comes, and break the connection after `most` bytes, unless that is 0."""
        passed = 0
        while data := await reader.read(4096):
            passed += len(data)
            writer.write(data)
            await writer.drain()
            if most and passed > most:
                self.broken += 1
                writer.transport.abort()
                return
        writer.close()


async def test_the_settings_are_those_that_hold_anyway() -> None:
    [text] = blocks("yaml")
    settings = load(text, {})
    assert (settings.streams, settings.resume) == (Config().streams, Config().resume)
