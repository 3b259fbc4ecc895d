"""Who is next: a queue in which a caller who asks much does not hold up those who ask little.

Start-time fair queueing. Every entry has a virtual start: one behind the caller's entry before it, but not before the
queue's own virtual time, which is the start of the entry that went last. So callers take turns, however many entries
each has waiting. A priority is a head start of so many turns: it goes first, and yet nobody waits for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")

HEAD_START = 8.0
"""Turns that one step of priority is worth."""


class FairQueue(Generic[Item]):
    """Entries in order of their turn. Adding and taking cost O(log n); an entry that is withdrawn is passed over."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, float, Hashable, Item]] = []
        self._last_start: dict[Hashable, float] = {}  # of callers with entries in the heap
        self._waiting: dict[Hashable, int] = {}
        self._live: set[int] = set()  # numbers of entries neither taken nor withdrawn
        self._virtual_time = 0.0
        self._number = 0

    def __len__(self) -> int:
        return len(self._live)

    def add(self, item: Item, caller: Hashable, priority: int = 0) -> int:
        """Put `item` into the queue; gives the number to withdraw it by."""
        start = max(self._virtual_time, self._last_start.get(caller, self._virtual_time - 1.0) + 1.0)
        self._last_start[caller] = start
        self._waiting[caller] = self._waiting.get(caller, 0) + 1
        self._number += 1
        self._live.add(self._number)
        heapq.heappush(self._heap, (start - priority * HEAD_START, self._number, start, caller, item))
        return self._number

    def withdraw(self, number: int) -> None:
        """Take an entry out; nothing happens if its turn has come already."""
        self._live.discard(number)

    def take(self) -> Item | None:
        """The next one; None if nobody waits."""
        while self._heap:
            _, number, start, caller, item = heapq.heappop(self._heap)
            self._forget(caller)
            if number in self._live:
                self._live.discard(number)
                self._virtual_time = max(self._virtual_time, start)
                return item
        return None

    def _forget(self, caller: Hashable) -> None:
        self._waiting[caller] -= 1
        if not self._waiting[caller]:
            del self._waiting[caller], self._last_start[caller]
