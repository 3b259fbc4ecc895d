"""Cancelling a call closes the upstream socket within 100 ms, whatever the call is waiting for.

The clock runs between two ends on one machine: the client cancels, the scripted provider sees its connection closed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import by_model, openai_says
from tests.upstream import Exchange, Script, Upstream, scripted

WITHIN = 0.1  # seconds
PATIENCE = 10.0


def event(content: str) -> bytes:
    return (
        b"data: " + json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": content}}]}).encode() + b"\n\n"
    )


async def silent(exchange: Exchange) -> None:
    """Accepts the request and never answers."""
    await exchange.stall()


async def head_only(exchange: Exchange) -> None:
    """Sends the head of a stream and nothing of its body."""
    await exchange.head(200, {"content-type": "text/event-stream"})
    await exchange.stall()


async def half_a_body(exchange: Exchange) -> None:
    """Sends the first half of a whole answer."""
    await exchange.head(200, {"content-type": "application/json"}, length=1000)
    await exchange.raw(b'{"id": "c", "choices": [')
    await exchange.stall()


async def one_event(exchange: Exchange) -> None:
    """Sends one event of a stream and then nothing."""
    await exchange.head(200, {"content-type": "text/event-stream"})
    await exchange.chunk(event("hello"))
    await exchange.stall()


async def torrent(exchange: Exchange) -> None:
    """Sends events as fast as they are taken."""
    await exchange.head(200, {"content-type": "text/event-stream"})
    for _ in range(100_000):
        if exchange.gone:
            return
        await exchange.chunk(event("x" * 1000))
    raise AssertionError("nobody stopped the torrent")


async def unavailable(exchange: Exchange) -> None:
    """Refuses, so that the gateway backs off."""
    await exchange.answer(503, {"error": {"message": "later", "type": "server_error"}}, {"retry-after": "20"})


async def broken(exchange: Exchange) -> None:
    """Fails."""
    await exchange.answer(500, {"error": {"message": "oops", "type": "server_error"}})


class Scene:
    """A gateway in front of a scripted provider."""

    def __init__(self, server: Gateway, upstream: Upstream) -> None:
        self.server = server
        self.upstream = upstream

    def chat(self, **kwargs: Any) -> Any:
        return self.server.stub.Chat(ask("up/model"), **kwargs)

    def stream(self, **kwargs: Any) -> Any:
        return self.server.stub.StreamChat(stream("up/model"), **kwargs)

    async def closed_after(self, cancel: Any) -> float:
        """Seconds from `cancel()` until no connection is left."""
        start = time.perf_counter()
        cancel()
        assert await self.upstream.closed_within(PATIENCE), "the upstream connection stays open"
        return time.perf_counter() - start


@asynccontextmanager
async def scene(script: Script, tmp_path: Path) -> AsyncIterator[Scene]:
    async def listing_or(exchange: Exchange) -> None:
        if exchange.request.path.endswith("/models"):
            await exchange.answer(200, {"data": []}, {"connection": "close"})
            await exchange.hang_up()
        else:
            await script(exchange)

    async with scripted(listing_or) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        async with gateway(config(providers=providers), tmp_path) as server:
            assert await upstream.until(lambda: bool(upstream.requests) and upstream.open_connections == 0)
            yield Scene(server, upstream)


PHASES = {
    "unary_waiting_for_the_head": (silent, False),
    "unary_reading_the_body": (half_a_body, False),
    "stream_waiting_for_the_head": (silent, True),
    "stream_waiting_for_content": (head_only, True),
    "stream_between_events": (one_event, True),
    "stream_flowing": (torrent, True),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_cancelling_closes_the_upstream(phase: str, tmp_path: Path) -> None:
    script, streaming = PHASES[phase]
    async with scene(script, tmp_path) as there:
        delays = []
        for _ in range(3):
            call = there.stream() if streaming else there.chat()
            waiting = asyncio.ensure_future(anext(aiter(call)) if streaming else call)
            assert await there.upstream.until(lambda: there.upstream.open_connections == 1)
            if script in (one_event, torrent):
                await waiting  # `started`: the call is in the middle of its stream
            else:
                await asyncio.sleep(0.05)  # so that the gateway has sent the request and waits
            delays.append(await there.closed_after(call.cancel))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert min(delays) < WITHIN, delays
        assert sorted(delays)[1] < WITHIN, delays


async def test_a_stream_blocked_by_a_slow_client_is_cancelled_as_well(tmp_path: Path) -> None:
    async with scene(torrent, tmp_path) as there:
        call = there.stream()
        await anext(aiter(call))
        await asyncio.sleep(1.0)  # nobody reads: flow control stops the gateway within a write
        assert await there.closed_after(call.cancel) < WITHIN
    assert not [line for line in there.server.log if line.get("level") == "error"], there.server.log


async def test_the_deadline_closes_the_upstream(tmp_path: Path) -> None:
    async with scene(one_event, tmp_path) as there:
        start = time.perf_counter()
        call = there.stream(timeout=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await there.upstream.closed_within(PATIENCE)
        assert time.perf_counter() - start < 0.5 + 3 * WITHIN


async def test_a_wait_that_outlasts_the_deadline_is_not_begun(tmp_path: Path) -> None:
    async with scene(unavailable, tmp_path) as there:
        start = time.perf_counter()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await there.chat(timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.perf_counter() - start < 4
        asked = [request for request in there.upstream.requests if request.path.endswith("/chat/completions")]
        assert len(asked) == 1


async def test_a_call_that_backs_off_is_cancelled_at_once(tmp_path: Path) -> None:
    async with scene(unavailable, tmp_path) as there:
        call = there.chat()
        waiting = asyncio.ensure_future(call)
        assert await there.upstream.until(lambda: len(there.upstream.requests) == 2)
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert len(there.upstream.requests) == 2
    # the gateway ended at once on SIGTERM: nothing was left waiting for its 20 seconds


async def test_a_killed_client_closes_the_upstream(tmp_path: Path) -> None:
    async with scene(one_event, tmp_path) as there:
        channel = grpc.aio.insecure_channel(there.server.address)
        method = channel.unary_stream(
            "/parley.v1.GatewayService/StreamChat",
            request_serializer=v1.StreamChatRequest.SerializeToString,
            response_deserializer=v1.StreamChatResponse.FromString,
        )
        await anext(aiter(method(stream("up/model"))))
        start = time.perf_counter()
        await channel.close()
        assert await there.upstream.closed_within(PATIENCE)
        assert time.perf_counter() - start < WITHIN


# ---------------------------------------------------------------------------------- waiting for something else than it


@asynccontextmanager
async def several(tmp_path: Path, plays: dict[str, Script], **sections: Any) -> AsyncIterator[tuple[Gateway, Upstream]]:
    """A gateway in front of a provider that does by model what `plays` says."""
    async with scripted(by_model(plays)) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        settings = config(providers=providers, **sections)
        async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
            assert await upstream.until(lambda: bool(upstream.requests) and upstream.open_connections == 0)
            yield server, upstream


async def calls(server: Gateway) -> int:
    """How many the gateway has under way."""
    return int((await inspect(server))["calls"])


async def up_to(server: Gateway, number: int) -> None:
    """Wait until so many calls are under way."""
    start = time.perf_counter()
    while await calls(server) < number:
        assert time.perf_counter() - start < PATIENCE


async def down_to(server: Gateway, number: int = 0) -> float:
    """Seconds until no more calls than that are under way."""
    start = time.perf_counter()
    while await calls(server) > number:
        assert time.perf_counter() - start < PATIENCE
    return time.perf_counter() - start


def asked(upstream: Upstream, model: str) -> int:
    return sum(1 for request in upstream.requests if request.method == "POST" and request.json["model"] == model)


async def settled(server: Gateway) -> dict[str, int]:
    """How many attempts have been settled, by model and reason."""
    return dict((await inspect(server))["settled"])


@pytest.mark.parametrize("how", ["cancel", "deadline", "disconnect"])
async def test_a_call_that_waits_for_a_place_goes_at_once_and_its_turn_goes_to_the_next(
    how: str, tmp_path: Path
) -> None:
    places = {"concurrency": 1}
    async with several(tmp_path, {"slow": one_event}, bulkhead=places) as (server, upstream):
        holder = server.stub.StreamChat(stream("up/slow"))
        await anext(aiter(holder))
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = GatewayServiceStub(channel)
            waiting = stub.Chat(ask("up/slow"), timeout=0.5 if how == "deadline" else None)
            await up_to(server, 2)
            gauges = (await inspect(server))["gauges"]
            expected = {"calls": 2, "open_upstream_streams": 1, "queued": 1, "open_circuits": 0}
            assert {name: gauges[name] for name in expected} == expected
            if how == "cancel":
                waiting.cancel()
            elif how == "disconnect":
                await channel.close()
            else:
                assert await waiting.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await down_to(server, 1) < WITHIN
            await asyncio.gather(waiting, return_exceptions=True)
        holder.cancel()
        assert await upstream.closed_within(WITHIN)
        assert asked(upstream, "slow") == 1, "a call that had gone was sent to the provider"
        await down_to(server)
        assert await settled(server) == {"slow CANCELLED": 1}


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_call_that_waits_for_an_open_circuit_goes_at_once(how: str, tmp_path: Path) -> None:
    breaker = {"failures": 1, "cool": 4}
    async with several(tmp_path, {"ill": broken}, breaker=breaker, retry={"attempts_per_target": 1}) as (server, up):
        with pytest.raises(grpc.aio.AioRpcError):
            await server.stub.Chat(ask("up/ill"))
        waiting = server.stub.Chat(ask("up/ill"), timeout=4.5)
        await up_to(server, 1)
        assert (await inspect(server))["gauges"]["open_circuits"] == 1
        if how == "cancel":
            waiting.cancel()
            assert await down_to(server) < WITHIN
            assert await waiting.code() is grpc.StatusCode.CANCELLED
            assert asked(up, "ill") == 1
        else:
            assert await waiting.code() is grpc.StatusCode.UNAVAILABLE
            assert asked(up, "ill") == 2  # the probe
            early = server.stub.Chat(ask("up/ill"), timeout=2.0)
            start = time.perf_counter()
            assert await early.code() is grpc.StatusCode.UNAVAILABLE  # the wait does not fit: at once
            assert time.perf_counter() - start < 1.0
            assert asked(up, "ill") == 2


async def test_both_sides_of_a_race_are_closed(tmp_path: Path) -> None:
    plays: dict[str, Script] = {"a": silent, "b": head_only}
    async with several(tmp_path, plays, hedging={"enabled": True, "delay": 0.1}) as (server, upstream):
        request = stream("up/a")
        request.request.routing.fallbacks.add(model="up/b")
        call = server.stub.StreamChat(request)
        waiting = asyncio.ensure_future(anext(aiter(call)))
        assert await upstream.until(lambda: upstream.open_connections == 2)
        await asyncio.sleep(0.05)
        start = time.perf_counter()
        call.cancel()
        assert await upstream.closed_within(PATIENCE)
        assert time.perf_counter() - start < WITHIN
        await asyncio.gather(waiting, return_exceptions=True)
        await down_to(server)
        assert await settled(server) == {"a CANCELLED": 1, "b CANCELLED": 1}


async def test_a_backed_off_call_that_goes_is_settled_once_for_each_attempt(tmp_path: Path) -> None:
    async with several(tmp_path, {"m": unavailable}) as (server, upstream):
        call = server.stub.Chat(ask("up/m"))
        waiting = asyncio.ensure_future(call)
        assert await upstream.until(lambda: asked(upstream, "m") == 1)
        await asyncio.sleep(0.1)
        call.cancel()
        assert await down_to(server) < WITHIN
        await asyncio.gather(waiting, return_exceptions=True)
        assert await settled(server) == {"m PROVIDER_UNAVAILABLE": 1}
        assert asked(upstream, "m") == 1


async def test_a_call_that_waits_for_a_limit_to_have_room_goes_at_once(tmp_path: Path) -> None:
    async with scripted(by_model({"m": openai_says("well")})) as upstream:
        limits = {"requests_per_minute": 2, "max_wait": 100}
        limited = {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", "limits": limits}
        settings = config(providers={"up": limited})
        async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
            for _ in range(2):
                await server.stub.Chat(ask("up/m"))
            waiting = server.stub.Chat(ask("up/m"))
            await up_to(server, 1)
            assert (await inspect(server))["gauges"]["queued"] == 1
            late = server.stub.Chat(ask("up/m"), timeout=5)
            start = time.perf_counter()
            assert await late.code() is not grpc.StatusCode.OK  # there will be no room in time: at once
            assert time.perf_counter() - start < 2
            waiting.cancel()
            assert await down_to(server) < WITHIN
            assert (await inspect(server))["gauges"]["queued"] == 0
            assert asked(upstream, "m") == 2
            assert await settled(server) == {"m OK": 2}
