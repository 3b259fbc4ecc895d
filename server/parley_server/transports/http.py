"""HTTP/1.1 to the providers: httpx's types over the aiohttp transport, called directly.

`httpx.AsyncClient` costs as much again as the transport below it (cookie jar, redirects, building the request) and has
nothing a gateway wants: no cookies, which would be carried from one tenant to the next; no redirects, which would carry
the credential elsewhere; no proxies out of the environment. This is the only file that knows httpx and aiohttp.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any

import aiohttp
import httpx
import yarl
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from parley_server.core.errors import AttemptTimeout, GatewayError, ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Outgoing

_DEFAULT_HEADERS = {
    "accept-encoding": "identity",  # compression holds events back until a block is full, and costs more than it saves
    "user-agent": "parley",
}
_LARGE_BODY = 1 << 20  # bytes; larger ones are handed over in slices, so that the event loop is not held for one
_SLICE = 1 << 18
_INFLATED_BLOCK = 1 << 16
_MOST_URLS = 1024
_BROKEN = (httpx.TransportError, aiohttp.ClientError, OSError)

_dialled: ContextVar[list[object]] = ContextVar("addresses to which a socket was opened for this request")


class HttpTransport:
    """Sends requests over a shared pool of kept connections, without a limit to their number.

    `keepalive`: seconds that an idle connection is kept, less than the 60 after which common load balancers drop it.
    `tls` is used for https; certifi's authorities are trusted by default. `proxy` is the URL of an HTTP proxy.
    Made outside the event loop if need be: the pool comes into being with the first request.
    """

    def __init__(self, *, keepalive: float = 50.0, tls: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self.open = 0
        """Responses that have not been closed."""
        self._running = 0  # calls: heads waited for, and open responses
        self._closing = False
        self._keepalive = keepalive
        self._tls = tls or _usual_tls()
        self._urls: dict[str, httpx.URL] = {}
        self._wire = _Wire(
            verify=self._tls, client=self._session, proxy=None if proxy is None else httpx.Proxy(proxy), trust_env=False
        )

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # admission is the pipeline's business; a limit here would queue in silence
            keepalive_timeout=self._keepalive,
            ssl=self._tls,
            socket_factory=_socket,
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), response_class=_Response, trust_env=False
        )

    async def send(self, request: Outgoing, *, connect_timeout: float) -> HttpResponse:
        """The response, once its head has arrived; see `Transport.send`.

        A kept connection that the provider closed just as it was used again is not a failure of the provider, so the
        request is sent once more, at no cost to the attempt budget. Only then: where the connection was new, or the
        second one breaks as well, it is Unavailable.
        """
        if self._closing:
            raise Unavailable("the gateway is closing its connections")
        url = self._url(request.url)
        self._running += 1
        try:
            response = await self._send(request, url, connect_timeout)
        except BaseException:
            await self._over()
            raise
        self.open += 1
        return HttpResponse(response, self)

    async def _send(self, request: Outgoing, url: httpx.URL, connect_timeout: float) -> _Answer:
        for may_resend in (True, False):
            dialled: list[object] = []
            _dialled.set(dialled)
            asked = _Request(request, url, connect_timeout)
            try:
                return await self._wire.handle_async_request(asked)
            except (*_BROKEN, UnicodeError) as error:
                if not (may_resend and not dialled and _hung_up(_cause(error))):
                    raise _failure(_cause(error), url, connect_timeout) from None
        raise AssertionError("the second round returns or raises")

    def _url(self, text: str) -> httpx.URL:
        """`text` parsed, once: a provider has a handful of URLs, and parsing costs more than everything else here."""
        url = self._urls.get(text)
        if url is None:
            try:
                url = httpx.URL(text)
            except httpx.InvalidURL:
                raise _permanent("the provider's base URL is not a URL") from None
            if url.scheme not in ("http", "https") or not url.host:
                raise _permanent("the provider's base URL is not an http or https URL")
            if len(self._urls) >= _MOST_URLS:
                self._urls.clear()
            self._urls[text] = url
        return url

    async def _over(self) -> None:
        self._running -= 1
        if self._closing and not self._running:
            await self._wire.aclose()

    async def aclose(self) -> None:
        """Take no more requests, and close all connections as soon as no call uses one."""
        if not self._closing:
            self._closing = True
            if not self._running:
                await self._wire.aclose()


class HttpResponse:
    """A response whose body may still be arriving; see `Incoming`."""

    def __init__(self, answer: _Answer, transport: HttpTransport) -> None:
        self.status = answer.status_code
        self.headers: Mapping[str, str] = _plain(answer.wire.raw_headers)
        self._wire = answer.wire
        self._transport = transport
        self._blocks = _blocks(answer.wire.content, self.headers.get("content-encoding", "identity").strip().lower())
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The decoded body, block by block. Asking again goes on where the last reader stopped."""
        return self._blocks

    @property
    def arrived(self) -> bool:
        """Whether the body is here to its end; see `Incoming.arrived`."""
        return self._wire.content.is_eof()

    async def read(self, limit: int) -> bytes:
        """The whole body; see `Incoming.read`."""
        blocks: list[bytes] = []
        size = 0
        async for block in self._blocks:
            size += len(block)
            if size > limit:
                raise ProtocolError(f"the provider's answer is larger than {limit} bytes")
            blocks.append(block)
        return b"".join(blocks)

    async def aclose(self) -> None:
        """Give the connection back if the body has arrived whole, cut it otherwise. Safe to call twice.

        Each of the three steps below frees what it frees before it waits for anything, so that a cancellation in
        between leaves nothing behind.
        """
        if self._closed:
            return
        self._closed = True
        self._transport.open -= 1
        try:
            self._wire.release()
            await self._wire.wait_for_close()
        finally:
            try:
                with suppress(RuntimeError):  # another task is reading just now: it finds the connection closed
                    await self._blocks.aclose()
            finally:
                await self._transport._over()


@cache
def _usual_tls() -> ssl.SSLContext:
    """One for all: reading a hundred certificates takes ten milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


def _plain(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their lower-case names: a dictionary answers ten times as fast as `httpx.Headers`."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.lower().decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _blocks(content: aiohttp.StreamReader, encoding: str) -> AsyncGenerator[bytes, None]:
    inflate = None
    if encoding in ("gzip", "x-gzip", "deflate"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # looks at the data to tell gzip from zlib
    elif encoding != "identity":
        raise ProtocolError(f"the provider compresses its answer in a way it was not asked for: {encoding[:40]}")
    try:
        if inflate is None:
            while block := await content.readany():
                yield block
            return
        while block := await content.readany():
            while block:  # in bounded pieces: a small block may hold gigabytes of zeros
                inflated = inflate.decompress(block, _INFLATED_BLOCK)
                if inflated:
                    yield inflated
                block = inflate.unconsumed_tail
    except zlib.error:
        raise ProtocolError("the provider's compressed answer cannot be read") from None
    except _BROKEN:
        raise StreamInterrupted("the connection to the provider broke before the end of its answer") from None
    if not inflate.eof:
        raise StreamInterrupted("the provider's compressed answer ended early")


class _Wire(AiohttpTransport):
    """The transport of httpx-aiohttp, without what it works out for every request and nobody here looks at."""

    async def handle_async_request(self, request: httpx.Request) -> _Answer:
        if not isinstance(request, _Request):
            raise TypeError("only HttpTransport sends through this")
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        wire = await self.client.request(
            request.method,
            request.address,
            headers=request.headers,
            data=request.payload,
            allow_redirects=False,
            auto_decompress=False,
            timeout=request.timeout,
            **self._by_proxy,
        )
        return _Answer(wire)

    @cached_property
    def _by_proxy(self) -> dict[str, Any]:
        if self.proxy is None:
            return {}
        auth = self.proxy.auth
        return {
            "proxy": str(self.proxy.url),
            "proxy_auth": aiohttp.BasicAuth(*auth) if auth else None,
            "proxy_headers": self.proxy.headers,
        }


class _Answer(httpx.Response):
    """A response of which only the status and aiohttp's own `wire` are looked at."""

    def __init__(self, wire: aiohttp.ClientResponse) -> None:
        self.status_code = wire.status
        self.wire = wire


class _Request(httpx.Request):
    """A request as `_Wire` sends it, without what `httpx.Request` would work out."""

    def __init__(self, request: Outgoing, url: httpx.URL, connect_timeout: float) -> None:
        self.method = request.method
        self.url = url
        self.headers = CIMultiDict(_DEFAULT_HEADERS)  # type: ignore[assignment]  # aiohttp's own kind: nothing to convert
        self.headers.update(request.headers)
        self.address = _as_it_is(request.url)
        self.timeout = aiohttp.ClientTimeout(connect=connect_timeout)  # bounds DNS, connecting and TLS together
        self.payload: bytes | _Slices | None = request.body or None
        if len(request.body) > _LARGE_BODY:
            self.headers["content-length"] = str(len(request.body))
            self.payload = _Slices(request.body)


def _as_it_is(url: str) -> str | yarl.URL:
    """`url` so that aiohttp leaves its encoding alone: it would decode what may be, and a signature covers the path."""
    return yarl.URL(url, encoded=True) if "%" in url and url.isascii() else url


class _Slices(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _SLICE):
            yield self._body[start : start + _SLICE]


class _Response(aiohttp.ClientResponse):
    """Hangs up at once, and notices when the other side does.

    aiohttp closes a connection that it does not keep politely: unsent bytes and the end of TLS are waited for. And it
    leaves whoever reads a body waiting for ever when the framing of the body turns out to be broken.
    """

    _socket: Any = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        self._socket = connection.transport
        protocol = connection.protocol
        await super().start(connection)
        lost = None if self.content.is_eof() else protocol.closed
        if lost is not None:
            lost.remove_done_callback(_noted)  # one is enough for all requests of the connection
            lost.add_done_callback(_noted)
            lost.add_done_callback(self._lost)
            self.content.on_eof(lambda: lost.remove_done_callback(self._lost))
        return self

    def _lost(self, _: object) -> None:
        if not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientPayloadError("connection lost"))

    def close(self) -> None:
        super().close()
        self._hang_up()

    def release(self) -> Any:
        done = super().release()
        self._hang_up()
        return done

    def _hang_up(self) -> None:
        if self._socket is not None and self._socket.is_closing():
            self._socket.abort()


def _noted(lost: asyncio.Future[None]) -> None:
    """Look at the exception, so that asyncio does not report it as overlooked."""
    if not lost.cancelled():
        lost.exception()


def _socket(address: Any) -> socket.socket:
    """A socket that notices within minutes that its peer is gone: a model may think for long, in silence."""
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
        if (number := getattr(socket, option, None)) is not None:  # not every system has all three
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    if (dialled := _dialled.get(None)) is not None:
        dialled.append(where)
    return made


def _cause(error: Exception) -> BaseException:
    """What aiohttp said: httpx's names for it are misleading (a refused connection is a `ConnectTimeout`)."""
    return error.__cause__ or error if isinstance(error, httpx.TransportError) else error


def _hung_up(cause: BaseException) -> bool:
    broken = isinstance(cause, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError))
    return broken and not isinstance(cause, aiohttp.ClientConnectorError)


def _failure(cause: BaseException, url: httpx.URL, connect_timeout: float) -> GatewayError:
    """What it means that no head came. Names the host only: the rest of a URL may be nobody's business."""
    where = url.host if url.port is None else f"{url.host}:{url.port}"
    match cause:
        case aiohttp.ServerTimeoutError():
            return AttemptTimeout(f"no connection to {where} within {connect_timeout:g} s")
        case aiohttp.ClientConnectorCertificateError():
            return _permanent(f"the certificate of {where} is not trusted")
        case aiohttp.ClientConnectorSSLError():
            return Unavailable(f"{where} does not speak TLS as we do")
        case aiohttp.ClientConnectorDNSError():
            return Unavailable(f"the name {url.host} cannot be resolved")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Unavailable(f"the proxy gives no connection to {where}")
        case aiohttp.ClientConnectorError():
            why = os.strerror(cause.errno) if cause.errno else "no connection"
            return Unavailable(f"{where} cannot be reached: {why.lower()}")
        case aiohttp.ClientResponseError() | UnicodeError():
            return ProtocolError(f"{where} answered something that is not HTTP")
        case _:
            return Unavailable(f"{where} closed the connection before it answered")


def _permanent(message: str) -> Unavailable:
    error = Unavailable(message)
    error.retryable = False
    return error
