"""Ask the HTTP transport as a gateway would, and the plainest scripts for the servers it meets."""

from __future__ import annotations

from contextlib import aclosing

from parley_server.transports.base import Outgoing
from parley_server.transports.http import HttpTransport
from tests.upstream import Exchange, Upstream

SECRET = "sk-very-secret-indeed"


def post(upstream: Upstream | str, body: bytes = b"{}", path: str = "/v1/chat", method: str = "POST") -> Outgoing:
    """A request with a credential, to a server or to whatever is behind a URL."""
    base_url = upstream if isinstance(upstream, str) else upstream.base_url
    headers = {"content-type": "application/json", "authorization": f"Bearer {SECRET}"}
    return Outgoing(method, base_url + path, headers, body)


async def fetch(transport: HttpTransport, request: Outgoing) -> bytes:
    """The body of the answer, read to its end."""
    async with aclosing(await transport.send(request, connect_timeout=5)) as incoming:
        return await incoming.read(1 << 20)


async def ok(exchange: Exchange) -> None:
    """A script: the plainest good answer."""
    await exchange.answer(200, {"ok": True}, {"X-Request-ID": "req-1"})


async def hang_up(exchange: Exchange) -> None:
    """A script: the connection is closed in good form, whatever was left to say."""
    await exchange.hang_up()


async def reset(exchange: Exchange) -> None:
    """A script: the connection is torn down, and what was under way is lost."""
    await exchange.reset()


async def stall(exchange: Exchange) -> None:
    """A script: nothing, until the other side hangs up."""
    await exchange.stall()
