"""However much is sent and however often: memory stays small, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import aclosing

from parley_server.transports.http import HttpTransport
from tests.transports.http_exchange import fetch, post
from tests.upstream import Exchange, scripted


class TestMemory:
    async def test_a_slow_reader_slows_the_upstream_down(self, transport: HttpTransport) -> None:
        size, block = 50_000_000, bytes(100_000)
        sent = 0

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.head(length=size)
            while sent < size:
                await exchange.raw(block)
                sent += len(block)

        async with scripted(script) as upstream:
            tracemalloc.start()
            try:
                incoming = await transport.send(post(upstream), connect_timeout=5)
                blocks = aiter(incoming)
                received = len(await anext(blocks))
                await asyncio.sleep(0.1)
                assert sent < 20_000_000, "no back-pressure: what is not read waits in the kernel's buffers, bounded"
                async for data in blocks:
                    received += len(data)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            await incoming.aclose()
            assert received == size
            assert peak < 4_000_000

    async def test_request_after_request_leaves_nothing_behind(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream(b"data: 1\n\n", b"data: [DONE]\n\n")

        async with scripted(script) as upstream:
            for _ in range(50):
                await fetch(transport, post(upstream))
            upstream.requests.clear()
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(1000):
                await fetch(transport, post(upstream))
            assert len(upstream.requests) == 1000
            upstream.requests.clear()
            gc.collect()
            assert len(gc.get_objects()) - before < 300
            assert upstream.open_connections == len(upstream.connections) == 1

    async def test_cancelled_calls_leave_nothing_behind(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"data: 1\n\n")
            await exchange.stall()

        async def call() -> None:
            async with aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming:
                async for _ in incoming:
                    pass

        async def round_of(calls: int) -> int:
            tasks = [asyncio.create_task(call()) for _ in range(calls)]
            await upstream.requested(calls)
            await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert transport.open == 0
            assert await upstream.closed_within(1)
            upstream.requests.clear()
            upstream.connections.clear()
            del tasks, task
            gc.collect()
            return len(gc.get_objects())

        async with scripted(script) as upstream:
            before = [await round_of(50) for _ in range(2)][-1]
            assert [await round_of(50) for _ in range(6)][-1] - before < 300
