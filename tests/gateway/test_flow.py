"""Slow readers: what they do not take is not read from the provider either, and in the end they are told to leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from tests.gateway.process import Gateway, config, gateway, stream
from tests.gateway.statuses import detail, reason
from tests.gateway.test_leaks import of_process
from tests.gateway.wire import EVENT_STREAM, by_model, openai_chunk, openai_stream, sse
from tests.upstream import Exchange, Upstream, scripted

MEGA = 1024 * 1024
WHOLE = 100 * MEGA
CHUNK = sse(openai_chunk({"content": "x" * 16_000}))
RESUMABLE = v1.StreamOptions(resumable=True)
BUFFERS = 24 * MEGA  # of sockets, HTTP/2 windows and parsers on the way, in five places

pytestmark = pytest.mark.timeout(90)


class Scene:
    """A gateway in front of a provider with much to say. `sent`: the bytes that were taken of what it says."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()
        self.server: Gateway
        self.upstream: Upstream

    async def torrent(self, exchange: Exchange) -> None:
        """Says 100 MB as fast as they are taken."""
        await exchange.head(200, EVENT_STREAM)
        try:
            while self.sent < WHOLE:
                if exchange.gone:
                    return
                await exchange.chunk(CHUNK)
                self.sent += len(CHUNK)
            await exchange.chunk(openai_stream("end"))
            await exchange.end()
        finally:
            self.ended.set()

    def begin(self, options: v1.StreamOptions | None = None) -> Any:
        return self.server.stub.StreamChat(stream("up/torrent", options=options))

    async def at_rest(self) -> int:
        """The bytes that were taken once no more are."""
        before = -1
        while before != self.sent:
            before = self.sent
            await asyncio.sleep(0.3)
        return before


@asynccontextmanager
async def scene(tmp_path: Path, **sections: Any) -> AsyncIterator[Scene]:
    there = Scene()
    async with scripted(by_model({"torrent": there.torrent})) as there.upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{there.upstream.base_url}/v1"}}
        async with gateway(config(providers=providers, **sections), tmp_path) as there.server:
            yield there
            assert not [line for line in there.server.log if line.get("level") in ("error", "critical")]


@pytest.mark.parametrize("options", [None, RESUMABLE], ids=["plain", "resumable"])
async def test_a_slow_reader_slows_the_provider(options: v1.StreamOptions | None, tmp_path: Path) -> None:
    async with scene(tmp_path) as there:
        _, memory = of_process(there.server.pid)
        call = there.begin(options)
        events = aiter(call)
        await anext(events)
        taken = await there.at_rest()
        assert taken < BUFFERS, f"{taken} bytes were taken for a reader who has taken one event"
        read = 0
        while read < 8 * MEGA:
            read += len((await anext(events)).part_delta.text)
        further = await there.at_rest()
        _, grown = of_process(there.server.pid)
        print(f"{taken} bytes taken at first, {further} after {read} were read; memory {memory} kB, then {grown} kB")
        assert further < read + BUFFERS
        assert grown - memory < 40 * 1024
        call.cancel()


@pytest.mark.parametrize("options", [None, RESUMABLE], ids=["plain", "resumable"])
async def test_who_takes_nothing_is_told_to_leave(options: v1.StreamOptions | None, tmp_path: Path) -> None:
    async with scene(tmp_path, streams={"max_stall": 1}) as there:
        call = there.begin(options)
        events = aiter(call)
        response_id = (await anext(events)).started.response_id
        start = time.monotonic()
        if options is None:
            assert await there.upstream.closed_within(5)
        else:
            await asyncio.wait_for(there.ended.wait(), 30)  # nobody holds it up any more
        print(f"free of its reader after {time.monotonic() - start:.2f} s")
        last = 1
        with pytest.raises(grpc.aio.AioRpcError) as told:
            async for event in events:
                last = event.sequence
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(told.value) == "SLOW_CONSUMER"
        failure = detail(told.value, v1.ResponseFailure)
        assert failure.response_id == response_id
        assert last <= failure.last_sequence <= last + 1
        assert failure.resumable == (options is not None)
        assert len(there.server.log) < 30
