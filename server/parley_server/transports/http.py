"""HTTP/1.1 to the providers, called directly.

A client made for people has much that a gateway must not have: cookies, which would be carried from one tenant to the
next; redirects, which would carry the credential elsewhere; proxies out of the environment. What is sent here is what
the dialect said, and what comes of it is told in the gateway's own errors.
"""

from __future__ import annotations

import os
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from functools import cache

import aiohttp
import httpx
from aiohttp.http import HttpProcessingError

from parley_server.core.errors import AttemptTimeout, GatewayError, ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Outgoing
from parley_server.transports.connections import BROKEN, Answer, BadHeader, Connections, HungUp, Place

_INFLATED_BLOCK = 1 << 16
_MOST_PLACES = 1024


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
        self._proxy = None if proxy is None else httpx.Proxy(proxy)
        self._places: dict[str, Place] = {}
        self._connections = Connections(tls or _usual_tls(), keepalive)

    async def send(self, request: Outgoing, *, connect_timeout: float) -> HttpResponse:
        """The response, once its head has arrived; see `Transport.send`.

        A kept connection that the provider closed just as it was used again is not a failure of the provider, so the
        request is sent once more, at no cost to the attempt budget. Only then: where the connection was new, or the
        second one breaks as well, it is Unavailable.
        """
        if self._closing:
            raise Unavailable("the gateway is closing its connections")
        place = self._place(request.url)
        self._running += 1
        try:
            answer = await self._send(request, place, connect_timeout)
        except BaseException:
            await self._over()
            raise
        self.open += 1
        return HttpResponse(answer, self)

    async def _send(self, request: Outgoing, place: Place, connect_timeout: float) -> Answer:
        for may_resend in (True, False):
            try:
                return await self._connections.exchange(place, request, connect_timeout)
            except BadHeader:
                raise _permanent("a header of the request has a line break in it") from None
            except HungUp as error:
                if not may_resend:
                    raise _failure(error, place, connect_timeout) from None
            except (*BROKEN, UnicodeError) as error:
                raise _failure(error, place, connect_timeout) from None
        raise AssertionError("the second round returns or raises")

    def _place(self, text: str) -> Place:
        """`text` parsed, once: a provider has a handful of URLs."""
        place = self._places.get(text)
        if place is None:
            try:
                url = httpx.URL(text)
                made = Place(url, text, self._proxy)
            except (httpx.InvalidURL, ValueError):
                raise _permanent("the provider's base URL is not a URL") from None
            if url.scheme not in ("http", "https") or not url.host:
                raise _permanent("the provider's base URL is not an http or https URL")
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            place = self._places[text] = made
        return place

    async def _over(self) -> None:
        self._running -= 1
        if self._closing and not self._running:
            await self._connections.aclose()

    async def aclose(self) -> None:
        """Take no more requests, and close all connections as soon as no call uses one."""
        if not self._closing:
            self._closing = True
            if not self._running:
                await self._connections.aclose()


class HttpResponse:
    """A response whose body may still be arriving; see `Incoming`."""

    def __init__(self, answer: Answer, transport: HttpTransport) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self._answer = answer
        self._transport = transport
        self._encoding = self.headers.get("content-encoding", "identity").strip().lower()
        self._blocks: AsyncGenerator[bytes, None] | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The decoded body, block by block. Asking again goes on where the last reader stopped."""
        if self._blocks is None:
            self._blocks = _blocks(self._answer.content, self._encoding)
        return self._blocks

    @property
    def arrived(self) -> bool:
        """Whether the body is here to its end; see `Incoming.arrived`."""
        return self._answer.content.is_eof()

    async def read(self, limit: int) -> bytes:
        """The whole body; see `Incoming.read`."""
        if self._answer.content.is_eof() and self._encoding == "identity":  # most whole answers come with their heads
            whole = self._answer.content.read_nowait()
            if len(whole) > limit:
                raise _too_large(limit)
            return whole
        blocks: list[bytes] = []
        size = 0
        async for block in self:
            size += len(block)
            if size > limit:
                raise _too_large(limit)
            blocks.append(block)
        return b"".join(blocks)

    async def aclose(self) -> None:
        """Give the connection back if the body has arrived whole, cut it otherwise. Safe to call twice.

        What is to be freed is freed before anything is waited for, so that a cancellation leaves nothing behind.
        """
        if self._closed:
            return
        self._closed = True
        self._transport.open -= 1
        self._answer.let_go()
        try:
            if self._blocks is not None:
                with suppress(RuntimeError):  # another task is reading just now: it finds the connection closed
                    await self._blocks.aclose()
        finally:
            await self._transport._over()


@cache
def _usual_tls() -> ssl.SSLContext:
    """One for all: reading a hundred certificates takes ten milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


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
    except BROKEN:
        raise StreamInterrupted("the connection to the provider broke before the end of its answer") from None
    if not inflate.eof:
        raise StreamInterrupted("the provider's compressed answer ended early")


def _failure(error: Exception, place: Place, connect_timeout: float) -> GatewayError:
    """What it means that no head came."""
    where = place.where
    match error:
        case TimeoutError():
            return AttemptTimeout(f"no connection to {where} within {connect_timeout:g} s")
        case aiohttp.ClientConnectorCertificateError():
            return _permanent(f"the certificate of {where} is not trusted")
        case aiohttp.ClientConnectorSSLError():
            return Unavailable(f"{where} does not speak TLS as we do")
        case aiohttp.ClientConnectorDNSError():
            return Unavailable(f"the name {place.host} cannot be resolved")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Unavailable(f"the proxy gives no connection to {where}")
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.errno) if error.errno else "no connection"
            return Unavailable(f"{where} cannot be reached: {why.lower()}")
        case aiohttp.ClientResponseError() | HttpProcessingError() | UnicodeError():
            return ProtocolError(f"{where} answered something that is not HTTP")
        case _:
            return Unavailable(f"{where} closed the connection before it answered")


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(f"the provider's answer is larger than {limit} bytes")


def _permanent(message: str) -> Unavailable:
    error = Unavailable(message)
    error.retryable = False
    return error
