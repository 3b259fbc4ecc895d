"""What servers answer comes back, as it arrives and unpacked."""

from __future__ import annotations

import asyncio
import base64
import ssl
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
import trustme

from parley_server.core.errors import GatewayError, ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Incoming, Outgoing
from parley_server.transports.http import HttpTransport
from tests.transports.http_exchange import SECRET, fetch, hang_up, ok, post
from tests.upstream import Exchange, Upstream, in_turn, refusing, scripted


class TestAnswers:
    async def test_status_headers_and_body_come_back(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            async with aclosing(await transport.send(post(upstream, b'{"a":1}'), connect_timeout=5)) as incoming:
                assert incoming.status == 200
                assert incoming.headers["x-request-id"] == "req-1"
                assert "content-type" in dict(incoming.headers)
                assert "retry-after" not in incoming.headers
                assert await incoming.read(100) == b'{"ok": true}'
            sent = upstream.requests[0]
            assert (sent.method, sent.path, sent.json) == ("POST", "/v1/chat", {"a": 1})
            assert sent.headers["authorization"] == f"Bearer {SECRET}"
            assert sent.headers["content-type"] == "application/json"
            assert sent.headers["content-length"] == "7"
            assert sent.headers["host"] == f"127.0.0.1:{upstream.port}"
            assert sent.headers["accept-encoding"] == "identity"
            assert sent.headers["user-agent"] == "parley"

    async def test_the_caller_may_name_itself(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            await fetch(transport, Outgoing("GET", upstream.base_url + "/m?x=1&y=%20", {"user-agent": "other/1"}, b""))
            sent = upstream.requests[0]
            assert (sent.method, sent.path, sent.body) == ("GET", "/m?x=1&y=%20", b"")
            assert sent.headers["user-agent"] == "other/1"
            assert "content-length" not in sent.headers

    async def test_what_is_encoded_is_sent_as_it_is(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            path = "/model/arn%3Aaws%3Abedrock%2Fx%3A0/converse?next=a%2Fb%3D"  # signatures cover just these letters
            await fetch(transport, Outgoing("POST", upstream.base_url + path, {}, b"{}"))
            assert upstream.requests[0].path == path

    async def test_error_statuses_are_answers_too(self, transport: HttpTransport) -> None:
        async def busy(exchange: Exchange) -> None:
            await exchange.answer(503, {"error": "busy"}, {"Retry-After": "7"})

        async with (
            scripted(busy) as upstream,
            aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming,
        ):
            assert (incoming.status, incoming.headers["retry-after"]) == (503, "7")
            assert await incoming.read(100) == b'{"error": "busy"}'

    async def test_blocks_come_as_they_arrive(self, transport: HttpTransport) -> None:
        seen = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.chunk(b"first")
            await seen.wait()
            await exchange.chunk(b"second")
            await exchange.end()

        async with (
            scripted(script) as upstream,
            aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming,
        ):
            blocks = aiter(incoming)
            assert await anext(blocks) == b"first"
            seen.set()
            assert [block async for block in incoming] == [b"second"]  # a second reader goes on where the first stopped

    async def test_an_answer_dripped_byte_by_byte_is_whole(self, transport: HttpTransport) -> None:
        text = "data: überall\n\n".encode() * 20

        async def script(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.drip(text)
            await exchange.end()

        async with scripted(script) as upstream:
            assert await fetch(transport, post(upstream)) == text

    async def test_interim_answers_are_skipped(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
            await ok(exchange)

        async with scripted(script) as upstream:
            assert await fetch(transport, post(upstream)) == b'{"ok": true}'

    async def test_a_body_that_ends_with_the_connection(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"HTTP/1.0 200 OK\r\n\r\nold style")
            await exchange.hang_up()

        async with scripted(script) as upstream:
            assert await fetch(transport, post(upstream)) == b"old style"
            async with aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming:
                assert await upstream.closed_within(1)
                await asyncio.sleep(0.02)  # all is over before the first read
                assert await incoming.read(100) == b"old style"

    async def test_a_large_request_body_goes_out_whole_and_without_a_warning(self, transport: HttpTransport) -> None:
        body = bytes(range(256)) * 4096 * 5  # 5 MiB
        async with scripted(in_turn(ok, hang_up, ok)) as upstream:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await fetch(transport, post(upstream, body))
                await fetch(transport, post(upstream, body))  # and again, after the connection went stale
            assert [request.body == body for request in upstream.requests] == [True, True, True]
            assert {request.headers["content-length"] for request in upstream.requests} == {str(len(body))}
            assert "transfer-encoding" not in upstream.requests[0].headers

    async def test_no_redirect_is_followed(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(307, headers={"location": "/elsewhere"})

        async with (
            scripted(script) as upstream,
            aclosing(await transport.send(post(upstream), connect_timeout=5)) as incoming,
        ):
            assert incoming.status == 307
            assert len(upstream.requests) == 1

    async def test_no_cookie_is_kept(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(200, headers={"set-cookie": "tenant=a; Path=/"})

        async with scripted(script) as upstream:
            await fetch(transport, post(upstream))
            await fetch(transport, post(upstream))
            assert all("cookie" not in request.headers for request in upstream.requests)

    async def test_proxies_of_the_environment_are_ignored(
        self, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with refusing() as nowhere:
            monkeypatch.setenv("http_proxy", nowhere)
            monkeypatch.setenv("HTTP_PROXY", nowhere)
            async with scripted(ok) as upstream:
                assert await fetch(transport, post(upstream)) == b'{"ok": true}'

    async def test_a_configured_proxy_is_used(self, tls: ssl.SSLContext) -> None:
        async with scripted(ok) as proxy:
            transport = HttpTransport(tls=tls, proxy=proxy.base_url)
            assert await fetch(transport, post("http://provider.invalid")) == b'{"ok": true}'
            assert proxy.requests[0].path == "http://provider.invalid/v1/chat"
            await transport.aclose()

    async def test_a_proxy_that_wants_to_know_who_asks(self, tls: ssl.SSLContext) -> None:
        async with scripted(ok) as proxy:
            transport = HttpTransport(tls=tls, proxy=proxy.base_url.replace("//", "//user:password@"))
            for _ in range(2):  # on a connection that is kept, too
                assert await fetch(transport, post("http://provider.invalid")) == b'{"ok": true}'
            basic = base64.b64encode(b"user:password").decode()
            assert [sent.headers["proxy-authorization"] for sent in proxy.requests] == [f"Basic {basic}"] * 2
            assert all(sent.headers["authorization"] == f"Bearer {SECRET}" for sent in proxy.requests)
            assert len(proxy.connections) == 1
            await transport.aclose()

    async def test_through_a_proxy_tls_reaches_the_provider(self, authority: trustme.CA) -> None:
        client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.configure_trust(client)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        tunnels: list[bytes] = []
        async with scripted(ok, tls=server) as upstream, _tunnelling(tunnels) as proxy:
            transport = HttpTransport(tls=client, proxy=proxy)
            base_url = upstream.base_url.replace("http:", "https:")
            for _ in range(2):
                assert await fetch(transport, post(base_url)) == b'{"ok": true}'
            assert [sent.path for sent in upstream.requests] == ["/v1/chat"] * 2
            assert tunnels == [f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1".encode()]
            await transport.aclose()


class TestHeaders:
    async def test_of_a_url_with_a_name_and_a_password(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            url = upstream.base_url.replace("//", "//user:p%40ss@") + "/models"
            await fetch(transport, Outgoing("GET", url, {}, b""))
            await fetch(transport, Outgoing("GET", url, {"authorization": f"Bearer {SECRET}"}, b""))
            basic = base64.b64encode(b"user:p@ss").decode()
            sent = [request.headers["authorization"] for request in upstream.requests]
            assert sent == [f"Basic {basic}", f"Bearer {SECRET}"]

    @pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0b"])
    async def test_one_that_would_be_two_is_not_sent(self, transport: HttpTransport, value: str) -> None:
        async with scripted(ok) as upstream:
            with pytest.raises(Unavailable) as failed:
                await fetch(transport, Outgoing("POST", upstream.base_url, {"x-name": value}, b"{}"))
            assert "line break" in failed.value.message
            assert not failed.value.retryable
            assert not upstream.requests

    async def test_a_post_without_a_body_says_so(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            await fetch(transport, post(upstream, b""))
            assert upstream.requests[0].headers["content-length"] == "0"

    async def test_text_beyond_ascii_goes_out_as_utf_8(self, transport: HttpTransport) -> None:
        async with scripted(ok) as upstream:
            await fetch(transport, Outgoing("POST", upstream.base_url, {"x-name": "Zoë"}, b"{}"))
            assert upstream.requests[0].headers["x-name"].encode("latin-1") == "Zoë".encode()


@asynccontextmanager
async def _tunnelling(tunnels: list[bytes]) -> AsyncIterator[str]:
    """A proxy that gives tunnels, and notes what for."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first = head.splitlines()[0]
        tunnels.append(first)
        host, _, port = first.split()[1].decode().rpartition(":")
        there, away = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, away), pump(there, writer), return_exceptions=True)
        away.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class TestCompressedAnswers:
    """Nobody is asked to compress, but some do."""

    @staticmethod
    def gzip(*blocks: bytes) -> list[bytes]:
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        packed = [packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH) for block in blocks]
        return [*packed, packer.flush()]

    async def opened(self, transport: HttpTransport, upstream: Upstream) -> Incoming:
        return await transport.send(post(upstream), connect_timeout=5)

    @staticmethod
    def sending(encoding: str, *chunks: bytes) -> Callable[[Exchange], Awaitable[None]]:
        async def script(exchange: Exchange) -> None:
            await exchange.head(200, {"content-encoding": encoding})
            for chunk in chunks:
                await exchange.chunk(chunk)
            await exchange.end()

        return script

    async def test_gzip_and_deflate(self, transport: HttpTransport) -> None:
        async with scripted(self.sending("gzip", *self.gzip(b"one ", b"two"))) as upstream:
            assert await fetch(transport, post(upstream)) == b"one two"
        async with scripted(self.sending("deflate", zlib.compress(b"packed"))) as upstream:
            assert await fetch(transport, post(upstream)) == b"packed"

    async def test_flushed_events_come_as_they_arrive(self, transport: HttpTransport) -> None:
        seen = asyncio.Event()
        first, second, end = self.gzip(b"data: 1\n\n", b"data: 2\n\n")

        async def script(exchange: Exchange) -> None:
            await exchange.head(200, {"content-encoding": "GZIP"})
            await exchange.chunk(first)
            await seen.wait()
            await exchange.chunk(second + end)
            await exchange.end()

        async with scripted(script) as upstream, aclosing(await self.opened(transport, upstream)) as incoming:
            assert await anext(aiter(incoming)) == b"data: 1\n\n"
            seen.set()
            assert await incoming.read(100) == b"data: 2\n\n"

    async def test_a_bomb_stays_small(self, transport: HttpTransport) -> None:
        bomb = self.gzip(bytes(50_000_000))
        async with (
            scripted(self.sending("gzip", *bomb)) as upstream,
            aclosing(await self.opened(transport, upstream)) as incoming,
        ):
            assert max([len(block) async for block in incoming]) <= 1 << 16

    @pytest.mark.parametrize(
        ("encoding", "chunk", "kind"),
        [
            ("gzip", b"this is no gzip", ProtocolError),
            ("br", b"\x0b\x02\x80hello\x03", ProtocolError),
            ("gzip", b"".join(gzip.__func__(b"cut"))[:-4], StreamInterrupted),  # type: ignore[attr-defined]
        ],
        ids=["not_gzip", "unknown_encoding", "cut"],
    )
    async def test_what_cannot_be_unpacked(
        self, transport: HttpTransport, encoding: str, chunk: bytes, kind: type[GatewayError]
    ) -> None:
        async with (
            scripted(self.sending(encoding, chunk)) as upstream,
            aclosing(await self.opened(transport, upstream)) as incoming,
        ):
            with pytest.raises(GatewayError) as failed:
                await incoming.read(1000)
            assert type(failed.value) is kind
