"""The gateway of the soak, what is behind it, and what happens to it: reloads, good ones and bad ones."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.benchmarks import prompt, servers
from tests.benchmarks.processes import free_port, running
from tests.benchmarks.servers import Upstream
from tests.benchmarks.soak.calls import ROUTE, Caller
from tests.gateway.process import Gateway, config, gateway

_KEY = "sk-soak-0123456789abcdef0123456789abcdef"
_BAD = 5  # every so many reloads one is refused
_MODELS: dict[str, dict[str, Any]] = {
    "fails": {"errors": [{"status": 503}], "repeat_errors": True},
    "down": {"errors": [{"status": 503}], "repeat_errors": True},
    "flaky": {"reply": prompt.answer(400), "errors": [{"status": 503}, {}, {}], "repeat_errors": True},
    "torn": {"reply": prompt.answer(400), "cut_after": 5, "token_delay": 0.005},
    "stalls": {"reply": prompt.answer(400), "stall_after": 5},
    "silent": {"stall_after": 0},
    "mute": {"stall_after": 0},
    "nonsense": {"reply": prompt.answer(400), "malformed_after": 5},
}


@dataclass
class Scene:
    """All that runs."""

    server: Gateway
    upstream: Upstream
    settings: dict[str, Any]
    reloads: int = 0
    """Configurations that were taken."""
    refused: int = 0
    """Configurations that were no good, and not taken."""

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """Somebody who calls; their connections are closed when the block ends."""
        narrow: list[tuple[str, int]] = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
        async with _stub(self.server.address) as usual, _stub(self.server.address, *narrow) as slow:
            yield Caller(usual, slow)

    async def reload(self) -> None:
        """Give it another configuration: the route's targets change places; or now and then one that is no good."""
        turn = self.reloads + self.refused + 1
        settings = dict(self.settings)
        if turn % _BAD == 0:
            settings["nonsense"] = {}
            self.refused += 1
        else:
            self.reloads += 1
            settings["routes"] = self.settings["routes"] = _routes(self.reloads)
        new = self.server.folder / "parley.new"
        await asyncio.to_thread(new.write_text, yaml.safe_dump(settings))
        new.rename(self.server.folder / "parley.yaml")
        os.kill(self.server.pid, signal.SIGHUP)


def _routes(turn: int) -> dict[str, Any]:
    targets = [{"model": "steady/mock-u400"}, {"model": "steady/mock-u400-d1"}]
    return {ROUTE: {"targets": targets[:: 1 if turn % 2 else -1]}}


@asynccontextmanager
async def _stub(address: str, *options: tuple[str, int]) -> AsyncIterator[_Keyed]:
    """A connection of its own."""
    every = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), *options]
    async with grpc.aio.insecure_channel(address, options=every) as channel:
        yield _Keyed(GatewayServiceStub(channel))


class _Keyed:
    """A stub whose calls show the caller's key."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, method: str) -> Any:
        return functools.partial(getattr(self._stub, method), metadata=(("authorization", f"Bearer {_KEY}"),))


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A gateway, until the block ends. Raises Failed, and AssertionError if the gateway does not end cleanly."""
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(folder))
        collector = stack.enter_context(servers.sink(folder))
        models = folder / "models.yaml"
        models.write_text(json.dumps(_MODELS))
        port = free_port()
        command = [sys.executable, "-m", "tests.mock_server", str(port), str(models)]
        stack.enter_context(running("mock models", command, port, folder / "models.log"))
        environ = {
            "SOAK_KEY": _KEY,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
            "OTEL_METRIC_EXPORT_INTERVAL": "10000",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
        limits = [*servers.LIMITS, {"concurrency": servers.MUCH}]
        settings = config(
            callers={"soak": {"key": "env:SOAK_KEY", "limits": limits}},
            providers={
                "steady": {"kind": "openai-compatible", "base_url": f"http://{upstream.process.address}/v1"},
                "shaky": {"kind": "openai-compatible", "base_url": f"http://127.0.0.1:{port}/v1"},
            },
            routes=_routes(0),
            breaker={"cool": 0.5, "cap": 1, "max_wait": 0.2},  # so that what fails is asked again and again
            timeouts={"first_content": 2, "idle": 2, "total": 120},
            resume={"window": 10},
            reload={"interval": 0},
            log={"level": "info"},
        )
        async with gateway(settings, folder, environ, module="tests.benchmarks.soak.watched") as server:
            yield Scene(server, upstream, settings)
