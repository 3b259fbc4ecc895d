"""Plays the scripts of a mock server inside the process, behind the interface that real wires have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

from parley_server.core.errors import ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Outgoing
from parley_server.transports.mock.capture import Captured, Recent
from parley_server.transports.mock.models import MockModel
from parley_server.transports.mock.script import Cut, Head, MockServer, Script, Sleep, Stall

_BLOCK = 16 * 1024  # what arrives at once is read at once, as from a socket

Sleeper = Callable[[float], Coroutine[Any, Any, None]]


class MockTransport:
    """A wire to models that live in this process. `requests` are the latest ones; `open` counts exchanges in flight.

    `capture` is called with every request before it is answered. `sleep` and `clock` (Unix time) are there for tests.
    """

    def __init__(
        self,
        models: Mapping[str, MockModel],
        *,
        sleep: Sleeper = asyncio.sleep,
        clock: Callable[[], float] = time.time,
        capture: Callable[[Captured], None] | None = None,
        remember: int = 100,
    ) -> None:
        self.requests = Recent(remember)
        self.open = 0
        self._server = MockServer(models)
        self._sleep = sleep
        self._clock = clock
        self._capture = capture

    async def send(self, request: Outgoing, *, connect_timeout: float) -> MockIncoming:
        """The response, once the script comes to its head. Nothing is connected, so `connect_timeout` never passes."""
        captured = Captured.of(request, self._clock())
        self.requests.add(captured)
        if self._capture is not None:
            self._capture(captured)
        script = self._server.script(request.method, urlsplit(request.url).path, request.body)
        self.open += 1
        try:
            head = await self._head(script)
        except BaseException:
            self.open -= 1
            raise
        return MockIncoming(head, script, self._sleep, self._closed)

    async def aclose(self) -> None:
        """Nothing is idle: every exchange ends with its call."""

    async def _head(self, script: Script) -> Head:
        for step in script:
            match step:
                case Head():
                    return step
                case Sleep(seconds):
                    await self._sleep(seconds)
                case Stall():
                    await asyncio.get_running_loop().create_future()
                case _:
                    break
        raise Unavailable("the connection broke before the answer came")

    def _closed(self) -> None:
        self.open -= 1


class MockIncoming:
    """An answer being played."""

    def __init__(self, head: Head, script: Script, sleep: Sleeper, on_close: Callable[[], None]) -> None:
        self.status = head.status
        self.headers = head.headers
        self._script = script
        self._sleep = sleep
        self._on_close = on_close
        self._closed = False
        self._ended = False
        self._waiting: asyncio.Future[Any] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body; what the script sends without a pause comes as one block of up to about 16 KiB."""
        held: list[bytes] = []
        size = 0
        for step in self._script:
            if isinstance(step, bytes):
                held.append(step)
                size += len(step)
                if size < _BLOCK:
                    continue
            if held:
                block = b"".join(held)
                held.clear()
                size = 0
                await self._turn()
                yield block
            match step:
                case Sleep(seconds):
                    await self._wait(asyncio.ensure_future(self._sleep(seconds)))
                case Stall():
                    await self._wait(asyncio.get_running_loop().create_future())
                case Cut():
                    await self.aclose()
                    raise StreamInterrupted("the connection broke")
        if held:
            await self._turn()
            yield b"".join(held)
        self._ended = True
        self._close()

    @property
    def arrived(self) -> bool:
        """Whether the script has been played to its end."""
        return self._ended

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ProtocolError if it is larger than `limit` bytes."""
        blocks: list[bytes] = []
        size = 0
        async for block in self:
            blocks.append(block)
            size += len(block)
            if size > limit:
                raise ProtocolError(f"the provider's answer is larger than {limit} bytes")
        return b"".join(blocks)

    async def aclose(self) -> None:
        """Stop at once, also a reader that waits: it gets StreamInterrupted."""
        self._close()
        if self._waiting is not None:
            self._waiting.cancel()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()

    async def _turn(self) -> None:
        """Let others run before the next block, as waiting for a socket does."""
        self._check()
        await asyncio.sleep(0)
        self._check()

    async def _wait(self, future: asyncio.Future[Any]) -> None:
        self._waiting = future
        try:
            await asyncio.wait((future,))  # unlike `await future` it tells our being cancelled from its being cancelled
        finally:
            self._waiting = None
            future.cancel()
        self._check()
        await future

    def _check(self) -> None:
        if self._closed and not self._ended:
            raise StreamInterrupted("the connection was closed")
