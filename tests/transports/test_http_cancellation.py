"""Calls that end before their answers do: cancelled, closed or answered early."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from contextlib import aclosing
from typing import Any

import pytest
import trustme

from parley_server.core.errors import StreamInterrupted
from parley_server.transports.http import HttpTransport
from tests.transports.http_exchange import fetch, ok, post, stall
from tests.upstream import Exchange, Upstream, in_turn, scripted, unreachable


def descriptors() -> int:
    """How many files and sockets this process has open."""

    def is_open(number: int) -> bool:
        try:
            os.fstat(number)
        except OSError:
            return False
        return True

    return sum(map(is_open, range(512)))


class TestCancellation:
    """Whatever a call is doing when it is cancelled: the upstream sees the connection close well within 100 ms."""

    async def cancelled(self, upstream: Upstream, task: asyncio.Task[Any]) -> None:
        assert not task.done()
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        upstream.hear()
        assert await upstream.closed_within(1)
        for connection in upstream.connections:
            assert connection.closed is not None
            assert connection.closed - began < 0.1

    async def test_while_connecting(self, transport: HttpTransport) -> None:
        with unreachable() as base_url:
            task = asyncio.create_task(transport.send(post(base_url), connect_timeout=5))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 0.1

    async def test_while_shaking_hands(self, transport: HttpTransport) -> None:
        async with scripted(ok, reads="nothing") as upstream:
            request = post(upstream.base_url.replace("http:", "https:"))
            task = asyncio.create_task(transport.send(request, connect_timeout=5))
            assert await upstream.until(lambda: upstream.open_connections == 1)
            await asyncio.sleep(0.01)
            await self.cancelled(upstream, task)

    @pytest.mark.parametrize("size", [900_000, 40_000_000], ids=["in_one_piece", "in_slices"])
    async def test_while_sending_a_body_that_nobody_takes(self, transport: HttpTransport, size: int) -> None:
        async with scripted(ok, reads="nothing") as upstream:
            before = descriptors()
            task = asyncio.create_task(transport.send(post(upstream, bytes(size)), connect_timeout=5))
            assert await upstream.until(lambda: upstream.open_connections == 1)
            await asyncio.sleep(0.05)
            assert descriptors() == before + 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.01)
            assert descriptors() <= before + 1, "our end stays open until the other side takes what it did not want"
            upstream.hear()
            assert await upstream.closed_within(1)

    async def test_while_waiting_for_the_head(self, transport: HttpTransport) -> None:
        async with scripted(stall) as upstream:
            task = asyncio.create_task(transport.send(post(upstream), connect_timeout=5))
            assert await upstream.requested()
            await self.cancelled(upstream, task)

    async def test_while_waiting_on_a_kept_connection(self, transport: HttpTransport) -> None:
        async with scripted(in_turn(ok, stall)) as upstream:
            await fetch(transport, post(upstream))
            task = asyncio.create_task(transport.send(post(upstream), connect_timeout=5))
            assert await upstream.requested(2)
            await self.cancelled(upstream, task)
            assert len(upstream.connections) == 1

    @pytest.mark.parametrize("unary", [True, False], ids=["unary", "stream"])
    async def test_while_reading_the_body(self, transport: HttpTransport, unary: bool) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"one")
            await exchange.stall()

        async def call() -> None:
            async with aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming:
                if unary:
                    await incoming.read(100)
                async for _ in incoming:
                    reading.set()

        reading = asyncio.Event()
        async with scripted(script) as upstream:
            task = asyncio.create_task(call())
            await (upstream.until(lambda: transport.open == 1, 0.05) if unary else reading.wait())
            await self.cancelled(upstream, task)
            assert transport.open == 0

    async def test_while_the_reader_is_busy_elsewhere(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            while not exchange.gone:
                await exchange.chunk(bytes(10_000))

        async def call() -> None:
            async with aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming:
                async for _ in incoming:
                    reading.set()
                    await asyncio.sleep(30)

        reading = asyncio.Event()
        async with scripted(script) as upstream:
            task = asyncio.create_task(call())
            await reading.wait()
            await asyncio.sleep(0.05)  # until the buffers are full and nothing moves
            await self.cancelled(upstream, task)

    async def test_while_closing(self, transport: HttpTransport) -> None:
        async def early(exchange: Exchange) -> None:
            await exchange.head(413)
            await exchange.stall()

        async with scripted(early, reads="head") as upstream:
            incoming = await transport.send(post(upstream, bytes(40_000_000)), connect_timeout=5)
            assert incoming.status == 413
            task = asyncio.create_task(incoming.aclose())
            await asyncio.sleep(0)  # it has begun
            began = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            upstream.hear()
            assert await upstream.closed_within(1)
            assert (upstream.connections[0].closed or 0) - began < 0.1
            assert transport.open == 0

    async def test_an_early_answer_ends_the_upload(self, transport: HttpTransport) -> None:
        async def early(exchange: Exchange) -> None:
            await exchange.answer(413, {"error": "too large"})
            await exchange.stall()

        async with scripted(early, reads="head") as upstream:
            before = descriptors()
            async with aclosing(await transport.send(post(upstream, bytes(40_000_000)), connect_timeout=5)) as incoming:
                assert await incoming.read(100) == b'{"error": "too large"}'
            await asyncio.sleep(0.01)
            assert descriptors() <= before + 1
            upstream.hear()
            assert await upstream.closed_within(1)

    async def test_closing_under_a_reader_ends_the_reading(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.stall()

        async with scripted(script) as upstream:
            incoming = await transport.send(post(upstream), connect_timeout=5)
            reader = asyncio.create_task(incoming.read(100))
            await asyncio.sleep(0.02)
            await incoming.aclose()
            with pytest.raises(StreamInterrupted):
                await reader
            assert await upstream.closed_within(0.1)

    async def test_over_tls(self, authority: trustme.CA) -> None:
        client = ssl.create_default_context()
        authority.configure_trust(client)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        transport = HttpTransport(tls=client)
        async with scripted(in_turn(ok, stall), tls=server) as upstream:
            assert await fetch(transport, post(upstream)) == b'{"ok": true}'
            task = asyncio.create_task(transport.send(post(upstream), connect_timeout=5))
            assert await upstream.requested(2)
            await self.cancelled(upstream, task)
            assert len(upstream.connections) == 1
        await transport.aclose()
