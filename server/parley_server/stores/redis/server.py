"""The Redis server, or servers, that this process shares with others: one set of connections, and the watch over them.

Beside what guards do, it watches how long answers take: a server that is slow for everybody is left alone as well.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from parley_server.stores.guard import Guards
from parley_server.stores.health import PURPOSES, Purpose, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.redis.cluster import Cluster
from parley_server.stores.redis.connection import Ask, Redis
from parley_server.stores.redis.errors import refused, unreachable
from parley_server.stores.redis.lanes import Command, Connect, Lanes
from parley_server.stores.redis.opening import Opener
from parley_server.stores.redis.subscriber import Subscriber
from parley_server.stores.settings import RedisSettings

T = TypeVar("T")

_SLOW = 2  # slow writes in a row, beyond one for each connection, that make a server slow
_TICK = 0.01
_UNAVAILABLE = (RedisError, OSError, TimeoutError)


class RedisServer:
    """Connections to the servers that `settings` name, opened when they are needed.

    Raises OSError for certificates that cannot be read.
    """

    def __init__(
        self, settings: RedisSettings, health: StoreHealth, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._opener = Opener(settings)
        self._wire: Lanes | Cluster
        if settings.kind == "cluster":
            self._wire = Cluster(settings.hosts, lambda address: self._lanes(lambda: self._opener.to(address)))
        else:
            self._wire = self._lanes(self._opener.primary)
        self._subscriber = Subscriber(self._for_messages)
        self._slow = 0
        self._guards = Guards(settings.name, self._ping, health, clock)
        self._faces = {purpose: Redis(self, self._guards[purpose], settings.prefix) for purpose in PURPOSES}

    def redis(self, purpose: Purpose) -> Redis:
        """The server, asked for `purpose`."""
        return self._faces[purpose]

    async def start(self) -> None:
        """Find out whether the server is there. It need not be."""
        await self._guards.start()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._guards.aclose()
        await self._subscriber.aclose()
        await self._wire.aclose()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to `commands`, error replies among them as ResponseErrors. Raises StoreUnavailable."""
        return await self._told(self._wire.ask(commands))

    async def nodes(self) -> Sequence[Ask]:
        """The same of each server that has keys of its own."""
        return [functools.partial(self._ask_one, node) for node in await self._told(self._wire.nodes())]

    async def _ask_one(self, node: Lanes, commands: Sequence[Command]) -> list[Any]:
        return await self._told(node.ask(commands))

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages of a channel, as Messages has it."""
        return self._subscriber.listen(channel)

    async def _ping(self) -> None:
        """A second time where it takes too long: then there is a connection, and perhaps this process was busy."""
        for _ in range(2):
            begun, lag = self._clock(), Lag()
            try:
                answers = await self._told(self._wire.ask_all(("PING",)))
            finally:
                late = lag.stop()
            for answer in answers:
                if isinstance(answer, ResponseError):
                    raise refused(self.name, "PING", answer)
            seconds = self._clock() - begun
            if seconds - late <= self._settings.slow:
                return
        raise StoreUnavailable(f"{self.name} answers only after {seconds:.2g} s")

    async def _told(self, work: Awaitable[T]) -> T:
        """What `work` gives, or what is wrong in plain words."""
        try:
            return await work
        except _UNAVAILABLE as error:
            raise unreachable(self.name, error, self._settings.timeout) from error

    def _lanes(self, connect: Connect) -> Lanes:
        settings = self._settings
        return Lanes(connect, count=settings.connections, timeout=settings.timeout, clock=self._clock, took=self._took)

    async def _for_messages(self) -> AbstractConnection:
        if isinstance(self._wire, Cluster):
            return await self._opener.to(await self._wire.any())
        return await self._opener.primary()

    def _took(self, seconds: float) -> None:
        """So long did one write and its answers take. A pause of ours makes a few slow, a slow server all of them."""
        if seconds <= self._settings.slow:
            self._slow = 0
            return
        self._slow += 1
        if self._slow >= _SLOW + self._settings.connections:
            self._slow = 0
            self._guards.doubt()


class Lag:
    """How late this process has been to do what was due, in seconds, from now until `stop()`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._late = 0.0
        self._tick()

    def stop(self) -> float:
        self._timer.cancel()
        return self._late + max(self._loop.time() - self._timer.when(), 0.0)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK, self._ticked)

    def _ticked(self) -> None:
        self._late += max(self._loop.time() - self._timer.when(), 0.0)
        self._tick()
