"""The stores that one gateway has: in memory, in a file, or in the Redis server that its settings name.

stores = shelves.build(settings)
await stores.start()
cached = await stores.keyvalue("cache").get(key)    # raises StoreUnavailable; stores.health says what to do then
await stores.aclose()
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from parley_server.config import Config
from parley_server.core.ids import new_id
from parley_server.stores.copied_streams import CopiedStreams
from parley_server.stores.counters import Counters
from parley_server.stores.groups import Groups
from parley_server.stores.guarded_counters import GuardedCounters
from parley_server.stores.health import PURPOSES, Purpose, StoreHealth
from parley_server.stores.keyvalue import KeyValue, Messages, StoreUnavailable
from parley_server.stores.memory.counters import MemoryCounters
from parley_server.stores.memory.groups import MemoryGroups
from parley_server.stores.memory.keyvalue import MemoryKeyValue, MemoryMessages
from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.presence import Presence
from parley_server.stores.sealing import Seals
from parley_server.stores.settings import RedisSettings
from parley_server.stores.sqlite import counters, groups, keyvalue, messages
from parley_server.stores.sqlite import streams as copies
from parley_server.stores.sqlite.database import Database
from parley_server.stores.streams import Bounds, StreamStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything that outlives a call. Each purpose has keys and channels of its own.

    `presence`: this gateway among those that share the stores. `seals`: for what answers say. `shared`: whether they
    outlive the process.
    """

    health: StoreHealth
    presence: Presence
    seals: Seals
    keyvalue: Callable[[Purpose], KeyValue]
    messages: Callable[[Purpose], Messages]
    groups: Callable[[Purpose], Groups]
    counters: Counters
    streams: StreamStore
    shared: bool = True
    opened: tuple[Callable[[], Awaitable[None]], ...] = ()
    closed: tuple[Callable[[], Awaitable[None]], ...] = ()

    @property
    def shared_counters(self) -> Counters | None:
        """`counters`, if other gateways count with them."""
        return None if isinstance(self.counters, MemoryCounters) else self.counters

    async def start(self) -> None:
        """Open what there is to open. Raises OSError for a file; a server that is not there is waited for.

        `aclose()` is needed also if this raises.
        """
        try:
            for opened in self.opened:
                await opened()
        except StoreUnavailable as error:
            raise OSError(str(error)) from error

    async def aclose(self) -> None:
        """Close it again."""
        for closed in self.closed:
            await closed()


def build(settings: Config, bounds: Bounds | None = None) -> Stores:
    """The stores for `settings`. Opens nothing yet. `bounds` of streams, if not those of the settings."""
    redis, resume = settings.redis, settings.resume
    bounds = bounds or Bounds(resume.max_bytes, resume.total_bytes, resume.window)
    health = StoreHealth(redis.on_failure.modes(), redis.replicas, time.monotonic)
    streams = MemoryStreams(bounds)
    gateway = new_id()
    shared = redis.url is not None or settings.storage.path is not None
    seals = Seals(settings.cache.hash_secret() or (b"" if shared else os.urandom(32)), settings.cache.sealing_keys())
    if redis.url is not None:
        return _in_redis(redis, health, gateway, seals, streams, bounds.window)
    if settings.storage.path is not None:
        return _in_file(
            settings.storage.path, settings.storage.max_bytes, health, gateway, seals, streams, bounds.window
        )
    values = {purpose: MemoryKeyValue(time.monotonic) for purpose in PURPOSES}
    told = {purpose: MemoryMessages() for purpose in PURPOSES}
    grouped = {purpose: MemoryGroups(time.monotonic) for purpose in PURPOSES}
    presence = Presence(values["resume"], gateway, time.monotonic)  # alone, so it need not say so
    return Stores(
        health,
        presence,
        seals,
        values.__getitem__,
        told.__getitem__,
        grouped.__getitem__,
        MemoryCounters(time.monotonic),
        streams,
        shared=False,
        closed=(streams.aclose,),
    )


def _in_redis(
    settings: RedisSettings, health: StoreHealth, gateway: str, seals: Seals, streams: MemoryStreams, window: float
) -> Stores:
    # An extra: not there for everybody.
    from parley_server.stores.redis.counters import RedisCounters
    from parley_server.stores.redis.groups import RedisGroups
    from parley_server.stores.redis.keyvalue import RedisKeyValue
    from parley_server.stores.redis.messages import RedisMessages
    from parley_server.stores.redis.server import RedisServer
    from parley_server.stores.redis.streams import RedisStreams

    server = RedisServer(settings, health)
    values = {purpose: RedisKeyValue(server.redis(purpose)) for purpose in PURPOSES}
    told = {purpose: RedisMessages(server.redis(purpose)) for purpose in PURPOSES}
    grouped = {purpose: RedisGroups(server.redis(purpose)) for purpose in PURPOSES}
    presence = Presence(values["resume"], gateway, time.monotonic)
    counted = GuardedCounters(RedisCounters(server.redis("limits")), MemoryCounters(time.monotonic), health)
    copied = CopiedStreams(streams, RedisStreams(server.redis("resume"), presence, seals, window=window))
    return Stores(
        health,
        presence,
        seals,
        values.__getitem__,
        told.__getitem__,
        grouped.__getitem__,
        counted,
        copied,
        opened=(server.start, presence.start),
        closed=(counted.aclose, copied.aclose, presence.aclose, server.aclose),
    )


def _in_file(
    path: Path, max_bytes: int, health: StoreHealth, gateway: str, seals: Seals, streams: MemoryStreams, window: float
) -> Stores:
    database = Database(path, health, time.monotonic, max_bytes=max_bytes)
    database.register("values", keyvalue.STEPS, expiring="entries", evicted=keyvalue.EVICTED)
    database.register("messages", messages.STEPS)
    database.register("groups", groups.STEPS, expiring="members")
    database.register("counters", counters.STEPS)
    database.register("streams", copies.STEPS)
    post = messages.Post(database)
    values = {purpose: keyvalue.SqliteKeyValue(database.table(purpose)) for purpose in PURPOSES}
    told = {purpose: messages.SqliteMessages(database.table(purpose), post) for purpose in PURPOSES}
    grouped = {purpose: groups.SqliteGroups(database.table(purpose)) for purpose in PURPOSES}
    presence = Presence(values["resume"], gateway, time.monotonic)
    counted = GuardedCounters(counters.SqliteCounters(database.table("limits")), MemoryCounters(time.monotonic), health)
    copied = CopiedStreams(streams, copies.SqliteStreams(database.table("resume"), presence, seals, window=window))
    return Stores(
        health,
        presence,
        seals,
        values.__getitem__,
        told.__getitem__,
        grouped.__getitem__,
        counted,
        copied,
        opened=(database.start, presence.start),
        closed=(counted.aclose, copied.aclose, presence.aclose, post.aclose, database.aclose),
    )
