"""Copies of streams in Redis: for each a Redis stream of packed events, a hash of how it stands, one of its readers.

All keys of a stream have the same hash tag. A gateway that writes one publishes to those that read it, each of which
listens to one channel of its own. Times are the server's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.packed_events import packed, packed_ending, unpacked, unpacked_ending
from parley_server.stores.presence import Presence
from parley_server.stores.redis.connection import Redis, Script
from parley_server.stores.redis.lanes import Argument
from parley_server.stores.sealing import Seals
from parley_server.stores.streams import (
    READER,
    REMEMBERED,
    UNTOUCHED,
    Change,
    Copied,
    Slice,
    State,
    StreamExpired,
    StreamUnknown,
)

_PIECE = 16 * 1024  # bytes of an entry, about
_ENTRIES = 16  # that the server looks at a time
_LOOK = 1.0  # seconds between two looks at a stream of which nothing is heard
_MISSING, _NOBODY = -2, -1
_UNKNOWN, _EXPIRED = 0, 1

# KEYS: hash, events, readers. ARGV: whole, owner, how long it lives while it runs, newest dropped sequence, ended,
# status, usage, window, how long it is remembered, what channels begin with, name; then sequence, size, data by entry.
_WRITE = Script("""
local state, log, readers = KEYS[1], KEYS[2], KEYS[3]
local last = redis.call('HGET', state, 'last')
if not last then
    if ARGV[1] == '0' then return -2 end
    last = 0
    redis.call('HSET', state, 'owner', ARGV[2])
end
last = tonumber(last)
for i = 12, #ARGV, 3 do
    local sequence = tonumber(ARGV[i])
    if sequence > last then
        redis.call('XADD', log, ARGV[i] .. '-0', 's', ARGV[i + 1], 'd', ARGV[i + 2])
        last = sequence
    end
end
redis.call('HSET', state, 'last', string.format('%.0f', last), 'dropped', ARGV[4])
if ARGV[4] ~= '0' then redis.call('XTRIM', log, 'MINID', string.format('%.0f-0', ARGV[4] + 1)) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[5] == '1' then
    local ends = string.format('%.0f', now + ARGV[8])
    redis.call('HSET', state, 'status', ARGV[6], 'usage', ARGV[7], 'until', ends)
    redis.call('PEXPIRE', log, ARGV[8])
    redis.call('PEXPIRE', state, ARGV[8] + ARGV[9])
else
    redis.call('PEXPIRE', log, ARGV[3])
    redis.call('PEXPIRE', state, ARGV[3])
end
local taken, gateways = -1, {}
local all = redis.call('HGETALL', readers)
for i = 1, #all, 2 do
    local at, ends = string.match(all[i + 1], '^(-?%d+) (%d+)$')
    if tonumber(ends) < now then
        redis.call('HDEL', readers, all[i])
    else
        taken = math.max(taken, tonumber(at))
        gateways[string.match(all[i], '^[^.]*')] = true
    end
end
if #ARGV > 11 or ARGV[5] == '1' then
    for gateway in pairs(gateways) do redis.call('PUBLISH', ARGV[10] .. gateway, ARGV[11]) end
end
return taken
""")

# KEYS: hash, events, readers. ARGV: after, most, entries at a time, reader, whether it counts, how long.
_READ = Script("""
local state, log, readers = KEYS[1], KEYS[2], KEYS[3]
local is = redis.call('HMGET', state, 'last', 'dropped', 'owner', 'until', 'status', 'usage')
if not is[1] then return {0} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if is[4] and tonumber(is[4]) <= now then return {1} end
local after, last = tonumber(ARGV[1]), tonumber(is[1])
if after < tonumber(is[2]) then return {1} end
local from, size, pieces, reached = '(' .. ARGV[1] .. '-0', 0, {}, after
while reached < last and size < tonumber(ARGV[2]) do
    local some = redis.call('XRANGE', log, from, '+', 'COUNT', ARGV[3])
    if #some == 0 then return {1} end
    for _, entry in ipairs(some) do
        pieces[#pieces + 1] = {entry[1], entry[2][4]}
        size = size + entry[2][2]
        reached = tonumber(string.match(entry[1], '^%d+'))
        if size >= tonumber(ARGV[2]) then break end
    end
    from = '(' .. string.format('%.0f', reached) .. '-0'
end
if not is[4] and ARGV[4] ~= '' then
    local at = -1
    if ARGV[5] == '1' then at = reached end
    redis.call('HSET', readers, ARGV[4], string.format('%.0f %.0f', at, now + ARGV[6]))
    redis.call('PEXPIRE', readers, ARGV[6])
end
if reached < last or not is[4] then return {2, is[3], pieces} end
return {2, is[3], pieces, is[5], is[6]}
""")

# KEYS: hash.
_STATE = Script("""
local is = redis.call('HMGET', KEYS[1], 'last', 'owner', 'until', 'status', 'usage')
if not is[1] then return {0} end
if not is[3] then return {2, is[2], is[1]} end
local time = redis.call('TIME')
if tonumber(is[3]) <= time[1] * 1000 + math.floor(time[2] / 1000) then return {1} end
return {2, is[2], is[1], is[4], is[5]}
""")

# KEYS: hash, events, readers. ARGV: how long it is remembered.
_FORGET = Script("""
redis.call('DEL', KEYS[2], KEYS[3])
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HSET', KEYS[1], 'until', 0)
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
""")


class RedisStreams:
    """A StreamCopies. `presence`: who is there, and what this gateway is called. `window`: seconds."""

    def __init__(self, redis: Redis, presence: Presence, seals: Seals, *, window: float) -> None:
        self._redis = redis
        self._presence = presence
        self._seals = seals
        self._window = window
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._anonymous = f"{presence.gateway}.-"

    async def write(self, changes: Sequence[Change]) -> list[Copied | StoreUnavailable]:
        # One write to each server: what is sent within a tick of the loop goes together.
        done = await asyncio.gather(*(self._write(change) for change in changes), return_exceptions=True)
        for one in done:
            if isinstance(one, BaseException) and not isinstance(one, StoreUnavailable):
                raise one
        return done  # type: ignore[return-value]  # mypy does not follow the loop

    async def _write(self, change: Change) -> Copied:
        name = _name(change.key)
        ending = (b"", b"") if change.ending is None else packed_ending(self._seals, change.key, change.ending)
        arguments: list[Argument] = [
            int(change.whole),
            self._presence.gateway,
            _milliseconds(self._window + UNTOUCHED),
            change.dropped,
            int(change.ending is not None),
            *ending,
            _milliseconds(self._window),
            _milliseconds(REMEMBERED),
            self._channel(""),
            name,
        ]
        for piece in packed(self._seals, change.key, change.events, _PIECE):
            arguments += piece
        taken = await self._redis.run(_WRITE, self._keys(name), arguments)
        return Copied(missing=taken == _MISSING, taken=taken if taken > _NOBODY else None)

    async def forget(self, keys: Sequence[str]) -> None:
        arguments = (_milliseconds(REMEMBERED),)
        await asyncio.gather(*(self._redis.run(_FORGET, self._keys(_name(key)), arguments) for key in keys))

    async def state(self, key: str) -> State:
        kind, *found = await self._redis.run(_STATE, self._keys(_name(key))[:1])
        _there(key, kind)
        owner, last = found[0].decode(), int(found[1])
        if len(found) > 2:
            return State(last, unpacked_ending(self._seals, key, *found[2:]), owner)
        return State(last, None, owner, lost=not await self._presence.is_there(owner))

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        name, heard, lost = _name(key), asyncio.Event(), False
        self._waiting.setdefault(name, set()).add(heard)
        try:
            while True:
                heard.clear()
                owner, part = await self._read(key, after, most, reader)
                if part.events or part.ending is not None:
                    return part
                if lost or self._presence.was_gone(owner):
                    return Slice((), None, lost=True)
                try:
                    async with asyncio.timeout(_LOOK):
                        await heard.wait()
                except TimeoutError:
                    lost = not await self._presence.is_there(owner)
        finally:
            self._waiting[name].discard(heard)
            if not self._waiting[name]:
                del self._waiting[name]

    async def _read(self, key: str, after: int, most: int, reader: str) -> tuple[str, Slice]:
        arguments = (after, most, _ENTRIES, reader or self._anonymous, int(bool(reader)), _milliseconds(READER))
        kind, *found = await self._redis.run(_READ, self._keys(_name(key)), arguments)
        _there(key, kind)
        pieces = [(int(entry.partition(b"-")[0]), data) for entry, data in found[1]]
        ending = unpacked_ending(self._seals, key, *found[2:]) if len(found) > 2 else None
        return found[0].decode(), Slice(unpacked(self._seals, key, pieces, after), ending)

    async def leave(self, key: str, reader: str) -> None:
        await self._redis.command("HDEL", self._keys(_name(key))[2], reader)

    async def aclose(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        async with aclosing(self._redis.listen(self._channel(self._presence.gateway))) as messages:  # type: ignore[type-var]
            async for message in messages:
                names = list(self._waiting) if message is None else [message.decode()]
                for name in names:
                    for heard in self._waiting.get(name, ()):
                        heard.set()

    def _channel(self, gateway: str) -> str:
        return self._redis.key(f"heard:{gateway}")

    def _keys(self, name: str) -> list[str]:
        return [self._redis.key(f"{{{name}}}:{part}") for part in ("state", "events", "readers")]


def _name(key: str) -> str:
    """What a stream is called in Redis: keys name callers, and are none of the server's business."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _there(key: str, kind: Any) -> None:
    if kind == _UNKNOWN:
        raise StreamUnknown(key)
    if kind == _EXPIRED:
        raise StreamExpired(key)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
