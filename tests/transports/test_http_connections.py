"""Connections are kept, used again, closed with their transport, and replaced once when they went stale."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from parley_server.core.errors import Unavailable
from parley_server.transports.http import HttpTransport
from tests.transports.http_exchange import fetch, hang_up, ok, post, reset, stall
from tests.upstream import Exchange, in_turn, scripted


class TestConnections:
    async def test_one_connection_serves_request_after_request(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            for _ in range(5):
                await fetch(transport, post(upstream))
            assert [connection.requests for connection in upstream.connections] == [5]

    async def test_read_to_its_end_a_late_final_chunk_keeps_the_connection(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"data: [DONE]\n\n")
            await asyncio.sleep(0.03)
            await exchange.end()

        async with scripted(script) as upstream:
            for _ in range(3):
                assert await fetch(transport, post(upstream)) == b"data: [DONE]\n\n"
            assert len(upstream.connections) == 1

    async def test_an_answer_that_is_there_but_unread_keeps_the_connection(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            for _ in range(3):
                incoming = await transport.send(post(upstream), connect_timeout=5)
                await asyncio.sleep(0.02)  # the body arrives meanwhile
                assert incoming.arrived
                await incoming.aclose()
            assert len(upstream.connections) == 1

    async def test_an_answer_left_in_the_middle_closes_the_connection(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"one")
            await exchange.stall()

        async with scripted(script) as upstream:
            incoming = await transport.send(post(upstream), connect_timeout=5)
            assert await anext(aiter(incoming)) == b"one"
            assert not incoming.arrived
            assert transport.open == 1
            await incoming.aclose()
            await incoming.aclose()
            assert transport.open == 0
            assert await upstream.closed_within(0.1)

    async def test_an_answer_never_looked_at_closes_the_connection(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.stall()

        async with scripted(script) as upstream:
            await (await transport.send(post(upstream), connect_timeout=5)).aclose()
            assert await upstream.closed_within(0.1)

    async def test_connection_close_is_honoured(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(200, b"bye", {"connection": "close"})

        async with scripted(script) as upstream:
            for _ in range(2):
                assert await fetch(transport, post(upstream)) == b"bye"
            assert len(upstream.connections) == 2
            assert await upstream.closed_within(0.1)

    async def test_a_hundred_calls_at_once_do_not_queue(self, transport: HttpTransport) -> None:
        async with scripted(stall) as upstream:
            tasks = [asyncio.create_task(transport.send(post(upstream), connect_timeout=5)) for _ in range(150)]
            assert await upstream.requested(150)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert await upstream.closed_within(0.5)

    async def test_idle_connections_close_with_the_transport(self, tls: ssl.SSLContext) -> None:
        async with scripted(ok) as upstream:
            transport = HttpTransport(tls=tls)
            await fetch(transport, post(upstream))
            assert upstream.open_connections == 1
            await transport.aclose()
            await transport.aclose()
            assert await upstream.closed_within(0.1)
            with pytest.raises(Unavailable):
                await transport.send(post(upstream), connect_timeout=5)

    async def test_running_calls_outlive_the_transport(self, tls: ssl.SSLContext) -> None:
        go_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"one ")
            await go_on.wait()
            await exchange.chunk(b"two")
            await exchange.end()

        async with scripted(script) as upstream:
            transport = HttpTransport(tls=tls)
            incoming = await transport.send(post(upstream), connect_timeout=5)
            await transport.aclose()
            go_on.set()
            async with aclosing(incoming):
                assert await incoming.read(100) == b"one two"
            assert await upstream.closed_within(0.1)

    async def test_an_unused_transport_closes(self, tls: ssl.SSLContext) -> None:
        await HttpTransport(tls=tls).aclose()


class TestStaleConnections:
    """The provider closes a kept connection just as it is used again."""

    @pytest.mark.parametrize("end", [hang_up, reset])
    async def test_the_request_is_sent_once_more(
        self, transport: HttpTransport, end: Callable[[Exchange], Awaitable[None]]
    ) -> None:
        async with scripted(in_turn(ok, end, ok)) as upstream:
            for _ in range(2):
                assert await fetch(transport, post(upstream, b'{"n":1}')) == b'{"ok": true}'
            assert [request.body for request in upstream.requests] == [b'{"n":1}'] * 3
            assert len(upstream.connections) == 2

    @pytest.mark.parametrize("end", [hang_up, reset])
    async def test_a_new_connection_that_breaks_is_a_failure(
        self, transport: HttpTransport, end: Callable[[Exchange], Awaitable[None]]
    ) -> None:
        async with scripted(end) as upstream:
            with pytest.raises(Unavailable) as failed:
                await fetch(transport, post(upstream))
            assert type(failed.value) is Unavailable
            assert failed.value.retryable
            assert len(upstream.requests) == 1

    async def test_a_second_breach_is_a_failure(self, transport: HttpTransport) -> None:
        async with scripted(in_turn(ok, hang_up, hang_up, ok)) as upstream:
            await fetch(transport, post(upstream))
            with pytest.raises(Unavailable):
                await fetch(transport, post(upstream))
            assert len(upstream.requests) == 3

    async def test_one_closed_while_idle_is_not_used_at_all(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await ok(exchange)
            await exchange.hang_up()

        async with scripted(script) as upstream:
            for _ in range(3):
                await fetch(transport, post(upstream))
                assert await upstream.closed_within(1)
            assert len(upstream.requests) == 3
