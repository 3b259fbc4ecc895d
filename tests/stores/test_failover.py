"""Another server takes over, and the stores find it by themselves."""

from __future__ import annotations

import asyncio
import functools
import time
from signal import SIGCONT, SIGSTOP

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.keyvalue import StoreUnavailable
from tests.stores.requests import BACK, LONGEST, Outcomes, request
from tests.stores.servers import ClusterOfThree, Sentinels, ask, wait_for


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_sentinels_name_another_primary(how: str) -> None:
    servers = await asyncio.to_thread(Sentinels().start)
    stores = shelves.build(load(f"redis: {{url: '{servers.url}'}}", {}))
    try:
        await stores.start()
        values, outcomes = stores.keyvalue("cache"), Outcomes()
        old = servers.primary()
        new = next(server for server in servers.servers if server is not old)
        assert await request(values, outcomes)
        await asyncio.to_thread(old.kill if how == "killed" else functools.partial(old.signal, SIGSTOP))
        assert not await request(values, outcomes)
        switched = asyncio.create_task(asyncio.to_thread(wait_for, lambda: servers.primary() is new))
        while not await request(values, outcomes):
            await asyncio.sleep(0.02)
            if switched.done():
                break
        await switched
        begun = time.perf_counter()
        while not await request(values, outcomes):
            assert time.perf_counter() - begun < BACK, "the Sentinels agree by now"
            await asyncio.sleep(0.02)
        assert outcomes.longest < LONGEST
        if how == "hung":
            old.signal(SIGCONT)  # and takes itself for the primary still
        assert all([await request(values, outcomes) for _ in range(50)])
        await values.put("new", b"1", 60)
        assert "parley:cache:new" in ask(new.port, "KEYS", "*")
        assert "cache" not in stores.health.degraded
    finally:
        await stores.aclose()
        servers.close()


async def test_a_replica_takes_over_in_a_cluster() -> None:
    servers = await asyncio.to_thread(ClusterOfThree(replicas=1).start)
    stores = shelves.build(load(f"redis: {{url: '{servers.url}'}}", {}))
    try:
        await stores.start()
        values = stores.keyvalue("cache")
        keys = [f"{number}" for number in range(100)]
        await asyncio.gather(*(values.put(key, b"1", 60) for key in keys))
        assert await values.get_many(keys) == [b"1"] * 100
        listener = stores.messages("cache").listen("news")
        assert await anext(listener) is None
        servers.servers[0].kill()
        begun, failed = time.perf_counter(), 0
        while True:
            try:
                await asyncio.gather(*(values.put(key, b"2", 60) for key in keys))
                break
            except StoreUnavailable:
                failed += 1
            assert time.perf_counter() - begun < 15, "a second to notice, then an election"
            await asyncio.sleep(0.05)
        assert failed
        assert await values.get_many(keys) == [b"2"] * 100
        found = [key async for some in values.keys("") for key in some]
        assert sorted(found) == sorted(keys)
        while stores.health.degraded:
            assert time.perf_counter() - begun < 15
            await asyncio.sleep(0.05)
        await stores.messages("cache").publish("news", b"1")
        async with asyncio.timeout(5):
            while await anext(listener) != b"1":
                pass
        await listener.aclose()  # type: ignore[attr-defined]
    finally:
        await stores.aclose()
        servers.close()
