"""The one connection of this process over which messages come, whoever listens to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from parley_server.stores.listeners import Listeners

_QUIET = 1.0  # seconds without a message after which the server is asked for a sign of life
_FIRST, _LONGEST = 0.1, 1.0  # seconds before connecting anew


class Subscriber:
    """Listens to the channels that somebody wants, and connects anew by itself: that is when listeners get None."""

    def __init__(self, connect: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._connect = connect
        self._listeners = Listeners(self._changed, lambda channel: channel in self._confirmed)
        self._confirmed: set[str] = set()
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages of `channel`, None as soon as none is missed any more."""
        return self._listeners.listen(channel)

    async def aclose(self) -> None:
        """Stop listening. Who still does gets nothing more."""
        tasks = [*self._sending, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self, channel: str) -> None:
        wanted = channel in self._listeners.channels
        if self._task is None:
            if wanted:
                self._task = asyncio.create_task(self._run())
        elif self._connection is not None:
            command = "SUBSCRIBE" if wanted else "UNSUBSCRIBE"
            self._confirmed.discard(channel)
            task = asyncio.create_task(self._send(self._connection, command, channel))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, connection: AbstractConnection, *command: str) -> None:
        try:
            await connection.send_command(*command, check_health=False)
        except (RedisError, OSError):
            await connection.disconnect(nowait=True)  # whoever reads notices

    async def _run(self) -> None:
        wait = _FIRST
        while True:
            try:
                connection = await self._connect()
                try:
                    self._connection = connection
                    await self._receive(connection)
                finally:
                    self._connection = None
                    self._confirmed.clear()
                    await connection.disconnect(nowait=True)
            except (RedisError, OSError, TimeoutError):
                pass  # the breakers of those who ask for answers tell what is wrong
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, _LONGEST)

    async def _receive(self, connection: AbstractConnection) -> None:
        channels = self._listeners.channels
        if channels:
            await connection.send_command("SUBSCRIBE", *channels, check_health=False)
        asked = False
        while True:
            message = await connection.read_response(timeout=_QUIET, disable_decoding=True)
            if message is not None:
                asked = False
                self._take(message)
            elif asked:
                raise TimeoutError
            else:
                asked = True
                await connection.send_command("PING", check_health=False)

    def _take(self, message: Any) -> None:
        match message:
            case [b"message", bytes() as channel, bytes() as data]:
                self._listeners.tell(channel.decode(), data)
            case [b"subscribe", bytes() as channel, _]:
                self._confirmed.add(channel.decode())
                self._listeners.tell(channel.decode(), None)
            case [b"unsubscribe", *_] | [b"pong", *_] | b"PONG":
                pass
            case _:
                raise ConnectionError("not a message")
