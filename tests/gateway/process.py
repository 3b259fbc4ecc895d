"""The real gateway in a process of its own: started, asked, stopped, and its log read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub

_START = 60.0
_STOP = 20.0
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.enable_retries", 0)]


@dataclass
class Gateway:
    """A gateway that serves. `log` has its log lines so far, as objects."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int
    admin_port: int
    stub: Any
    channel: grpc.aio.Channel
    log: list[dict[str, Any]] = field(default_factory=list)
    killed: bool = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. It need not end cleanly then."""
        self.killed = True
        self.process.kill()

    async def exit_code(self, within: float = _STOP) -> int:
        """How it ended. Fails if it does not end in time."""
        return await asyncio.wait_for(self.process.wait(), within)


def config(**sections: Any) -> dict[str, Any]:
    """A configuration for a test: free ports, JSON logs, quick retries, the mock provider."""
    base: dict[str, Any] = {
        "server": {"address": "127.0.0.1:0"},
        "admin": {"address": "127.0.0.1:0"},
        "providers": {"mock": {}},
        "log": {"format": "json"},
        "retry": {"base": 0.001},
    }
    for name, section in sections.items():
        base[name] = {**base[name], **section} if name in base and name != "providers" else section
    return base


@asynccontextmanager
async def gateway(
    settings: Mapping[str, Any],
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    module: str = "parley_server",
) -> AsyncIterator[Gateway]:
    """Run `parley-server serve` with `settings` until the block ends; it has to end cleanly by itself or on SIGTERM."""
    path = folder / "parley.yaml"
    path.write_text(yaml.safe_dump(dict(settings)))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, "serve", "--config", str(path)),
        env={**_plain_environment(), **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    lines: list[dict[str, Any]] = []
    serving: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_read(process, lines, serving))
    try:
        event = await asyncio.wait_for(serving, _START)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{event['port']}", options=CHANNEL_OPTIONS) as channel:
            running = Gateway(
                process, folder, event["port"], event["admin_port"], GatewayServiceStub(channel), channel, lines
            )
            yield running
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), _STOP) == (-signal.SIGKILL if running.killed else 0), lines[-20:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


def _plain_environment() -> dict[str, str]:
    """The environment without what would configure a gateway or its traces."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OTEL_"))}


async def _read(
    process: asyncio.subprocess.Process, lines: list[dict[str, Any]], serving: asyncio.Future[dict[str, Any]]
) -> None:
    assert process.stderr is not None
    async for raw in process.stderr:
        try:
            line = json.loads(raw)
        except ValueError:
            line = {"event": raw.decode(errors="replace").rstrip()}
        lines.append(line)
        if line.get("event") == "serving" and not serving.done():
            serving.set_result(line)
    if not serving.done():
        with contextlib.suppress(asyncio.InvalidStateError):
            serving.set_exception(RuntimeError(f"the gateway did not start: {lines}"))


def ask(model: str, text: str = "hello", **fields: Any) -> v1.ChatRequest:
    """A request with one user message."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
    return v1.ChatRequest(model=model, messages=[message], **fields)


def stream(
    model: str, text: str = "hello", options: v1.StreamOptions | None = None, **fields: Any
) -> v1.StreamChatRequest:
    """A request for a stream."""
    return v1.StreamChatRequest(request=ask(model, text, **fields), options=options)
