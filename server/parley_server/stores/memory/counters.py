"""Counters in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parley_server.core.limits import Count
from parley_server.stores.counters import Decision, Grant, Limit, decide, fitted

_FOR_EVER = 2**62
_SWEEP = 1000  # counts beyond which those that say nothing any more are looked for


class MemoryCounters:
    """Counters of one process. `clock` gives seconds. Slots end with the process, unless they have a `lease` in ms."""

    def __init__(self, clock: Callable[[], float], lease: int = _FOR_EVER) -> None:
        self._clock = clock
        self._lease = lease
        self._counts: dict[tuple[str, str], Count] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._counts)

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        return decide(group, limits, self._of(group, limits), fitted(limits, calls), self._now(), self._lease)

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        now = self._now()
        counts = self._of(grant.group, grant.limits)
        for count, mark, reserved, spent in zip(counts, grant.marks, grant.costs, used, strict=True):
            count.settle(now, mark, reserved, spent, grant.holder)

    async def told(self) -> None:
        """It knows at once."""

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _of(self, group: str, limits: Sequence[Limit]) -> list[Count]:
        counts = []
        for limit in limits:
            key = (group, limit.key)
            count = self._counts.get(key)
            if count is None:
                if len(self._counts) >= self._sweep_at:
                    self._sweep()
                count = self._counts[key] = limit.rule.new()
            count.rule = limit.rule
            counts.append(count)
        return counts

    def _sweep(self) -> None:
        """Forget counts of which nothing is used, as those that are not there."""
        now = self._now()
        for key, count in list(self._counts.items()):
            if count.left(now) >= count.rule.amount:
                del self._counts[key]
        self._sweep_at = max(_SWEEP, 2 * len(self._counts))
