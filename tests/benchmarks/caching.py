"""What an answer from the cache costs, beside a constant reply: from memory, from a full memory, from Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.benchmarks import servers
from tests.benchmarks.processes import Failed, Process
from tests.benchmarks.servers import Upstream
from tests.stores.servers import VALKEY, Server

ENTRIES = 100_000
_AT_A_TIME = 2000
_MEMORY = 256 * 1024 * 1024


@contextmanager
def gateways(folder: Path, mock: Upstream, collector: Process) -> Iterator[dict[str, Process]]:
    """Gateways that cache everything: `memory`, `full` with a hundred thousand answers beside, `redis` with none in
    its own memory.
    """
    providers: dict[str, Any] = {**servers.openai(mock), "mock": {}}
    cached = {"mode": "read_write", "max_temperature": 2, "memory_bytes": _MEMORY}
    redis = Server(VALKEY).start()
    try:
        with (
            servers.gateway(folder, providers, collector, sections={"cache": cached}) as memory,
            servers.gateway(folder, providers, collector, sections={"cache": cached}) as full,
            servers.gateway(
                folder,
                providers,
                collector,
                sections={"cache": {**cached, "memory_bytes": 0}, "redis": {"url": redis.url}},
            ) as shared,
        ):
            _embed(full, v1.ResponseCacheOptions.MODE_READ_WRITE)
            _embed(memory, v1.ResponseCacheOptions.MODE_BYPASS)  # the same calls, which leave nothing behind
            yield {"memory": memory, "full": full, "redis": shared}
    finally:
        redis.close()


def _embed(gateway: Process, mode: v1.ResponseCacheOptions.Mode.ValueType) -> None:
    """Have it embed as many texts as there shall be answers."""
    with grpc.insecure_channel(gateway.address) as channel:
        stub = GatewayServiceStub(channel)
        for start in range(0, ENTRIES, _AT_A_TIME):
            texts = [v1.EmbedInput(text=f"text {number}") for number in range(start, start + _AT_A_TIME)]
            cache = v1.ResponseCacheOptions(mode=mode)
            request = v1.EmbedRequest(model="mock/embed", inputs=texts, dimensions=8, response_cache=cache)
            if stub.Embed(request, timeout=60).cache.status == v1.CacheInfo.STATUS_HIT:
                raise Failed("an embedding was in the cache before it was asked for")
