"""What becomes of a store while its server is stopped, killed, hung, slow, read-only, full, failing over or cut off.

Each trouble goes the same way: nothing but StoreUnavailable comes out, within a second; soon requests cost next to
nothing; and once the server is back so is the store, within two seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP

import pytest
import structlog

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.keyvalue import KeyValue
from tests.stores.proxy import Proxy
from tests.stores.requests import BACK, CHEAP, LONGEST, Outcomes, request
from tests.stores.servers import REDIS, VALKEY, Server, ask

Do = Callable[[], Awaitable[None]]


@dataclass
class Trouble:
    """What goes wrong with the server at `url`, and how that ends."""

    url: str
    begin: Do
    end: Do
    reads: bool = False
    """Values can be read all the while."""
    detail: str = ""
    """What is said of it."""


async def soon(work: Callable[[], object]) -> None:
    await asyncio.to_thread(work)


@asynccontextmanager
async def stopped(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary).start()
    try:
        yield Trouble(server.url, lambda: soon(server.stop), lambda: soon(server.start), detail="cannot be reached")
    finally:
        server.close()


@asynccontextmanager
async def killed(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary).start()
    try:
        yield Trouble(server.url, lambda: soon(server.kill), lambda: soon(server.start), detail="cannot be reached")
    finally:
        server.close()


@asynccontextmanager
async def hung(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary).start()
    try:
        begin, end = (lambda number=number: soon(lambda: server.signal(number)) for number in (SIGSTOP, SIGCONT))
        yield Trouble(server.url, begin, end, detail="does not answer within 0.5 s")
    finally:
        server.close()


@asynccontextmanager
async def read_only(binary: str) -> AsyncIterator[Trouble]:
    server, other = Server(binary).start(), Server(binary).start()
    try:
        yield Trouble(
            server.url,
            lambda: soon(lambda: ask(server.port, "REPLICAOF", "127.0.0.1", str(other.port))),
            lambda: soon(lambda: ask(server.port, "REPLICAOF", "NO", "ONE")),
            detail="does not take writes: it is a replica",
        )
    finally:
        server.close()
        other.close()


@asynccontextmanager
async def full(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary, ["maxmemory-policy noeviction"]).start()
    try:
        yield Trouble(
            server.url,
            lambda: soon(lambda: ask(server.port, "CONFIG", "SET", "maxmemory", "1")),
            lambda: soon(lambda: ask(server.port, "CONFIG", "SET", "maxmemory", "0")),
            reads=True,
            detail="has no memory left for writes (maxmemory)",
        )
    finally:
        server.close()


@asynccontextmanager
async def slow(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary).start()
    try:
        async with Proxy(server.port) as proxy:

            async def late(seconds: float) -> None:
                proxy.delay = seconds

            url = f"redis://127.0.0.1:{proxy.port}"
            yield Trouble(url, lambda: late(0.2), lambda: late(0), detail="answers only after 0.2")
    finally:
        server.close()


@asynccontextmanager
async def cut_off(binary: str) -> AsyncIterator[Trouble]:
    server = Server(binary).start()
    try:
        async with Proxy(server.port) as proxy:

            async def swallow(really: bool) -> None:
                proxy.swallow = really

            url = f"redis://127.0.0.1:{proxy.port}"
            yield Trouble(url, lambda: swallow(True), lambda: swallow(False), detail="does not answer within 0.5 s")
    finally:
        server.close()


TROUBLES = {
    "stopped": stopped,
    "killed": killed,
    "hung": hung,
    "read_only": read_only,
    "full": full,
    "slow": slow,
    "cut_off": cut_off,
}
BINARIES = [pytest.param(VALKEY, id="valkey")]
BINARIES += [
    pytest.param(
        REDIS, id="debian_redis", marks=pytest.mark.skipif(REDIS is None, reason="no redis-server on the PATH")
    )
]


async def until_left_alone(values: KeyValue, stores: shelves.Stores) -> Outcomes:
    """Ask until it is known that the server is of no use, by several at a time."""
    outcomes = Outcomes()
    async with asyncio.timeout(8):
        while "cache" not in stores.health.degraded:
            await asyncio.gather(*(request(values, outcomes) for _ in range(3)))
    return outcomes


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("name", TROUBLES)
async def test_a_trouble_is_bounded_cheap_and_passes(name: str, binary: str) -> None:
    with structlog.testing.capture_logs() as log:
        async with TROUBLES[name](binary) as trouble:
            stores = shelves.build(load(f"redis: {{url: '{trouble.url}'}}", {}))
            await stores.start()
            values = stores.keyvalue("cache")
            assert await request(values, Outcomes())
            assert "cache" not in stores.health.degraded

            await trouble.begin()
            outcomes = await until_left_alone(values, stores)
            assert outcomes.longest < LONGEST
            after = Outcomes()
            for _ in range(100):
                assert not await request(values, after)
                await asyncio.sleep(0.01)
            assert median(after.failed) < CHEAP, "the median: this machine does other things too"
            assert sorted(after.failed)[-5] < 10 * CHEAP, "nor does one in twenty wait for a probe"
            if trouble.reads:
                assert await values.get("a") == b"1"

            await trouble.end()
            back = time.perf_counter()
            while not await request(values, outcomes):
                assert time.perf_counter() - back < BACK
                await asyncio.sleep(0.005)
            while "cache" in stores.health.degraded:
                assert time.perf_counter() - back < BACK + 1, "a refusal is told of for two seconds"
                await asyncio.sleep(0.01)
            await stores.aclose()
    mine = [line for line in log if line.get("purpose") == "cache"]
    assert [line["event"] for line in mine] == ["store_down", "store_up"], "two lines, whatever number of failures"
    assert trouble.detail in mine[0]["reason"]
    assert mine[0]["on_failure"] == "open"
    assert mine[1]["failures"] >= 100
