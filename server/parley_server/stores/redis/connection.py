"""What the stores in Redis are written with: the server that this process shares with others, asked for one purpose.

`shelves.py` makes one RedisServer for the process and hands each store its `Redis`:

    redis = server.redis("limits")
    await redis.command("GET", redis.key("a"))              # bytes, int, list or None: RESP2, as the server sends it
    await redis.pipeline([("GET", one), ("PTTL", one)])     # one write, one wait; not a transaction
    await redis.run(TAKE, [redis.key("{tenant}:a")], [5])   # TAKE = Script("…Lua…"): atomic; keys share a {tag}
    await redis.publish(redis.key("news"), b"…")
    async for message in redis.listen(redis.key("news")): … # None: messages may have been missed

What holds for all of them:

- Keys and channels are made by `redis.key(…)`: prefix and purpose come first. Keys of one script or command, which a
  cluster must find on one node, share a part in braces, the hash tag. A pipeline may have keys of several nodes; those
  of one node are done in order.
- Whatever goes wrong is StoreUnavailable with a plain sentence, and may have been done all the same. Nothing is tried
  again here. Each purpose has its own breaker: once it is open, requests fail at once until a probe in the background
  has found the server back, so callers never wait for a probe.
- Nothing that blocks (BLPOP, XREAD BLOCK, WAIT, long scripts): a few connections serve everybody. Publish a message
  instead, and listen.
- Requests of one tick of the loop go in one write, so `asyncio.gather` is a pipeline too.
- Cancelling a request is cheap; it may be done all the same.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from parley_server.stores.guard import Guard
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.redis.errors import refused
from parley_server.stores.redis.lanes import Argument, Command

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class Script:
    """A Lua script. The server is sent its digest, and the text only where it does not know that yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Shared(Protocol):
    """What all purposes share: the connections, and the watch over them."""

    name: str

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to `commands`, error replies among them as ResponseErrors. Raises StoreUnavailable."""
        ...

    async def nodes(self) -> Sequence[Ask]:
        """The same of each server that has keys of its own."""
        ...

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages of a channel, as Messages has it."""
        ...


class Redis:
    """The server, asked for one purpose. Its use is told above."""

    def __init__(self, server: Shared, guard: Guard, prefix: str) -> None:
        self._server = server
        self._guard = guard
        self._prefix = f"{prefix}{guard.purpose}:"

    def key(self, name: str) -> str:
        """What the key or channel `name` of this purpose is called on the server."""
        return self._prefix + name

    async def command(self, *command: Argument) -> Any:
        """The answer to one command."""
        [answer] = await self._ask([command])
        if isinstance(answer, ResponseError):
            raise self._refused(command, answer)
        return answer

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands. Raises for the first that is refused; the others are done all the same."""
        return self._granted(commands, await self._ask(commands))

    async def run(self, script: Script, keys: Sequence[str], arguments: Iterable[Argument] = ()) -> Any:
        """What `script` returns, done as one with nothing in between."""
        rest = (len(keys), *keys, *arguments)
        [answer] = await self._ask([("EVALSHA", script.sha, *rest)])
        if isinstance(answer, NoScriptError):
            return await self.command("EVAL", script.text, *rest)
        if isinstance(answer, ResponseError):
            raise self._refused(("EVALSHA",), answer)
        return answer

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell all who listen to `channel`."""
        await self.command("PUBLISH", channel, message)

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages of `channel`, as Messages has it."""
        return self._server.listen(channel)

    async def scan(self, prefix: str, piece: int) -> AsyncIterator[list[bytes]]:
        """The keys that begin with `prefix`, while each server looks at about `piece` of all at a time."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        for ask in await self._guard.watch(self._server.nodes):
            cursor: bytes = b"0"
            while True:
                commands = [("SCAN", cursor, "MATCH", pattern, "COUNT", piece)]
                [[cursor, found]] = self._granted(commands, await self._guard.watch(functools.partial(ask, commands)))
                yield found
                if cursor == b"0":
                    break

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        return await self._guard.watch(functools.partial(self._server.ask, commands))

    def _granted(self, commands: Sequence[Command], answers: list[Any]) -> list[Any]:
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise self._refused(command, answer)
        return answers

    def _refused(self, command: Command, error: ResponseError) -> StoreUnavailable:
        refusal = refused(self._server.name, str(command[0]), error)
        self._guard.refused(refusal)
        return refusal
