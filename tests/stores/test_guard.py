"""When a store is left alone, and when it is asked again: on fake time."""

from __future__ import annotations

import asyncio
import time

import pytest

from parley_server.stores.guard import Guards
from parley_server.stores.health import StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.redis.server import Lag
from parley_server.stores.settings import OnFailure
from tests.fakes import run


class Store:
    """Answers, or does not."""

    def __init__(self) -> None:
        self.there = True
        self.asked = self.pinged = 0
        self.clock = asyncio.get_running_loop().time
        self.health = StoreHealth(OnFailure().modes(), 1, self.clock)
        self.guards = Guards("the store", self.ping, self.health, self.clock)

    async def ask(self) -> int:
        self.asked += 1
        await asyncio.sleep(0.001)
        if not self.there:
            raise StoreUnavailable("the store is gone")
        return self.asked

    async def ping(self) -> None:
        self.pinged += 1
        if not self.there:
            raise StoreUnavailable("the store is gone")

    async def refuses(self, message: str) -> None:
        with pytest.raises(StoreUnavailable, match=message):
            await self.guards["cache"].watch(self.ask)


def test_three_failures_and_it_is_not_asked_before_a_probe_has_found_it() -> None:
    async def main() -> None:
        store = Store()
        assert await store.guards["cache"].watch(store.ask) == 1
        store.there = False
        for _ in range(3):
            await store.refuses("the store is gone")
        for _ in range(100):
            await store.refuses("the store is left alone for a moment")
        assert store.asked == 4
        await asyncio.sleep(60)
        assert 100 <= store.pinged <= 140, "twice a second"
        assert store.health.degraded == ("cache",)
        assert store.guards["limits"].circuit.state() == "closed", "that has asked for nothing"
        store.there = True
        await asyncio.sleep(0.6)
        assert not store.health.degraded
        pinged = store.pinged
        assert await store.guards["cache"].watch(store.ask) == 5
        await asyncio.sleep(60)
        assert store.pinged == pinged, "who is there is left in peace"
        await store.guards.aclose()

    run(main())


def test_half_of_the_requests_failing_is_enough() -> None:
    async def main() -> None:
        store = Store()
        for number in range(30):
            store.there = number % 2 == 0
            if store.guards["cache"].circuit.state() != "closed":
                break
            if store.there:
                await store.guards["cache"].watch(store.ask)
            else:
                await store.refuses("the store is gone")
        assert store.guards["cache"].circuit.state() == "open"
        await store.guards.aclose()

    run(main())


def test_what_is_doubted_is_looked_at_and_left_alone_by_all() -> None:
    async def main() -> None:
        store = Store()
        store.guards.doubt()
        await asyncio.sleep(1)
        assert (store.pinged, store.health.degraded) == (1, ())
        store.there = False
        store.guards.doubt()
        store.guards.doubt()
        await asyncio.sleep(0.01)
        assert store.health.degraded == ("cache", "limits", "idempotency", "resume")
        store.there = True
        await asyncio.sleep(0.6)
        assert not store.health.degraded
        await store.guards.aclose()

    run(main())


async def test_a_pause_of_this_process_is_told_from_a_slow_server() -> None:
    lag = Lag()
    await asyncio.sleep(0.05)
    time.sleep(0.2)  # noqa: ASYNC251  # this is the pause
    late = lag.stop()
    assert 0.15 < late < 0.25
    lag = Lag()
    await asyncio.sleep(0.01)
    time.sleep(0.2)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert 0.15 < lag.stop() < 1
