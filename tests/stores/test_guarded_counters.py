"""What counters do while the store that others share is not there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from parley_server.core.limits import Rule
from parley_server.stores.counters import Decision, Grant, Limit
from parley_server.stores.guarded_counters import GuardedCounters
from parley_server.stores.health import Mode, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.counters import MemoryCounters

LIMITS = (Limit("requests", Rule("window", 10, 10_000)), Limit("tokens", Rule("bucket", 1000, 60_000)))


class Away(MemoryCounters):
    """Counters that can be away."""

    def __init__(self) -> None:
        super().__init__(lambda: 1000.0)
        self.away = False
        self.settled: list[Grant] = []

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        if self.away:
            raise StoreUnavailable("away")
        return await super().take(group, limits, calls)

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        self.settled.append(grant)
        super().settle(grant, used)


def guarded(mode: Mode) -> tuple[GuardedCounters, Away]:
    health = StoreHealth({"limits": mode, "cache": "open", "idempotency": "closed", "resume": "degraded"}, 4, lambda: 0)
    shared = Away()
    return GuardedCounters(shared, MemoryCounters(lambda: 1000.0), health), shared


async def admitted(counters: GuardedCounters, calls: int) -> list[Grant]:
    return [grant for _ in range(calls) for grant in (await counters.take("g", LIMITS, [(1, 10)])).grants]


async def test_each_goes_on_with_its_share_of_the_limit() -> None:
    counters, shared = guarded("local")
    assert len(await admitted(counters, 5)) == 5
    shared.away = True
    here = await admitted(counters, 20)
    assert len(here) == 2, "a quarter of ten, whatever was used before"
    counters.settle(here[0], (0, 0))
    assert len(await admitted(counters, 20)) == 1, "what is given back here is used here"
    assert not shared.settled
    shared.away = False
    assert len(await admitted(counters, 20)) == 5, "and what is shared goes on where it was"
    counters.settle(here[1], (0, 0))
    assert not shared.settled


async def test_all_are_let_through() -> None:
    counters, shared = guarded("open")
    shared.away = True
    here = await admitted(counters, 50)
    assert len(here) == 50
    counters.settle(here[0], (1, 5))
    decision = await counters.take("g", LIMITS, [(1, 10)])
    assert [level.left for level in decision.levels] == [10, 1000]
    assert not shared.settled


async def test_or_nobody() -> None:
    counters, shared = guarded("closed")
    shared.away = True
    with pytest.raises(StoreUnavailable):
        await admitted(counters, 1)
