"""The scripted upstream itself, where tests rely on what it counts."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from tests.upstream import Exchange, scripted


async def test_connections_accepted_at_the_same_time_are_told_apart() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200)

    async with scripted(script) as upstream:
        with ExitStack() as stack:
            for _ in range(20):  # without a turn of the loop in between
                client = stack.enter_context(socket.create_connection(("127.0.0.1", upstream.port)))
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert await upstream.requested(20)
            assert {request.connection for request in upstream.requests} == set(range(20))
        assert await upstream.closed_within(5)
