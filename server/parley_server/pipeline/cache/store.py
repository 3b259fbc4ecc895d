"""Answers in the store that gateways share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley_server.core.errors import StateUnavailable
from parley_server.pipeline.cache import lease as leases
from parley_server.pipeline.cache.counts import Counts
from parley_server.pipeline.cache.entry import Entry
from parley_server.pipeline.cache.keys import Keys
from parley_server.pipeline.cache.lease import LASTS, Lease, Spawn
from parley_server.pipeline.cache.purges import Purge, Purges
from parley_server.stores.keyvalue import KeyValue, StoreUnavailable
from parley_server.stores.sealing import Seals

_ANSWERS = "a/"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds between two looks at a lease
_TURNS = 2  # leases of others that may come to nothing before a call goes its own way
_AT_ONCE = 50  # values that are read or written together
_BREATH = 0.01  # seconds between two pieces of a search


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of asking for an answer: the answer, or the lease to make it, or neither: then make it for yourself.

    An entry that is past its time comes with a lease, for when making another one fails.
    """

    entry: Entry | None = None
    lease: Lease | None = None
    waited: bool = False
    """Whether another gateway had the lease meanwhile."""


class SharedAnswers:
    """Entries by key, in a store that may not be there: then nothing is found, and nothing kept.

    `wall`: Unix time in seconds. `spawn` does something in the background. `is_needed`: whether calls are to fail, with
    StateUnavailable, where the store cannot be asked.
    """

    def __init__(
        self,
        store: KeyValue,
        keys: Keys,
        seals: Seals,
        purges: Purges,
        counts: Counts,
        wall: Callable[[], float],
        spawn: Spawn,
        is_needed: Callable[[], bool],
    ) -> None:
        self.keys = keys
        self.seals = seals
        self._store = store
        self._purges = purges
        self._counts = counts
        self._wall = wall
        self._spawn = spawn
        self._is_needed = is_needed

    async def get(self, keys: Sequence[bytes], tenant: str) -> list[Entry | None]:
        """Those that are there and of any use, in the order of their keys."""
        names = [self._name(key, tenant) for key in keys]
        try:
            values = [await self._store.get(names[0])] if len(names) == 1 else await self._store.get_many(names)
        except StoreUnavailable:
            self.failed()
            return [None] * len(keys)
        return [
            None if value is None else self._read(value, key, tenant) for key, value in zip(keys, values, strict=True)
        ]

    async def claim(self, key: bytes, tenant: str, stale_for: float, *, waits: bool = True) -> Claim:
        """The answer if it is there, or past its time for no more than `stale_for` seconds; or the lease to make it.

        While another gateway makes it, waits for what comes of that, or gives nothing if it shall not wait.
        """
        name, mine = self._name(key, tenant), leases.record()
        pause, last, turns = _FIRST_PAUSE, b"", 0
        try:
            while True:
                value = await self._store.add(name, mine, LASTS)
                if value is None:
                    return Claim(None, self._leased(name, mine), bool(turns))
                if leases.is_void(value):
                    return Claim(waited=bool(turns))
                holder = leases.holder_of(value)
                entry = self._read(value if holder is None else leases.stale_in(value), key, tenant, leased=holder)
                if entry is not None and self._wall() < entry.made + entry.ttl + stale_for:
                    return Claim(entry, waited=bool(turns))
                if holder is None:
                    held = leases.record() if entry is None else leases.record(value)
                    if await self._store.replace(name, value, held, LASTS):
                        return Claim(entry, self._leased(name, held, entry), bool(turns))
                    continue
                if not waits:
                    return Claim()
                if holder != last:
                    last, turns = holder, turns + 1
                    if turns > _TURNS:
                        return Claim(entry, waited=True)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        except StoreUnavailable:
            self.failed()
            return Claim()

    async def put(self, entries: Sequence[tuple[bytes, Entry]], lease: Lease | None = None) -> None:
        """Keep answers, whatever there was, and end the lease: by taking its place, or else when all are kept."""
        if lease is not None and any(self._name(key, entry.tenant) == lease.name for key, entry in entries):
            lease.kept()
            lease = None
        try:
            for start in range(0, len(entries), _AT_ONCE):
                await asyncio.gather(*(self._put(key, entry) for key, entry in entries[start : start + _AT_ONCE]))
        except StoreUnavailable:
            self._counts.store_failures += 1
        finally:
            if lease is not None:
                lease.release()

    def failed(self) -> None:
        """The store cannot be asked. Raises StateUnavailable where calls are not to go on without it."""
        self._counts.store_failures += 1
        if self._is_needed():
            raise StateUnavailable("the cache of answers cannot be asked, and this gateway does not go on without it")

    async def sweep(self, purge: Purge) -> None:
        """Delete what is gone by a purge. It is not served any more in any case; this frees the room."""
        prefix = _ANSWERS if purge.tenant is None else f"{_ANSWERS}{self.keys.tenant(purge.tenant)}/"
        async for names in self._store.keys(prefix):
            if purge.key:
                names = [name for name in names if name.endswith(purge.key.hex())]
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                for name, value in zip(some, await self._store.get_many(some), strict=True):
                    if value is not None and self._is_gone(name, value, purge):
                        await self._store.remove(name, value)
                await asyncio.sleep(_BREATH)

    def _is_gone(self, name: str, value: bytes, purge: Purge) -> bool:
        _, tenant_id, key = name.split("/")
        packed = self.seals.open(value, _place(tenant_id, bytes.fromhex(key)))
        return packed is not None and purge.hits(bytes.fromhex(key), Entry(packed))

    async def _put(self, key: bytes, entry: Entry) -> None:
        seconds = entry.left(self._wall())
        if seconds > 0:
            value = self.seals.close(entry.packed, _place(self.keys.tenant(entry.tenant), key))
            await self._store.put(self._name(key, entry.tenant), value, seconds)

    def _read(self, value: bytes, key: bytes, tenant: str, leased: bytes | None = None) -> Entry | None:
        if not value or (leased is None and (leases.holder_of(value) is not None or leases.is_void(value))):
            return None
        packed = self.seals.open(value, _place(self.keys.tenant(tenant), key))
        if packed is None:
            self._counts.corrupt += 1
            return None
        try:
            entry = Entry(packed)
        except ValueError:  # of another version
            self._counts.corrupt += 1
            return None
        return None if self._purges.is_purged(key, entry) or entry.left(self._wall()) <= 0 else entry

    def _leased(self, name: str, held: bytes, stale: Entry | None = None) -> Lease:
        left = 0.0 if stale is None else stale.left(self._wall())
        return Lease(self._store, name, held, left, self._spawn)

    def _name(self, key: bytes, tenant: str) -> str:
        return f"{_ANSWERS}{self.keys.tenant(tenant)}/{key.hex()}"


def _place(tenant_id: str, key: bytes) -> bytes:
    return tenant_id.encode() + key
