"""The Redis server that this process shares with others, and how the stores on top of it ask it.

`RedisServer` is one for the process; `server.redis(purpose)` gives a `Redis`, which is what stores are written with:

    redis = server.redis("limits")
    await redis.command("GET", redis.key("a"))              # bytes, int, list or None: RESP2, as the server sends it
    await redis.pipeline([("GET", one), ("PTTL", one)])     # one write, one wait; not a transaction
    await redis.run(TAKE, [redis.key("{tenant}:a")], [5])   # TAKE = Script("…Lua…"): atomic; keys share a {tag}
    await redis.publish(redis.key("news"), b"…")

What holds for all of them:

- Keys and channels are made by `redis.key(…)`: prefix and purpose come first. Keys of one script, which a cluster must
  find on one node, share a part in braces, the hash tag. A pipeline may have keys of several nodes.
- Whatever goes wrong is StoreUnavailable with a plain sentence, and may have been done all the same. Nothing is tried
  again here. Each purpose has its own breaker: once it is open, requests fail at once until a probe in the background
  has found the server back, so callers never wait for a probe.
- Nothing that blocks (BLPOP, XREAD BLOCK, WAIT, long scripts): a few connections serve everybody. Publish a message
  instead, and listen.
- Requests of one tick of the loop go in one write, so `asyncio.gather` is a pipeline too.
- Cancelling a request is cheap; it may be done all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.stores.health import PURPOSES, Purpose, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.redis.errors import REFUSALS, code_of, refused, unreachable
from parley_server.stores.redis.lanes import Lanes
from parley_server.stores.redis.subscriber import Subscriber
from parley_server.stores.settings import RedisSettings

Argument = str | bytes | int | float
Command = Sequence[Argument]

_BREAKER = CircuitPolicy(failures=3, ratio=0.5, fewest=20, window=10, cool=0.25, cap=0.5)
_SLOW = 2  # slow writes in a row, beyond one for each connection, that make a server slow
_LEAST = 0.01  # seconds between two probes
_UNAVAILABLE = (RedisError, OSError, TimeoutError)
_READS = frozenset({"GET", "MGET", "EXISTS", "SCAN", "TTL", "PTTL", "HGET", "HMGET", "HGETALL", "XRANGE", "XREVRANGE"})


class Script:
    """A Lua script. The server is sent its digest, and the text only where it does not know that yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisServer:
    """Connections to the server that `settings` name; nothing is opened before it is needed, or `start()`."""

    def __init__(
        self, settings: RedisSettings, health: StoreHealth, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.health = health
        self.name = settings.name
        self._clock = clock
        self._faces: dict[Purpose, Redis] = {
            purpose: Redis(self, purpose, Circuit(_BREAKER, clock)) for purpose in PURPOSES
        }
        self._sentinel = _sentinel(settings) if settings.kind == "sentinel" else None
        self._lanes = Lanes(
            self.connect, count=settings.connections, timeout=settings.timeout, clock=clock, took=self._took
        )
        self._slow = 0
        self.subscriber = Subscriber(self.connect)
        self._prober: asyncio.Task[None] | None = None

    def redis(self, purpose: Purpose) -> Redis:
        """The server, asked for `purpose`."""
        return self._faces[purpose]

    async def start(self) -> None:
        """Find out whether the server is there. It need not be."""
        try:
            await self._ping()
        except StoreUnavailable as error:
            self._leave_alone(error)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)
        await self.subscriber.aclose()
        await self._lanes.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def connect(self) -> AbstractConnection:
        """A new connection, logged in, on the database; to the primary of the moment, where there are Sentinels."""
        settings = self.settings
        async with asyncio.timeout(settings.connect_timeout):
            if self._sentinel is None:
                host, port = settings.hosts[0]
            else:
                host, port = await self._sentinel.discover_master(settings.primary)
            connection = _connection(settings, host, port)
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            return connection

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to `commands`, error replies among them as ResponseErrors. Raises StoreUnavailable."""
        packed = [hiredis.pack_command(cast(Any, tuple(command))) for command in commands]  # its stub is mistaken
        try:
            return await self._lanes.send(packed)
        except _UNAVAILABLE as error:
            raise unreachable(self.name, error, self.settings.timeout) from error

    def probe(self) -> None:
        """Look in the background whether the server is back, until all breakers are closed."""
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while waiting := [face for face in self._faces.values() if face.circuit.state() != "closed"]:
            await asyncio.sleep(max(min(face.circuit.wait() for face in waiting), _LEAST))
            tickets = [(face, face.circuit.admit()) for face in waiting]
            try:
                await self._ping()
                back = True
            except StoreUnavailable:
                back = False
            for face, ticket in tickets:
                if ticket is not None:
                    face.probed(ticket, back=back)

    async def _ping(self) -> None:
        begun = self._clock()
        [answer] = await self.ask([("PING",)])
        if isinstance(answer, ResponseError):
            raise refused(self.name, "PING", answer)
        if self._clock() - begun > self.settings.slow:
            raise StoreUnavailable(f"{self.name} answers only after {self.settings.slow:g} s")

    def _took(self, seconds: float) -> None:
        """So long did one write and its answers take. A pause of ours makes a few slow, a slow server all of them."""
        if seconds <= self.settings.slow:
            self._slow = 0
            return
        self._slow += 1
        if self._slow > _SLOW + self.settings.connections:
            self._slow = 0
            self._leave_alone(StoreUnavailable(f"{self.name} answers only after {seconds:.2g} s"))

    def _leave_alone(self, why: StoreUnavailable) -> None:
        for face in self._faces.values():
            if face.circuit.state() == "closed":
                face.circuit.shut(_BREAKER.cool)
                self.health.down(face.purpose, str(why))
        self.probe()


class Redis:
    """The server, asked for one purpose. Use is told above."""

    def __init__(self, server: RedisServer, purpose: Purpose, circuit: Circuit) -> None:
        self.circuit = circuit
        self.purpose = purpose
        self._server = server
        self._prefix = f"{server.settings.prefix}{purpose}:"

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
        """The answers to several commands, which are done in their order. Raises for the first that is refused."""
        answers = await self._ask(commands)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise self._refused(command, answer)
        return answers

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

    def probed(self, ticket: int, *, back: bool) -> None:
        """What came of a probe that `ticket` let in."""
        if not back:
            self.circuit.failed(ticket)
            return
        self.circuit.succeeded(ticket)
        if self.circuit.state() == "closed":
            self._server.health.up(self.purpose)

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages of `channel`, as Messages has it."""
        return self._server.subscriber.listen(channel)

    async def scan(self, pattern: str, piece: int) -> AsyncIterator[list[bytes]]:
        """The keys that match `pattern`, while the server looks at about `piece` of all at a time."""
        cursor: bytes = b"0"
        while True:
            cursor, found = await self.command("SCAN", cursor, "MATCH", pattern, "COUNT", piece)
            yield found
            if cursor == b"0":
                return

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        server, health = self._server, self._server.health
        if self.circuit.state() != "closed":  # callers are no probes: those may wait for nothing
            health.failed(self.purpose)
            raise StoreUnavailable(f"{server.name} is left alone for a moment: it did not answer as it should")
        try:
            answers = await server.ask(commands)
        except StoreUnavailable as error:
            self.circuit.failed(0)
            health.failed(self.purpose)
            if self.circuit.state() != "closed":
                health.down(self.purpose, str(error))
                server.probe()
            raise
        self.circuit.succeeded(0)
        if health.is_down(self.purpose) and _has_written(commands, answers):
            health.up(self.purpose)
        return answers

    def _refused(self, command: Command, error: ResponseError) -> StoreUnavailable:
        refusal = refused(self._server.name, str(command[0]), error)
        health = self._server.health
        if code_of(error) in REFUSALS:
            health.down(self.purpose, str(refusal), passing=True)
        health.failed(self.purpose)
        return refusal


def _has_written(commands: Sequence[Command], answers: Sequence[Any]) -> bool:
    """Whether the server does what it may have refused before: there is one that writes, and it was let."""
    pairs = zip(commands, answers, strict=True)
    return any(command[0] not in _READS and not isinstance(answer, ResponseError) for command, answer in pairs)


def _connection(settings: RedisSettings, host: str, port: int) -> Connection:
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": settings.database,
        "username": settings.username,
        "password": settings.password.reveal() or None,
        "client_name": "parley",
        "socket_timeout": None,  # whole exchanges are timed, not single reads
        "socket_connect_timeout": settings.connect_timeout,
        **_common(),
    }
    if not settings.encrypted:
        return Connection(**options)
    return SSLConnection(**options, **_tls(settings))


def _common() -> dict[str, Any]:
    """No retries, and RESP2, whose answers have one shape on all servers."""
    quiet = MaintNotificationsConfig(enabled=False)
    return {"retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None, "maint_notifications_config": quiet}


def _tls(settings: RedisSettings) -> dict[str, Any]:
    tls = settings.tls
    return {
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
        "ssl_ca_certs": tls.ca_file and str(tls.ca_file),
        "ssl_certfile": tls.cert_file and str(tls.cert_file),
        "ssl_keyfile": tls.key_file and str(tls.key_file),
    }


def _sentinel(settings: RedisSettings) -> Sentinel:
    options: dict[str, Any] = {
        "socket_timeout": settings.connect_timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "username": settings.sentinel_username,
        "password": settings.sentinel_password.reveal() or None,
        **_common(),
    }
    if settings.encrypted:
        options |= {"ssl": True, **_tls(settings)}
    return Sentinel(settings.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
