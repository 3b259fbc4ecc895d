"""Vectors in this process's memory and, where there is one, in a store that gateways share.

A partition is read from the store when it is first asked for; from then on messages tell what others add and remove.
Whoever asks waits for that, as long as it likes: the reading goes on without it. Vectors in memory are bounded; the
partitions not used for longest go first, and are read again when they are needed.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from parley_server.stores.groups import Groups, Member
from parley_server.stores.keyvalue import Messages, StoreUnavailable
from parley_server.stores.vectors.base import Near, Vector
from parley_server.stores.vectors.changes import ORIGIN, Change
from parley_server.stores.vectors.packed import pack, unpack
from parley_server.stores.vectors.partition import LARGE, Partition

_CHANNEL = "vectors"
_FEW = 2000  # vectors that are looked through on the event loop: a tenth of a millisecond
_FEW_VALUES = 20  # the same of values that are opened
_RETRY = 2.0  # seconds until a partition that could not be read is read again

log = structlog.get_logger("parley.vectors")

Opened = tuple[bytes, Vector, bytes, float]
"""ID, vector, note, and the seconds that are left."""


class Seal(Protocol):
    """Makes values unreadable for others, or at least noticeable where they were changed."""

    def close(self, packed: bytes, place: bytes) -> bytes:
        """The value as it is stored at `place`."""
        ...

    def open(self, value: bytes, place: bytes) -> bytes | None:
        """What was stored there; None if it is damaged, or not from here."""
        ...


@dataclass(frozen=True, slots=True)
class SharedVectors:
    """What gateways share: a store, somebody who tells of changes, and how values are sealed."""

    groups: Groups
    messages: Messages
    seal: Seal


@dataclass(slots=True, eq=False)
class _Held:
    """A partition in memory."""

    vectors: Partition | None = None
    current: bool = False
    """Whether it has all that the store has."""
    reading: asyncio.Task[None] | None = None
    again: float = 0.0
    """Not to be read before."""
    meanwhile: list[Change] = field(default_factory=list)
    """What happened while it was read."""

    def __len__(self) -> int:
        return 0 if self.vectors is None else len(self.vectors)

    def __contains__(self, id: bytes) -> bool:
        return self.vectors is not None and id in self.vectors

    @property
    def weight(self) -> int:
        """Vectors that it counts for: an empty one takes room too."""
        return max(1, len(self))


class VectorIndex:
    """Vectors, see base.py. `most`: how many are held in memory. `clock` gives seconds and never goes back."""

    def __init__(
        self, most: int, clock: Callable[[], float], shared: SharedVectors | None = None, *, large: int = LARGE
    ) -> None:
        self.most = most
        self.failures = 0
        """Requests to the store that came to nothing."""
        self.corrupt = 0
        """Values in it that were damaged, or not from here."""
        self._clock = clock
        self._shared = shared
        self._large = large
        self._origin = os.urandom(ORIGIN)
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._weight = 0
        self._missed = 0  # how often changes may have been missed
        self._tasks: set[asyncio.Task[None]] = set()
        self._growing = False
        self._searcher = ThreadPoolExecutor(1, "vectors-search")  # threads are made when they are needed
        self._builder = ThreadPoolExecutor(1, "vectors-build")

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    @property
    def partitions(self) -> int:
        """Those in memory."""
        return len(self._held)

    def start(self) -> None:
        """Begin to learn what others change."""
        if self._shared is not None:
            self._mind(asyncio.create_task(self._listen(self._shared.messages)))

    async def aclose(self) -> None:
        """Stop all work in the background."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._searcher.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._builder.shutdown, cancel_futures=True)

    async def is_empty(self, partition: bytes) -> bool:
        return not len(await self._ready(partition))

    async def find(self, partition: bytes, vector: Vector, least: float, most: int) -> Sequence[Near]:
        vectors = (await self._ready(partition)).vectors
        if vectors is None or vectors.width != len(vector):
            return ()
        if len(vectors) <= _FEW:
            return vectors.find(vector, least, most, self._clock())
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._searcher, vectors.find, vector, least, most, self._clock())

    async def add(self, partition: bytes, id: bytes, vector: Vector, note: bytes, ttl: float) -> None:
        if self._shared is None:
            self._put(self._at(partition), id, vector, note, ttl)
            return
        change = Change(self._origin, partition, id, self._shared.seal.close(pack(vector, note), partition + id), ttl)
        if (held := self._held.get(partition)) is not None:
            self._put(held, id, vector, note, ttl)
        try:
            await self._shared.groups.put(_group(partition), id, change.value, ttl)
            await self._shared.messages.publish(_CHANNEL, change.pack())
        except StoreUnavailable:
            self.failures += 1
        self._settle(change)

    async def remove(self, partition: bytes, ids: Sequence[bytes]) -> None:
        changes = [Change(self._origin, partition, id, b"", 0) for id in ids]
        for change in changes:
            self._take(change)
        if self._shared is None or not changes:
            return
        try:
            await self._shared.groups.remove(_group(partition), ids)
            for change in changes:
                await self._shared.messages.publish(_CHANNEL, change.pack())
        except StoreUnavailable:
            self.failures += 1
        for change in changes:
            self._settle(change)

    async def drop(self, prefix: bytes) -> None:
        self._drop(prefix)
        if self._shared is None:
            return
        try:
            await self._shared.groups.drop(_group(prefix))
            await self._shared.messages.publish(_CHANNEL, Change(self._origin, prefix, b"", b"", 0).pack())
        except StoreUnavailable:
            self.failures += 1
        self._drop(prefix)  # what was read or kept meanwhile

    def _at(self, partition: bytes) -> _Held:
        """The partition, which is now the one used last."""
        held = self._held.get(partition)
        if held is None:
            held = self._held[partition] = _Held()
            self._weigh(held.weight)
        else:
            self._held.move_to_end(partition)
        return held

    async def _ready(self, partition: bytes) -> _Held:
        """The partition, with what the store has of it if that can be had."""
        held = self._at(partition)
        if self._shared is None or held.current:
            return held
        if held.reading is None and self._clock() >= held.again:
            held.reading = asyncio.create_task(self._read(self._shared, partition, held))
            self._mind(held.reading)
        if held.reading is not None and not len(held):  # what was there before is better than to wait
            await asyncio.shield(held.reading)
        return held

    async def _read(self, shared: SharedVectors, partition: bytes, held: _Held) -> None:
        missed, fresh = self._missed, _Held()
        held.meanwhile.clear()
        try:
            async for members in shared.groups.read(_group(partition)):
                for id, vector, note, left in await self._opened(shared.seal, partition, members):
                    self._insert(fresh, id, vector, note, left)
                if len(fresh) >= self.most:
                    break
        except StoreUnavailable:
            self.failures += 1
            held.again = self._clock() + _RETRY
            return
        finally:
            held.reading = None
        before = held.weight
        held.vectors, held.current = fresh.vectors, missed == self._missed
        for change in held.meanwhile:
            self._apply(held, change)
        held.meanwhile.clear()
        if self._held.get(partition) is held:
            self._weigh(held.weight - before)
            self._grow(held)

    async def _opened(self, seal: Seal, partition: bytes, members: Sequence[Member]) -> list[Opened]:
        def opened() -> list[Opened]:
            values = ((member, _unsealed(seal, partition, member.name, member.value)) for member in members)
            return [(member.name, *found, member.left) for member, found in values if found is not None]

        found = opened() if len(members) <= _FEW_VALUES else await asyncio.to_thread(opened)
        self.corrupt += len(members) - len(found)
        return found

    async def _listen(self, messages: Messages) -> None:
        async for message in messages.listen(_CHANNEL):
            if message is None:  # others may have made changes that we were not told of
                self._missed += 1
                for held in self._held.values():
                    held.current = False
                continue
            try:
                change = Change.unpack(message)
            except ValueError:
                self.corrupt += 1
                continue
            if change.origin == self._origin:
                continue
            if change.id:
                self._take(change)
            else:
                self._drop(change.partition)

    def _take(self, change: Change) -> None:
        """Make a change in memory, and again once what is being read now has taken its place."""
        held = self._held.get(change.partition)
        if held is None:
            return
        if held.reading is not None:
            held.meanwhile.append(change)
        before = held.weight
        self._apply(held, change)
        self._weigh(held.weight - before)
        self._grow(held)

    def _drop(self, prefix: bytes) -> None:
        for partition in [partition for partition in self._held if partition.startswith(prefix)]:
            self._weight -= self._held.pop(partition).weight

    def _settle(self, change: Change) -> None:
        """The store knows of our change: see that it is not undone by what was read before it did."""
        held = self._held.get(change.partition)
        if held is not None and (held.reading is not None or (change.id in held) != bool(change.value)):
            self._take(change)

    def _apply(self, held: _Held, change: Change) -> None:
        if not change.value:
            if held.vectors is not None:
                held.vectors.remove(change.id)
        elif self._shared is not None:
            found = _unsealed(self._shared.seal, change.partition, change.id, change.value)
            if found is None:
                self.corrupt += 1
            else:
                self._insert(held, change.id, *found, change.ttl)

    def _put(self, held: _Held, id: bytes, vector: Vector, note: bytes, ttl: float) -> None:
        before = held.weight
        self._insert(held, id, vector, note, ttl)
        self._weigh(held.weight - before)
        self._grow(held)

    def _insert(self, held: _Held, id: bytes, vector: Vector, note: bytes, ttl: float) -> None:
        if held.vectors is None or held.vectors.width != len(vector):
            held.vectors = Partition(len(vector), self.most, self._large)
        now = self._clock()
        held.vectors.add(id, vector, note, now + ttl, now)

    def _weigh(self, more: int) -> None:
        """Memory is taken, or given back; if there is too much, the partitions not used for longest go."""
        self._weight += more
        while self._weight > self.most and len(self._held) > 1:
            partition, held = next(iter(self._held.items()))
            del self._held[partition]
            self._weight -= held.weight

    def _grow(self, held: _Held) -> None:
        if not self._growing and held.vectors is not None and held.vectors.wants_to_grow:
            self._growing = True
            self._mind(asyncio.create_task(self._build(held.vectors)))

    async def _build(self, vectors: Partition) -> None:
        """Bring the graph of a large partition up to date."""
        loop = asyncio.get_running_loop()
        try:
            while await loop.run_in_executor(self._builder, vectors.grow, self._clock()):
                pass
        finally:
            self._growing = False

    def _mind(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug", exc_info=error)


def _group(partition: bytes) -> str:
    return f"{_CHANNEL}:{partition.hex()}"


def _unsealed(seal: Seal, partition: bytes, id: bytes, value: bytes) -> tuple[Vector, bytes] | None:
    packed = seal.open(value, partition + id)
    if packed is None:
        return None
    try:
        return unpack(packed)
    except ValueError:
        return None
