"""HTTP/1.1 on the connections of aiohttp's pool, written and read without aiohttp's client.

The pool is what is hard to make (names, addresses tried side by side, TLS, proxies, connections kept), and so is the
parser of answers. The client around them works out for each request what a provider's URL settles once and for all, at
twice the price of the exchange itself: see decisions/0038. Only this file and `http.py` know aiohttp and httpx.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter

from parley_server.transports.base import Outgoing

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What becomes of connections that break, and of peers that do not speak HTTP."""

_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)
_LARGE_BODY = 1 << 20  # bytes; larger ones are handed over in slices, so that the event loop is not held for one
_SLICE = 1 << 18
_SAID_TO_ALL = {
    "accept": "*/*",
    "accept-encoding": "identity",  # compression holds events back until a block is full, and costs more than it saves
    "user-agent": "parley",
}
_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "DELETE"))


class BadHeader(ValueError):
    """A header would have been two."""


class HungUp(Exception):
    """A connection that was kept broke before the head of an answer came: it may have been closed long before."""


class Place:
    """Where the requests to one URL go. Made once, in the event loop: parsing costs more than an exchange."""

    __slots__ = ("asked", "headers", "host", "target", "where")

    def __init__(self, url: httpx.URL, text: str, proxy: httpx.Proxy | None) -> None:
        self.host = url.host
        self.where = url.host if url.port is None else f"{url.host}:{url.port}"
        """For messages: the rest of a URL may be nobody's business."""
        # aiohttp would decode what it may of a path, and a signature covers the path.
        address = yarl.URL(text, encoded="%" in text and text.isascii()).with_user(None).with_fragment(None)
        self.headers = {"host": address.host_port_subcomponent or "", **_SAID_TO_ALL}
        if url.username or url.password:
            self.headers["authorization"] = aiohttp.encode_basic_auth(url.username, url.password)
        self.target = address.raw_path_qs
        by_proxy: dict[str, Any] = {}
        if proxy is not None:
            by_proxy["proxy"] = yarl.URL(str(proxy.url))
            told = dict(proxy.headers)
            if proxy.auth is not None:
                told["proxy-authorization"] = aiohttp.encode_basic_auth(*proxy.auth)
            if url.scheme == "http":  # it reads all our requests
                self.headers.update(told)
                self.target = str(address)
            else:  # it reads that for a tunnel; aiohttp adds the host, and tells connections apart by these
                by_proxy["proxy_headers"] = {**told, "Host": self.headers["host"]}
        self.asked = aiohttp.ClientRequest("GET", address, loop=asyncio.get_running_loop(), **by_proxy)
        """What the pool knows its connections by. It is never sent."""

    def head(self, request: Outgoing) -> bytes:
        """What goes ahead of the body. Raises BadHeader."""
        lines = {**self.headers, **request.headers}
        if (request.body or request.method not in _WITHOUT_BODY) and "content-length" not in lines:
            lines["content-length"] = str(len(request.body))
        text = "".join([f"{name}: {value}\r\n" for name, value in lines.items()])
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise BadHeader
        return f"{request.method} {self.target} HTTP/1.1\r\n{text}\r\n".encode()


class _Protocol(ResponseHandler):
    """aiohttp's end of a connection, mended in two places.

    It resumes reading, and with it parsing, after every block that is read, paused or not: a twentieth of what an event
    of a stream costs. And it leaves the reader of a body waiting for ever when the framing of the body proves broken.
    """

    has_answered = False

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        content = self._payload
        super().connection_lost(exc)
        if content is not None:
            _break_off(content)


class _Pool(aiohttp.TCPConnector):
    """aiohttp's pool, of connections with our protocol."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        make = functools.partial(_Protocol, loop=asyncio.get_running_loop())
        self._factory = make  # type: ignore[assignment]  # of the class above


class Answer:
    """The head of an answer, and the connection that its body arrives on. Let go of it when done with, read or not."""

    __slots__ = ("_connection", "_upload", "content", "headers", "status")

    def __init__(
        self,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        connection: aiohttp.connector.Connection,
        upload: asyncio.Task[None] | None,
    ) -> None:
        self.status = message.code
        self.headers: Mapping[str, str] = _plain(message)
        self.content = content
        self._connection = connection
        self._upload = upload

    def let_go(self) -> None:
        """Give the connection back if the body has arrived whole, cut it otherwise."""
        if self.content.is_eof() and (self._upload is None or self._upload.done()):
            self._connection.release()
        else:
            _cut(self._connection, self._upload)
            _break_off(self.content)  # somebody may be reading


class Connections:
    """A pool without a limit to its number. `keepalive`: seconds that an idle connection is kept."""

    def __init__(self, tls: ssl.SSLContext, keepalive: float) -> None:
        self._tls = tls
        self._keepalive = keepalive
        self._pool: aiohttp.TCPConnector | None = None

    async def exchange(self, place: Place, request: Outgoing, connect_timeout: float) -> Answer:
        """Send a request; the answer, once its head is here.

        Raises TimeoutError if there is no connection in time, HungUp or one of BROKEN if it breaks, BadHeader.
        """
        pool = self._pool
        if pool is None:
            pool = self._pool = _Pool(
                limit=0,  # admission is the pipeline's business; a limit here would queue in silence
                keepalive_timeout=self._keepalive,
                ssl=self._tls,
                socket_factory=_socket,
            )
        connection = await pool.connect(place.asked, [], _within(connect_timeout))
        upload: asyncio.Task[None] | None = None
        protocol = connection.protocol
        is_kept = isinstance(protocol, _Protocol) and protocol.has_answered
        try:
            if not isinstance(protocol, _Protocol) or protocol.transport is None:
                raise aiohttp.ClientConnectionResetError("lost before it was used")
            is_head = request.method == "HEAD"
            protocol.set_response_params(skip_payload=is_head, read_until_eof=True, auto_decompress=False)
            head, body = place.head(request), request.body
            if len(body) > _LARGE_BODY:
                protocol.transport.write(head)
                upload = asyncio.create_task(_hand_over(StreamWriter(protocol, asyncio.get_running_loop()), body))
            else:
                protocol.transport.write(head + body)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, content = await protocol.read()
        except BaseException as error:
            _cut(connection, upload)
            if is_kept and isinstance(error, _LOST):
                raise HungUp from error
            raise
        protocol.has_answered = True
        return Answer(message, content, connection, upload)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()


@functools.lru_cache(16)
def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=seconds)  # bounds DNS, connecting and TLS together


def _plain(message: RawResponseMessage) -> dict[str, str]:
    """Headers by their names in lower case, as everybody asks for them."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    if len(headers) == len(message.raw_headers) and "".join(headers.values()).isascii():
        return headers
    headers.clear()  # some come twice, or are in an encoding that nobody knows
    for raw_name, raw_value in message.raw_headers:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _hand_over(writer: StreamWriter, body: bytes) -> None:
    whole = memoryview(body)
    try:
        for start in range(0, len(body), _SLICE):
            await writer.write(whole[start : start + _SLICE])
            await writer.drain()
    except BROKEN:  # who waits for the answer learns of it too
        if writer.transport is not None:
            writer.transport.abort()


def _break_off(content: aiohttp.StreamReader) -> None:
    """Tell whoever reads a body that no more of it comes."""
    if not content.is_eof() and content.exception() is None:
        content.set_exception(aiohttp.ClientPayloadError("connection lost"))


def _cut(connection: aiohttp.connector.Connection, upload: asyncio.Task[None] | None) -> None:
    """Hang up at once: unsent bytes, and the end of TLS, would be waited for."""
    if upload is not None:
        upload.cancel()
    transport = connection.transport
    connection.close()
    if transport is not None:
        transport.abort()


def _socket(address: Any) -> socket.socket:
    """A socket that notices within minutes that its peer is gone: a model may think for long, in silence."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
        if (number := getattr(socket, option, None)) is not None:  # not every system has all three
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    return made
