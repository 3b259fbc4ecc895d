"""Who retries, and how often: the gateway, within one cap for the call; clients only where nothing was asked.

The clients here are gRPC's own with retries switched on by a service config, as every other client may have them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.gateway.process import Gateway, ask, config, gateway
from tests.gateway.wire import by_model, openai_fails, openai_says
from tests.upstream import Exchange, Upstream, scripted

CAP = 4
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "parley.v1.GatewayService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"],
            },
        }
    ]
}


@asynccontextmanager
async def retrying_client(server: Gateway) -> AsyncIterator[Any]:
    """A stub whose channel retries by itself."""
    options = [("grpc.enable_retries", 1), ("grpc.service_config", json.dumps(RETRIES))]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        yield GatewayServiceStub(channel)


def asked(upstream: Upstream) -> dict[str, int]:
    """Requests by model."""
    counts: dict[str, int] = {}
    for request in upstream.requests:
        if request.method == "POST":
            model = request.json["model"]
            counts[model] = counts.get(model, 0) + 1
    return counts


def providers(upstream: Upstream) -> dict[str, Any]:
    return {name: {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"} for name in ("one", "two")}


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, grpc.StatusCode.UNAVAILABLE), (429, grpc.StatusCode.RESOURCE_EXHAUSTED), (200, grpc.StatusCode.INTERNAL)],
    ids=["dead", "rate_limited", "nonsense"],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_dead_provider_is_asked_no_more_often_than_the_cap(
    status: int, code: grpc.StatusCode, streaming: bool, tmp_path: Path
) -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.answer(status, b"data: {nonsense\n\n" if status == 200 else b"{}")

    async with scripted(by_model({"a": broken, "b": broken, "c": broken})) as upstream:
        settings = config(
            providers=providers(upstream), retry={"max_attempts": CAP, "base": 0.001}, breaker={"enabled": False}
        )
        async with gateway(settings, tmp_path) as server, retrying_client(server) as stub:
            request = ask("one/a")
            for model in ("one/b", "two/c"):
                request.routing.fallbacks.add(model=model)
            call = stub.StreamChat(v1.StreamChatRequest(request=request)) if streaming else stub.Chat(request)
            assert await call.code() is code
            trailers = dict(await call.trailing_metadata())
            assert trailers["grpc-retry-pushback-ms"] == "-1"
            assert trailers["x-parley-attempts"] == str(CAP)
            await asyncio.sleep(0.2)  # a client that retried would do so within this time
            assert asked(upstream) == {"a": 2, "b": 1, "c": 1}


async def test_a_client_may_come_back_to_a_gateway_that_was_full(tmp_path: Path) -> None:
    holding = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await holding.wait()
        await openai_says("at last")(exchange)

    async with scripted(by_model({"busy": held})) as upstream:
        settings = config(providers=providers(upstream), bulkhead={"concurrency": 1, "queue": 0})
        async with gateway(settings, tmp_path) as server, retrying_client(server) as stub:
            first = asyncio.ensure_future(server.stub.Chat(ask("one/busy")))
            assert await upstream.until(lambda: asked(upstream) == {"busy": 1})
            refused = server.stub.Chat(ask("one/busy"))  # by a client that does not retry
            assert await refused.code() is grpc.StatusCode.UNAVAILABLE
            trailers = dict(await refused.trailing_metadata())
            assert int(trailers["grpc-retry-pushback-ms"]) >= 1000
            assert trailers["x-parley-attempts"] == "0"
            second = stub.Chat(ask("one/busy"))
            await asyncio.sleep(0.3)
            holding.set()
            assert (await second).message.parts[0].text == "at last"
            assert (await first).message.parts[0].text == "at last"
            assert asked(upstream) == {"busy": 2}


async def test_a_client_is_kept_from_a_target_that_is_left_alone(tmp_path: Path) -> None:
    async with scripted(by_model({"ill": openai_fails(500, "oops")})) as upstream:
        settings = config(
            providers=providers(upstream), breaker={"failures": 1, "max_wait": 0}, retry={"attempts_per_target": 3}
        )
        async with gateway(settings, tmp_path) as server, retrying_client(server) as stub:
            for _ in range(3):
                assert await stub.Chat(ask("one/ill")).code() is grpc.StatusCode.UNAVAILABLE
            assert asked(upstream) == {"ill": 1}
