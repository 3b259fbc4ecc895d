"""Another server takes over, and the stores find it by themselves."""

from __future__ import annotations

import asyncio
import functools
import time
from signal import SIGCONT, SIGSTOP

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.keyvalue import StoreUnavailable
from tests.stores.requests import LONGEST, Outcomes, request
from tests.stores.servers import ClusterOfThree, Sentinels, Server, ask, wait_for


async def test_sentinels_name_another_primary() -> None:
    """Killed, then the next one hung: each time the other server takes over."""
    servers = await asyncio.to_thread(Sentinels().start)
    stores = shelves.build(load(f"redis: {{url: '{servers.url}'}}", {}))
    try:
        await stores.start()
        values, outcomes = stores.keyvalue("cache"), Outcomes()
        first = servers.primary()
        assert await request(values, outcomes)
        second = next(server for server in servers.servers if server is not first)
        hang, go_on = (lambda number=number: second.signal(number) for number in (SIGSTOP, SIGCONT))
        for end, heal in ((first.kill, first.start), (hang, go_on)):  # both come back as they were: as primaries
            await asyncio.to_thread(end)
            assert not await request(values, outcomes)
            begun = time.perf_counter()
            while not await request(values, outcomes):
                assert time.perf_counter() - begun < 10, "half a second to notice, then an election"
                await asyncio.sleep(0.02)
            assert outcomes.longest < LONGEST
            new = servers.primary()
            assert all([await request(values, outcomes) for _ in range(50)])
            await asyncio.to_thread(heal)
            other = next(server for server in servers.servers if server is not new)
            ask(other.port, "REPLICAOF", "127.0.0.1", str(new.port))  # Sentinels take ten seconds to do so
            await asyncio.to_thread(wait_for, functools.partial(says, other, "master_link_status:up"))
            assert says(new, "role:master")
            assert all([await request(values, outcomes) for _ in range(50)])
        assert stores.health.degraded == ()
    finally:
        await stores.aclose()
        servers.close()


def says(server: Server, text: str) -> bool:
    return text in ask(server.port, "INFO", "replication")


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
