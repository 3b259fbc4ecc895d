"""The HTTP transport against servers that answer, dawdle, break off and hang up, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
import tracemalloc
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
import trustme

from parley_server.core.errors import AttemptTimeout, GatewayError, ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Incoming, Outgoing
from parley_server.transports.http import HttpTransport
from tests.upstream import Exchange, Upstream, in_turn, refusing, scripted, unreachable

SECRET = "sk-very-secret-indeed"


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # loading the authorities takes its time: once for all


@pytest.fixture
async def transport(tls: ssl.SSLContext) -> AsyncIterator[HttpTransport]:
    made = HttpTransport(tls=tls)
    yield made
    assert made.open == 0, "a test left a response open"
    await made.aclose()


def post(upstream: Upstream | str, body: bytes = b"{}", path: str = "/v1/chat", method: str = "POST") -> Outgoing:
    base_url = upstream if isinstance(upstream, str) else upstream.base_url
    headers = {"content-type": "application/json", "authorization": f"Bearer {SECRET}"}
    return Outgoing(method, base_url + path, headers, body)


async def fetch(transport: HttpTransport, request: Outgoing) -> bytes:
    async with aclosing(await transport.send(request, connect_timeout=5)) as incoming:
        return await incoming.read(1 << 20)


async def ok(exchange: Exchange) -> None:
    await exchange.answer(200, {"ok": True}, {"X-Request-ID": "req-1"})


async def hang_up(exchange: Exchange) -> None:
    await exchange.hang_up()


async def reset(exchange: Exchange) -> None:
    await exchange.reset()


async def stall(exchange: Exchange) -> None:
    await exchange.stall()


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
            assert 0.1 <= time.monotonic() - began < 1

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

    async def test_a_reason_phrase_in_latin_1(self, transport: HttpTransport) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"HTTP/1.1 200 d\xe9j\xe0 vu\r\ncontent-length: 2\r\n\r\nok")

        async with scripted(script) as upstream:
            assert type(await self.failing(transport, post(upstream))) is ProtocolError

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

    async def test_a_certificate_nobody_vouches_for(self, transport: HttpTransport, authority: trustme.CA) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        async with scripted(ok, tls=server) as upstream:
            with pytest.raises(Unavailable) as failed:
                await transport.send(post(upstream), connect_timeout=5)
            assert "certificate" in failed.value.message
            assert not failed.value.retryable
            assert not upstream.requests


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


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
