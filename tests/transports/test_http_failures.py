"""Servers that cannot be reached, make no sense or break off: each failure by its right name."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
import trustme

from parley_server.core.errors import AttemptTimeout, GatewayError, ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Outgoing
from parley_server.transports.http import HttpTransport
from tests.transports.http_exchange import SECRET, hang_up, ok, post, reset
from tests.upstream import Exchange, Upstream, refusing, scripted, unreachable


class TestFailures:
    async def failing(self, transport: HttpTransport, request: Outgoing, connect_timeout: float = 5) -> GatewayError:
        with pytest.raises(GatewayError) as failed:
            await transport.send(request, connect_timeout=connect_timeout)
        return failed.value

    async def test_connection_refused(self, transport: HttpTransport) -> None:
        with refusing() as base_url:
            error = await self.failing(transport, post(base_url))
        assert type(error) is Unavailable
        assert error.retryable
        assert "refused" in error.message

    async def test_name_that_does_not_exist(self, transport: HttpTransport) -> None:
        error = await self.failing(transport, post("http://no-such-host.invalid"))
        assert isinstance(error, Unavailable)
        assert "no-such-host.invalid" in error.message

    async def test_connecting_takes_too_long(self, transport: HttpTransport) -> None:
        with unreachable() as base_url:
            began = time.monotonic()
            error = await self.failing(transport, post(base_url), connect_timeout=0.1)
            assert type(error) is AttemptTimeout
            assert 0.09 <= time.monotonic() - began < 1  # timers may ring a little early

    async def test_tls_handshake_takes_too_long(self, transport: HttpTransport) -> None:
        async with scripted(ok, reads="nothing") as upstream:
            request = post(upstream.base_url.replace("http:", "https:"))
            assert type(await self.failing(transport, request, connect_timeout=0.1)) is AttemptTimeout
            upstream.hear()
            assert await upstream.closed_within(0.1)

    async def test_plain_http_where_tls_was_expected(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            raise AssertionError("no request was to come")

        async with scripted(script) as upstream:
            server = await asyncio.start_server(_plain, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            error = await self.failing(transport, post(f"https://127.0.0.1:{port}"))
            assert type(error) is Unavailable
            server.close()
            assert not upstream.requests

    async def test_breaking_off_within_the_head(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-le")
            await exchange.hang_up()

        async with scripted(script) as upstream:
            assert type(await self.failing(transport, post(upstream))) is Unavailable

    @pytest.mark.parametrize(
        "nonsense",
        [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"],
        ids=["another_protocol", "status_is_no_number", "header_of_100_kB"],
    )
    async def test_something_that_is_not_http(self, transport: HttpTransport, nonsense: bytes) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(nonsense)
            await exchange.stall()

        async with scripted(script) as upstream:
            error = await self.failing(transport, post(upstream))
            assert type(error) is ProtocolError
            assert await upstream.closed_within(0.1)

    async def test_a_reason_phrase_in_latin_1_is_nobodys_business(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"HTTP/1.1 200 d\xe9j\xe0 vu\r\ncontent-length: 2\r\n\r\nok")

        async with scripted(script) as upstream:
            response = await transport.send(post(upstream), connect_timeout=5)
            assert await response.read(10) == b"ok"
            await response.aclose()

    @pytest.mark.parametrize("bad", ["ftp://127.0.0.1", "http://", "http://[::1", "127.0.0.1:80"])
    async def test_a_base_url_that_is_none(self, transport: HttpTransport, bad: str) -> None:
        error = await self.failing(transport, post(bad))
        assert type(error) is Unavailable
        assert not error.retryable

    async def test_messages_show_neither_credentials_nor_paths(self, transport: HttpTransport) -> None:
        errors = []
        with refusing() as base_url, unreachable() as nowhere:
            for base, timeout in ((base_url, 5.0), (nowhere, 0.05), ("http://no-such-host.invalid", 5.0)):
                base = base.replace("http://", "http://user:password@")
                request = Outgoing("POST", base + f"/secret-path?key={SECRET}", {"x-api-key": SECRET}, b"{}")
                errors.append(await self.failing(transport, request, timeout))
        for error in errors:
            said = f"{error!r} {error.facts} {error.__cause__!r} {error.__suppress_context__}"
            assert SECRET not in said
            assert "password" not in said
            assert "secret-path" not in said
            assert said.endswith("None True")

    async def test_a_certificate_nobody_vouches_for(self, transport: HttpTransport, authority: trustme.CA) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        async with scripted(ok, tls=server) as upstream:
            with pytest.raises(Unavailable) as failed:
                await transport.send(post(upstream), connect_timeout=5)
            assert "certificate" in failed.value.message
            assert not failed.value.retryable
            assert not upstream.requests


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    writer.close()


class TestBrokenBodies:
    async def interrupted(self, transport: HttpTransport, upstream: Upstream) -> tuple[bytes, GatewayError]:
        got = b""
        async with aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming:
            try:
                async for block in incoming:
                    got += block
            except GatewayError as error:
                return got, error
        raise AssertionError(f"the body came to an end: {got!r}")

    @pytest.mark.parametrize("end", [hang_up, reset])
    async def test_chunked_body_breaks_off(
        self, transport: HttpTransport, end: Callable[[Exchange], Awaitable[None]]
    ) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"half of")
            await asyncio.sleep(0.02)  # or the reset would overtake the data
            await end(exchange)

        async with scripted(script) as upstream:
            got, error = await self.interrupted(transport, upstream)
            assert got == b"half of"
            assert type(error) is StreamInterrupted

    async def test_body_shorter_than_announced(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head(length=100)
            await exchange.raw(b"only this")
            await exchange.hang_up()

        async with scripted(script) as upstream:
            got, error = await self.interrupted(transport, upstream)
            assert got == b"only this"
            assert type(error) is StreamInterrupted

    async def test_chunks_that_are_none(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"good")
            await asyncio.sleep(0.02)
            await exchange.raw(b"zzz\r\nbad\r\n")
            await exchange.stall()

        async with scripted(script) as upstream:
            got, error = await self.interrupted(transport, upstream)
            assert got == b"good"
            assert type(error) is StreamInterrupted
            assert await upstream.closed_within(0.1)

    async def test_more_than_the_limit(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            while not exchange.gone:
                await exchange.chunk(bytes(1000))

        async with scripted(script) as upstream:
            incoming = await transport.send(post(upstream), connect_timeout=5)
            with pytest.raises(ProtocolError):
                await incoming.read(10_000)
            await incoming.aclose()
            assert await upstream.closed_within(0.1)

    async def test_exactly_the_limit(self, transport: HttpTransport) -> None:
        async with (
            scripted(ok) as upstream,
            aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming,
        ):
            assert len(await incoming.read(12)) == 12
