"""A provider whose behaviour is a script: a small HTTP/1.1 server on a raw socket that can also misbehave.

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(b"data: 1\\n\\n")
        await exchange.stall()                      # until the other side hangs up

    async with scripted(script) as upstream:
        … call upstream.base_url …
        assert upstream.requests[0].json["model"] == "m"
        assert await upstream.closed_within(0.1)    # every connection was closed by the other side

It speaks just enough HTTP for clients that behave, and keeps count of what they do: requests with time, head and body,
connections with the times of their beginning and end. A script that raises fails the test when the block ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Script = Callable[["Exchange"], Awaitable[None]]
Reads = Literal["all", "head", "nothing"]

_PATIENCE = 30.0  # seconds that a stalled script waits for the other side to hang up, before the test fails
_NO_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in, whole. `at` is on `time.monotonic`; header names are in lower case."""

    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    body: bytes
    connection: int
    """Index into `Upstream.connections`."""
    at: float

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True)
class ConnectionLog:
    """One accepted connection; times on `time.monotonic`."""

    opened: float
    closed: float | None = None
    requests: int = 0
    received: int = 0
    """Bytes of all requests so far, heads included."""


@dataclass(slots=True)
class Upstream:
    """What tests see of the server."""

    base_url: str
    port: int
    requests: list[Request] = field(default_factory=list)
    """Those that arrived whole, in order."""
    connections: list[ConnectionLog] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """What scripts raised."""
    _living: set[_Connection] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def open_connections(self) -> int:
        """Accepted and not closed by either side."""
        return sum(1 for connection in self.connections if connection.closed is None)

    async def until(self, condition: Callable[[], bool], within: float = 5.0) -> bool:
        """Wait until `condition`, looked at whenever something happens here; False if it does not come true."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def closed_within(self, seconds: float) -> bool:
        """Whether all connections are closed within that time."""
        return await self.until(lambda: self.open_connections == 0, seconds)

    async def requested(self, count: int = 1, within: float = 5.0) -> bool:
        """Wait until that many requests have arrived whole."""
        return await self.until(lambda: len(self.requests) >= count, within)

    def hear(self) -> None:
        """Read on where reading had stopped (`reads` other than "all"): only so is a hang-up noticed."""
        for connection in self._living:
            connection.transport.resume_reading()

    def happened(self) -> None:
        """Something changed: let those in `until` look again."""
        self._changed.set()


class Exchange:
    """One request and the means to answer it, or not. Writing to a connection that is gone does nothing."""

    def __init__(self, request: Request, connection: _Connection) -> None:
        self.request = request
        self._connection = connection
        self._chunked = False

    async def answer(
        self, status: int = 200, body: bytes | str | Mapping[str, Any] = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer with a content-length; a mapping goes out as JSON."""
        kind: dict[str, str] = {}
        if isinstance(body, Mapping):
            kind, body = {"content-type": "application/json"}, json.dumps(body)
        content = body.encode() if isinstance(body, str) else body
        length = {} if status in _NO_BODY else {"content-length": str(len(content))}
        await self.raw(self._head(status, {**kind, **length, **(headers or {})}) + content)

    async def head(
        self, status: int = 200, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """The head of an answer that comes in chunks, or in `length` bytes written with `raw`."""
        self._chunked = length is None
        framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        await self.raw(self._head(status, {**framing, **(headers or {})}))

    async def chunk(self, data: bytes) -> None:
        """A chunk of the body."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The end of a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def stream(self, *chunks: bytes, content_type: str = "text/event-stream", pause: float = 0.0) -> None:
        """A whole chunked answer."""
        await self.head(200, {"content-type": content_type})
        for chunk in chunks:
            await self.chunk(chunk)
            if pause:
                await asyncio.sleep(pause)
        await self.end()

    async def drip(self, data: bytes, *, size: int = 1, pause: float = 0.0) -> None:
        """`data` in chunks of `size` bytes, each in a write of its own."""
        for start in range(0, len(data), size):
            await self.chunk(data[start : start + size])
            await asyncio.sleep(pause)

    async def raw(self, data: bytes) -> None:
        """Bytes as they are. Waits while the other side does not read."""
        await self._connection.write(data)

    async def stall(self, seconds: float = _PATIENCE) -> None:
        """Say nothing until the other side hangs up, or for `seconds` (the default fails the test if it lasts)."""
        try:
            async with asyncio.timeout(seconds):
                await self._connection.gone.wait()
        except TimeoutError:
            if seconds == _PATIENCE:
                raise

    async def hang_up(self) -> None:
        """Close the connection here and now: between answers, a stale one; within a body, a cut."""
        self._connection.transport.close()
        await self._connection.gone.wait()

    async def reset(self) -> None:
        """Close it with RST instead of FIN."""
        connected = self._connection.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()
        await self._connection.gone.wait()

    @property
    def gone(self) -> bool:
        """Whether the connection is closed, by either side."""
        return self._connection.gone.is_set()

    @staticmethod
    def _head(status: int, headers: Mapping[str, str]) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


class _Connection(asyncio.Protocol):
    """Reads requests one after another and runs the script for each."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream, script: Script, reads: Reads) -> None:
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._upstream = upstream
        self._script = script
        self._reads = reads
        self._index = len(upstream.connections)
        self._log = ConnectionLog(opened=time.monotonic())
        self._buffer = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._upstream.connections.append(self._log)
        self._upstream._living.add(self)
        if self._reads == "nothing":
            self.transport.pause_reading()
        self._upstream.happened()

    def data_received(self, data: bytes) -> None:
        self._log.received += len(data)
        self._buffer += data
        if self.task is None or self.task.done():
            self._next()

    def _next(self, _: object = None) -> None:
        if self.gone.is_set() or self._reads == "nothing":
            return
        request = _take_request(self._buffer, self._index, whole=self._reads == "all")
        if request is None:
            return
        if self._reads == "head":
            self.transport.pause_reading()
        self._log.requests += 1
        self._upstream.requests.append(request)
        self._upstream.happened()
        self.task = asyncio.create_task(self._run(Exchange(request, self)))
        self.task.add_done_callback(self._next)

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._script(exchange)
        except Exception as error:
            self._upstream.failures.append(error)
            self.transport.abort()
            return
        if exchange.request.headers.get("connection", "").lower() == "close":
            self.transport.close()

    async def write(self, data: bytes) -> None:
        if not self.gone.is_set():
            self.transport.write(data)
            await self._writable.wait()
        await asyncio.sleep(0)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.closed = time.monotonic()
        self._writable.set()
        self.gone.set()
        self._upstream._living.discard(self)
        self._upstream.happened()


def _take_request(buffer: bytearray, connection: int, *, whole: bool) -> Request | None:
    """The first request of `buffer`, taken out of it; None if it is not there yet. Without `whole` the head will do."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    start, body = end + 4, b""
    if not whole:
        start = len(buffer)
    elif headers.get("transfer-encoding") == "chunked":
        size = -1
        while size:
            line_end = buffer.find(b"\r\n", start)
            if line_end < 0:
                return None
            size = int(buffer[start:line_end], 16)
            start = line_end + 2 + size + 2
            if len(buffer) < start:
                return None
            body += buffer[line_end + 2 : start - 2]
    else:
        length = int(headers.get("content-length", "0"))
        if len(buffer) < start + length:
            return None
        body = bytes(buffer[start : start + length])
        start += length
    del buffer[:start]
    return Request(method, path, headers, body, connection, time.monotonic())


@asynccontextmanager
async def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, reads: Reads = "all", host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """Serve `script` on a free port of `host`.

    `reads`: "all" runs the script when a request is there, "head" as soon as its head is, reading no further until
    `Upstream.hear`; "nothing" accepts connections, reads not a byte and runs no script.
    """
    upstream = Upstream("", 0)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(upstream, script, reads), host, 0, ssl=tls
    )
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.base_url = f"http{'s' if tls else ''}://{host}:{upstream.port}"
    try:
        yield upstream
    finally:
        server.close()
        for connection in list(upstream._living):
            if connection.task is not None:
                connection.task.cancel()
                await asyncio.wait([connection.task])
            connection.transport.abort()
            await connection.gone.wait()
        await server.wait_closed()
    if upstream.failures:
        raise ExceptionGroup("the script of the upstream failed", upstream.failures)


def in_turn(*scripts: Script) -> Script:
    """The first request gets the first script, and so on; the last one serves all that follow."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


def by_path(**scripts: Script) -> Script:
    """A script by the last segment of the path (`completions`, `embed`); 404 for any other."""

    async def script(exchange: Exchange) -> None:
        name = exchange.request.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        if name in scripts:
            await scripts[name](exchange)
        else:
            await exchange.answer(404, {"error": f"no script for {exchange.request.path}"})

    return script


@contextmanager
def refusing() -> Iterator[str]:
    """A base URL where nobody listens, for as long as the block lasts."""
    with socket.socket() as bound:  # bound, not listening: refused, and nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def unreachable() -> Iterator[str]:
    """A base URL where connecting never comes to an end: the queue of the listening socket is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
