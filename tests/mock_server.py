"""The mock provider behind a real socket: the same scripts, played by aiohttp on 127.0.0.1.

    async with mock_server({"slow": MockModel(token_delay=0.1)}) as server:
        ...  # server.base_url is http://127.0.0.1:PORT/v1

By hand: `python -m tests.mock_server PORT [MODELS.yaml]`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web

from parley_server.transports.base import Outgoing
from parley_server.transports.mock import Captured, MockModel, MockServer
from parley_server.transports.mock.capture import Recent
from parley_server.transports.mock.script import Cut, Head, Script, Sleep, Stall


@dataclass
class Running:
    """A server that listens. `open` counts the requests being answered, `requests` are the latest."""

    base_url: str = ""
    open: int = 0
    requests: Recent = field(default_factory=lambda: Recent(100))


@asynccontextmanager
async def mock_server(models: Mapping[str, MockModel], *, port: int = 0) -> AsyncIterator[Running]:
    """Serve `models`, and `echo`, `embed` and `rerank`, until the block ends; port 0 takes any free one."""
    running, server = Running(), MockServer(models)

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        running.requests.add(Captured.of(Outgoing(request.method, str(request.url), headers, body), time.time()))
        running.open += 1
        try:
            return await _play(server.script(request.method, request.path, body), request)
        finally:
            running.open -= 1

    # A handler is cancelled when its client goes away: only so does a stalled answer end.
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.01)  # type: ignore[arg-type]
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        running.base_url = f"{site.name}/v1" if port else f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield running
    finally:
        await runner.cleanup()


async def _play(script: Script, request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    for step in script:
        match step:
            case bytes():
                await response.write(step)
            case Head(status, headers):
                response = web.StreamResponse(status=status, headers=headers)
                await response.prepare(request)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Stall():
                await asyncio.get_running_loop().create_future()
            case Cut():
                assert request.transport is not None
                request.transport.abort()
    return response


async def _main(port: int, models: Mapping[str, MockModel]) -> None:
    async with mock_server(models, port=port) as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


def _models(path: str) -> dict[str, MockModel]:
    return {
        name: MockModel.model_validate(model or {}) for name, model in yaml.safe_load(Path(path).read_text()).items()
    }


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), _models(sys.argv[2]) if len(sys.argv) > 2 else {}))
