"""Where answers are kept, and how they are found: in this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from parley_server.pipeline.cache.counts import Counts
from parley_server.pipeline.cache.entry import Entry
from parley_server.pipeline.cache.keys import Keys
from parley_server.pipeline.cache.memory import Memory
from parley_server.pipeline.cache.purges import Purge, Purges, next_revision, numbered

_LAST = 1.0  # seconds that what is under way gets at the end


class Answers:
    """Answers by key. It outlives the stacks that use it. `wall`: Unix time in seconds."""

    def __init__(self, keys: Keys, max_bytes: int, wall: Callable[[], float]) -> None:
        self.keys = keys
        self.counts = Counts()
        self.wall = wall
        self.started = wall()
        self.memory = Memory(max_bytes, self._evicted)
        self.purges = Purges()
        self._tasks: set[asyncio.Task[None]] = set()

    def local(self, key: bytes) -> Entry | None:
        """What is in memory and of any use, be it past its time."""
        entry = self.memory.get(key)
        if entry is None:
            return None
        if self.purges.is_purged(key, entry) or entry.left(self.wall()) <= 0:
            self.memory.remove(key)
            return None
        return entry

    async def several(self, keys: Iterable[bytes], tenant: str) -> dict[bytes, Entry]:
        """Those of several answers that are there and good."""
        now = self.wall()
        found: dict[bytes, Entry] = {}
        for key in keys:
            entry = self.local(key)
            if entry is not None and entry.is_fresh(now):
                self.counts.memory_hits += 1
                self.counts.save(entry.saved)
                found[key] = entry
        return found

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an answer."""
        self.counts.writes += 1
        self.memory.put(key, entry)

    async def purge(self, purge: Purge) -> int:
        """Forget answers, those of calls under way included. Gives how many of them were in memory."""
        self.purges.add(numbered(purge, next_revision(self.purges.revision, self.wall())))
        gone = 0
        for piece in self.memory.pieces():
            gone += sum(self.memory.remove(key) for key, entry in piece if self.purges.is_purged(key, entry))
        return gone

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Give what is done in the background a moment, and stop it."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _evicted(self) -> None:
        self.counts.evictions += 1
