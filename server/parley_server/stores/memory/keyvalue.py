"""Values in the memory of this process."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from parley_server.stores.listeners import Listeners

_PIECE = 500  # keys that are listed at a time


@dataclass(slots=True, eq=False)
class _Entry:
    value: bytes
    expires: float


class MemoryKeyValue:
    """A KeyValue. `clock` gives seconds and never goes back; `len()` counts entries, those just expired included."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._expiring: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> bytes | None:
        entry = self._entry(key)
        return None if entry is None else entry.value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        self._expire()
        expires = self._clock() + ttl
        self._entries[key] = _Entry(value, expires)
        heapq.heappush(self._expiring, (expires, key))
        if len(self._expiring) > 2 * len(self._entries) + 100:  # most are of values written over
            self._expiring = [(entry.expires, key) for key, entry in self._entries.items()]
            heapq.heapify(self._expiring)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        entry = self._entry(key)
        if entry is not None:
            return entry.value
        await self.put(key, value, ttl)
        return None

    async def replace(self, key: str, expected: bytes, value: bytes, ttl: float) -> bool:
        entry = self._entry(key)
        if entry is None or entry.value != expected:
            return False
        await self.put(key, value, ttl)
        return True

    async def remove(self, key: str, expected: bytes | None = None) -> bool:
        entry = self._entry(key)
        if entry is None or (expected is not None and entry.value != expected):
            return False
        del self._entries[key]
        return True

    async def keys(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        self._expire()
        found = [key for key in self._entries if key.startswith(prefix)]
        for start in range(0, len(found), _PIECE):
            yield found[start : start + _PIECE]
            await asyncio.sleep(0)

    def _entry(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > self._clock() else None

    def _expire(self) -> None:
        now = self._clock()
        while self._expiring and self._expiring[0][0] <= now:
            _, key = heapq.heappop(self._expiring)
            entry = self._entries.get(key)
            if entry is not None and entry.expires <= now:
                del self._entries[key]


class MemoryMessages:
    """Messages within this process."""

    def __init__(self) -> None:
        self._listeners = Listeners()

    async def publish(self, channel: str, message: bytes) -> None:
        self._listeners.tell(channel, message)

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        return self._listeners.listen(channel)
