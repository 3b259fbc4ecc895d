"""Where answers are kept, and how they are found: in this process's memory, then in the store that gateways share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from parley_server.pipeline.cache.bulletin import Bulletin
from parley_server.pipeline.cache.counts import Counts
from parley_server.pipeline.cache.entry import Entry
from parley_server.pipeline.cache.keys import Keys
from parley_server.pipeline.cache.lease import Lease
from parley_server.pipeline.cache.memory import Memory
from parley_server.pipeline.cache.purges import Purge, Purges, next_revision, numbered
from parley_server.pipeline.cache.store import Claim, SharedAnswers
from parley_server.stores.keyvalue import KeyValue, Messages, StoreUnavailable
from parley_server.stores.sealing import Seals

_LAST = 1.0  # seconds that what is under way gets at the end
_MOST_WAITING = 1000  # things done in the background at a time; more are left out

log = structlog.get_logger("parley.cache")


class Answers:
    """Answers by key. It outlives the stacks that use it.

    `shared`: a store and its messages, where several gateways have one together. `wall`: Unix time in seconds.
    `is_needed`: whether calls that are cached fail, with StateUnavailable, while that store cannot be asked; otherwise
    it is then as if nothing were in it.
    """

    def __init__(
        self,
        keys: Keys,
        max_bytes: int,
        wall: Callable[[], float],
        *,
        shared: tuple[KeyValue, Messages] | None = None,
        seals: Seals | None = None,
        is_needed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.keys = keys
        self.counts = Counts()
        self.wall = wall
        self.started = wall()
        self.memory = Memory(max_bytes, self._evicted)
        self.purges = Purges()
        self._swept = 0  # purges that what is in memory has been held against
        self.on_purge: Callable[[Purge], Coroutine[Any, Any, None]] | None = None
        """Called in the background with every purge that is made here."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._attending: asyncio.Task[None] | None = None
        self._shared: SharedAnswers | None = None
        if shared is not None:
            store, messages = shared
            seals = seals or Seals(b"")
            self._shared = SharedAnswers(store, keys, seals, self.purges, self.counts, wall, self.later, is_needed)
            self._bulletin = Bulletin(store, messages, self.purges, wall, lambda _: self.later(self._forget()))

    def start(self) -> None:
        """Begin to learn of purges."""
        if self._shared is not None:
            self._attending = asyncio.create_task(self._bulletin.attend())

    def adapt(self, keys: Keys, max_bytes: int) -> None:
        """Go on with other settings."""
        self.keys = keys
        self.memory.max_bytes = max_bytes
        if self._shared is not None:
            self._shared.keys = keys

    @property
    def are_shared(self) -> bool:
        """Whether there is a shared store, be it one that cannot be asked now."""
        return self._shared is not None

    def _store(self) -> SharedAnswers | None:
        """The shared store, if there is one that may be trusted: that is, once all purges are known."""
        if self._shared is None or self._bulletin.is_current:
            return self._shared
        self._shared.failed()
        return None

    def local(self, key: bytes) -> Entry | None:
        """What is in memory and of any use, be it past its time."""
        entry = self.memory.get(key)
        if entry is None:
            return None
        if entry.left(self.wall()) <= 0 or (self._swept != self.purges.arrived and self.purges.is_purged(key, entry)):
            self.memory.remove(key)
            return None
        return entry

    async def several(self, keys: Sequence[bytes], tenant: str) -> dict[bytes, Entry]:
        """Those of several answers that are there and good."""
        now = self.wall()
        found = {key: entry for key in keys if (entry := self.local(key)) is not None and entry.is_fresh(now)}
        self.counts.memory_hits += len(found)
        lacking = [key for key in dict.fromkeys(keys) if key not in found]
        if lacking and (store := self._store()) is not None:
            for key, entry in zip(lacking, await store.get(lacking, tenant), strict=True):
                if entry is not None and entry.is_fresh(now):
                    self.counts.shared_hits += 1
                    self.memory.put(key, entry)
                    found[key] = entry
        for entry in found.values():
            self.counts.save(entry.saved)
        return found

    async def claim(self, key: bytes, tenant: str, stale_for: float, *, waits: bool = True) -> Claim:
        """What the shared store has, or the lease to make it; see there."""
        if (store := self._store()) is None:
            return Claim()
        claim = await store.claim(key, tenant, stale_for, waits=waits)
        if claim.entry is not None and claim.lease is None:
            self.memory.put(key, claim.entry)
        return claim

    async def look(self, key: bytes, tenant: str) -> Entry | None:
        """What is in memory or in the shared store and of any use, be it past its time."""
        entry = self.local(key)
        if entry is None and (store := self._store()) is not None:
            [entry] = await store.get([key], tenant)
            if entry is not None:
                self.memory.put(key, entry)
        return entry

    def put(self, entries: Sequence[tuple[bytes, Entry]], lease: Lease | None = None) -> None:
        """Keep answers: here at once, in the shared store as soon as may be. `lease`: of those that lack them."""
        self.counts.writes += len(entries)
        for key, entry in entries:
            if not self.purges.is_purged(key, entry):  # since it was asked for
                self.memory.put(key, entry)
        if self._shared is not None:
            self.later(self._shared.put(entries, lease))

    async def purge(self, purge: Purge) -> int:
        """Forget answers, those of calls under way included. Gives how many of them were in memory.

        Raises StoreUnavailable: then other gateways do not know of it.
        """
        if self.on_purge is not None:
            self.later(self.on_purge(purge))
        if self._shared is None:
            self.purges.add(numbered(purge, next_revision(self.purges.revision, self.wall())))
            return await self._forget()
        try:
            await self._bulletin.post(purge)
        finally:
            gone = await self._forget()
        self.later(self._sweep(purge))
        return gone

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something in the background, unless too much waits there already."""
        if len(self._tasks) >= _MOST_WAITING:
            self.counts.store_failures += 1
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def aclose(self) -> None:
        """Give what is done in the background a moment, and stop it."""
        if self._attending is not None:
            self._attending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._attending
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug", exc_info=error)

    async def _forget(self) -> int:
        """Let go of what is purged in memory."""
        gone, arrived = 0, self.purges.arrived
        for piece in self.memory.pieces():
            gone += sum(self.memory.remove(key) for key, entry in piece if self.purges.is_purged(key, entry))
            await asyncio.sleep(0)
        self._swept = max(self._swept, arrived)
        return gone

    async def _sweep(self, purge: Purge) -> None:
        assert self._shared is not None  # noqa: S101  # called where there is one
        try:
            await self._shared.sweep(numbered(purge, self.purges.revision))
        except StoreUnavailable:
            log.warning(
                "cache_not_swept", note="what was purged is not served, but stays in the store until it expires"
            )

    def _evicted(self) -> None:
        self.counts.evictions += 1
