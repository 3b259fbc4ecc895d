"""Commands to one server over a few connections. What comes within a tick, or waits, goes in one write.

A command costs its caller no connection and no task: it is queued, and the next free lane takes all that wait. A caller
who is cancelled leaves his answer to the lane, and the connection as it should be. redis-py does the connections: the
log-in, TLS, reading and parsing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from parley_server.stores.redis.errors import code_of

Argument = str | bytes | int | float
Command = Sequence[Argument]
Answers = asyncio.Future[list[Any]]
Connect = Callable[[], Awaitable[AbstractConnection]]

_AT_ONCE = 128  # commands in one write: what is behind them waits for a lane that is free sooner
_BYTES = 1024 * 1024  # the same in bytes
_RECONNECT = 1.0  # seconds between two goodbyes to a server that has become a replica


class _Entry(NamedTuple):
    packed: bytes
    commands: int
    answers: Answers


class Lanes:
    """A few connections, opened by `connect` when they are needed. Errors are those of redis-py, and TimeoutError.

    `took` is told how many seconds each write and its answers have taken.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        count: int,
        timeout: float,
        clock: Callable[[], float],
        took: Callable[[float], None],
    ) -> None:
        self._connect = connect
        self._count = count
        self._timeout = timeout
        self._clock = clock
        self._took = took
        self._pending: deque[_Entry] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._lanes: set[asyncio.Task[None]] = set()
        self._woken = False
        self._closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to `commands`, sent in order over one connection; error replies are ResponseErrors."""
        if self._closed:
            raise ConnectionError("closed")
        packed = b"".join([hiredis.pack_command(cast(Any, tuple(command))) for command in commands])
        answers: Answers = asyncio.get_running_loop().create_future()
        self._pending.append(_Entry(packed, len(commands), answers))
        self._wake()
        return await answers

    async def ask_all(self, command: Command) -> list[Any]:
        """The answer of each server: there is one."""
        return await self.ask([command])

    async def nodes(self) -> Sequence[Lanes]:
        """Itself: the one server there is."""
        return [self]

    async def aclose(self) -> None:
        """Close the connections. Who waits for an answer gets ConnectionError."""
        self._closed = True
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._fail(ConnectionError("closed"))

    def _wake(self) -> None:
        if self._woken:
            return
        if self._idle:
            self._idle.pop().set_result(None)
        elif len(self._lanes) < self._count:
            lane = asyncio.create_task(self._lane())
            self._lanes.add(lane)
        else:
            return
        self._woken = True  # until that lane runs, within this tick: it takes what others add meanwhile

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        connection: AbstractConnection | None = None
        left = -_RECONNECT
        try:
            while True:
                self._woken = False
                batch = self._take()
                if not batch:
                    idle = loop.create_future()
                    self._idle.append(idle)
                    await idle
                    continue
                if self._pending:
                    self._wake()
                hopeless = True  # nor will those fare better who wait
                try:
                    if connection is not None and (not connection.is_connected or await connection.can_read()):
                        await connection.disconnect(nowait=True)  # the other side has closed it
                        connection = None
                    if connection is None:
                        connection = await self._connect()
                    hopeless = False
                    async with asyncio.timeout(self._timeout):
                        begun = self._clock()
                        stays = await _exchange(connection, batch)
                        self._took(self._clock() - begun)
                except Exception as error:
                    _fail(batch, error)
                    if hopeless or isinstance(error, TimeoutError):
                        self._fail(error)
                    stays = False
                except BaseException:
                    _fail(batch, ConnectionError("closed"))
                    raise
                else:
                    stays = stays or self._clock() - left < _RECONNECT
                    left = left if stays else self._clock()
                if connection is not None and not stays:
                    await connection.disconnect(nowait=True)
                    connection = None
        finally:
            if connection is not None:
                await connection.disconnect(nowait=True)

    def _take(self) -> list[_Entry]:
        batch: list[_Entry] = []
        count = size = 0
        while self._pending and count < _AT_ONCE and size < _BYTES:
            entry = self._pending.popleft()
            if not entry.answers.done():  # cancelled while it waited
                batch.append(entry)
                count += entry.commands
                size += len(entry.packed)
        return batch

    def _fail(self, error: BaseException) -> None:
        pending, self._pending = self._pending, deque()
        _fail(pending, error)


def _fail(batch: Iterable[_Entry], error: BaseException) -> None:
    for _, _, answers in batch:
        if not answers.done():
            answers.set_exception(error)
            answers.exception()  # looked at: a caller who was cancelled does not


async def _exchange(connection: AbstractConnection, batch: Sequence[_Entry]) -> bool:
    """Send a batch and hand out the answers; whether the connection still is one to the primary."""
    stays = True
    await connection.send_packed_command([entry.packed for entry in batch], check_health=False)
    for _, count, answers in batch:
        got: list[Any] = []
        for _ in range(count):
            try:
                got.append(await connection.read_response(disable_decoding=True, disconnect_on_error=False))
            except ResponseError as error:
                got.append(error)
                stays = stays and code_of(error) not in ("READONLY", "MASTERDOWN")
        if not answers.done():
            answers.set_result(got)
    return stays
