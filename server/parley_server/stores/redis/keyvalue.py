"""Values in Redis."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.redis.connection import Redis, Script

_PIECE = 500  # keys that the server looks at in one go

_ADD = Script("""
local there = redis.call('GET', KEYS[1])
if there then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
""")
_REPLACE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
_REMOVE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")


class RedisKeyValue:
    """A KeyValue. What is kept expires by itself, to the millisecond."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._redis.command("GET", self._redis.key(key))
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        # Not MGET: a cluster may keep them on several nodes.
        return await self._redis.pipeline([("GET", self._redis.key(key)) for key in keys]) if keys else []

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await self._redis.command("SET", self._redis.key(key), value, "PX", _milliseconds(ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        there: bytes | None = await self._redis.run(_ADD, [self._redis.key(key)], (value, _milliseconds(ttl)))
        return there

    async def replace(self, key: str, expected: bytes, value: bytes, ttl: float) -> bool:
        arguments = (expected, value, _milliseconds(ttl))
        return bool(await self._redis.run(_REPLACE, [self._redis.key(key)], arguments))

    async def remove(self, key: str, expected: bytes | None = None) -> bool:
        if expected is None:
            return bool(await self._redis.command("UNLINK", self._redis.key(key)))
        return bool(await self._redis.run(_REMOVE, [self._redis.key(key)], (expected,)))

    async def keys(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        skip = len(self._redis.key(""))
        async for found in self._redis.scan(self._redis.key(prefix), _PIECE):
            if found:
                yield [key.decode()[skip:] for key in found]


def _milliseconds(ttl: float) -> int:
    return max(1, math.ceil(ttl * 1000))
