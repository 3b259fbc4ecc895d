"""Groups in Redis: a hash for each, whose values begin with the time when they expire, on the server's clock."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.groups import Member
from parley_server.stores.redis.connection import Redis, Script

_PIECE = 200
_NAMES = 500  # that the server looks at in one go

# Fields have no lifetime of their own in Redis before 7.4: the hash has that of the one that lives longest.
_PUT = Script("""
local now = redis.call('TIME')
local expires = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:', expires) .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
""")
_FORGET = Script("""
local now = redis.call('TIME')
for _, name in ipairs(ARGV) do
  local kept = redis.call('HGET', KEYS[1], name)
  if kept and (tonumber(string.match(kept, '^(%d+):')) or 0) <= now[1] * 1000 then
    redis.call('HDEL', KEYS[1], name)
  end
end
return 1
""")


class RedisGroups:
    """Groups that all gateways share."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        await self._redis.run(_PUT, [self._key(group)], (name, value, max(1, math.ceil(ttl * 1000))))

    async def remove(self, group: str, names: Sequence[bytes]) -> None:
        if names:
            await self._redis.command("HDEL", self._key(group), *names)

    async def drop(self, prefix: str) -> None:
        async for found in self._redis.scan(self._key(prefix), _NAMES):
            if found:
                await self._redis.pipeline([("UNLINK", key) for key in found])

    async def read(self, group: str) -> AsyncIterator[Sequence[Member]]:
        key, cursor, gone = self._key(group), b"0", list[bytes]()
        while True:
            commands = [("TIME",), ("HSCAN", key, cursor, "COUNT", _PIECE)]
            [[seconds, microseconds], [cursor, found]] = await self._redis.pipeline(commands)
            now = int(seconds) * 1000 + int(microseconds) / 1000
            members = [_member(name, kept, now) for name, kept in zip(found[::2], found[1::2], strict=True)]
            gone += [member.name for member in members if member.left <= 0]
            if living := [member for member in members if member.left > 0]:
                yield living
            if cursor == b"0":
                break
        if gone:
            await self._redis.run(_FORGET, [key], gone)

    def _key(self, group: str) -> str:
        return self._redis.key(f"group:{group}")


def _member(name: bytes, kept: bytes, now: float) -> Member:
    """What `_PUT` kept; something else has expired."""
    expires, _, value = kept.partition(b":")
    return Member(name, value, (int(expires) - now) / 1000 if expires.isdigit() else 0)
