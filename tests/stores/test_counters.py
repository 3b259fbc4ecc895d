"""What every store of counters does; and that they all count alike, on real servers and in files."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley_server.config import load
from parley_server.core.limits import SLOT_WAIT, Rule
from parley_server.stores.counters import LEASE, LEASE_MS, Counters, Decision, Grant, Limit
from parley_server.stores.health import StoreHealth
from parley_server.stores.memory.counters import MemoryCounters
from parley_server.stores.redis.counters import RedisCounters
from parley_server.stores.redis.server import RedisServer
from parley_server.stores.sqlite.counters import STEPS, SqliteCounters
from parley_server.stores.sqlite.database import Database
from tests.stores.servers import ClusterOfThree, Server

REQUESTS = Limit("requests", Rule("window", 10, 10_000))
TOKENS = Limit("tokens", Rule("bucket", 1000, 60_000))
SLOTS = Limit("slots", Rule("slots", 3))
ALL = (REQUESTS, TOKENS, SLOTS)
BEGIN = 1_790_000_000_000


@dataclass
class Shelf:
    """A store, and another one on top of the same counts (None: there is none). `now` is the time of both, in ms."""

    counters: Counters
    other: Counters | None
    set_now: Callable[[int], None]
    now: int = BEGIN

    def passes(self, seconds: float) -> None:
        self.now += round(seconds * 1000)
        self.set_now(self.now)

    async def one(self, *costs: int, limits: tuple[Limit, ...] = ALL, group: str = "g") -> Decision:
        return await self.counters.take(group, limits, [costs])

    async def settle(self, grant: Grant, used: Sequence[int]) -> None:
        self.counters.settle(grant, used)
        await self.counters.told()

    async def take(self, *costs: int, limits: tuple[Limit, ...] = ALL, group: str = "g") -> Grant:
        [grant] = (await self.one(*costs, limits=limits, group=group)).grants
        return grant


@asynccontextmanager
async def in_memory(lease: int = 2**62, **_: Any) -> AsyncIterator[Shelf]:
    now = [BEGIN]
    yield Shelf(MemoryCounters(lambda: (now[0] + 0.5) / 1000, lease), None, lambda at: now.__setitem__(0, at))


@asynccontextmanager
async def in_sqlite(folder: Path, **_: Any) -> AsyncIterator[Shelf]:
    now = [BEGIN]
    path = folder / f"{uuid.uuid4().hex}.db"
    health = StoreHealth(load("", {}).redis.on_failure.modes(), 1, time.monotonic)
    files = [Database(path, health, time.monotonic) for _ in range(2)]
    stores = []
    for file in files:
        file.register("counters", STEPS)
        await file.start()
        stores.append(SqliteCounters(file.table("limits"), lambda: (now[0] + 0.5) / 1000))
    yield Shelf(stores[0], stores[1], lambda at: now.__setitem__(0, at))
    for store, file in zip(stores, files, strict=True):
        await store.aclose()
        await file.aclose()


@asynccontextmanager
async def in_redis(server: Server | ClusterOfThree, **_: Any) -> AsyncIterator[Shelf]:
    text = f"redis: {{url: '{server.url}', prefix: 't{uuid.uuid4().hex}:', slow: 5, timeout: 5, connect_timeout: 5}}"
    known = load(text, {}).redis
    health = StoreHealth(known.on_failure.modes(), 1, lambda: 0.0)
    servers = [RedisServer(known, health) for _ in range(2)]
    stores = [RedisCounters(one.redis("limits"), 0.0) for one in servers]

    def set_now(at: int) -> None:
        for store in stores:
            store.now = at

    set_now(BEGIN)
    yield Shelf(stores[0], stores[1], set_now)
    assert not health.failures
    for store, one in zip(stores, servers, strict=True):
        await store.aclose()
        await one.aclose()


KINDS = {"memory": in_memory, "sqlite": in_sqlite, "valkey": in_redis, "debian_redis": in_redis, "cluster": in_redis}


@pytest.fixture(params=KINDS)
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    kind: Any = KINDS[request.param]
    server = request.getfixturevalue(request.param) if kind is in_redis else None
    async with kind(folder=tmp_path, server=server) as there:
        yield there


shared = pytest.mark.parametrize("shelf", [kind for kind in KINDS if kind != "memory"], indirect=True)


async def test_all_limits_of_a_step_or_none(shelf: Shelf) -> None:
    for _ in range(3):
        assert (await shelf.one(1, 100, 1)).grants
    refused = await shelf.one(1, 100, 1)
    assert not refused.grants
    assert (refused.refused, refused.wait) == (2, SLOT_WAIT / 1000)
    assert [level.left for level in refused.levels] == [7, 700, 0], "the others were not taken"


async def test_levels_tell_what_is_left_and_when_all_of_it_is_there_again(shelf: Shelf) -> None:
    decision = await shelf.one(1, 250, 1)
    requests, tokens, slots = decision.levels
    assert (requests.left, tokens.left, slots.left) == (9, 750, 2)
    assert 10.0 < requests.reset <= 10.04
    assert (tokens.reset, slots.reset) == (15.0, 0.0)
    assert (decision.refused, decision.wait) == (-1, 0.0)


async def test_waits_are_exact_to_the_millisecond(shelf: Shelf) -> None:
    for seconds in (0.0, 1.5, 0.25):
        shelf.passes(seconds)
        for _ in range(3):
            await shelf.take(1, limits=(REQUESTS,))
    shelf.passes(0.5)
    await shelf.take(1, limits=(REQUESTS,))
    refused = await shelf.one(1, limits=(REQUESTS,))
    shelf.passes(refused.wait - 0.001)
    assert (await shelf.one(1, limits=(REQUESTS,))).wait == pytest.approx(0.001)
    shelf.passes(0.001)
    assert len((await shelf.counters.take("g", (REQUESTS,), [(1,)] * 5)).grants) == 3
    await shelf.take(990, limits=(TOKENS,))
    refused = await shelf.one(500, limits=(TOKENS,))
    assert refused.wait == pytest.approx(490 * 0.06)
    shelf.passes(refused.wait - 0.001)
    assert (await shelf.one(500, limits=(TOKENS,))).wait == pytest.approx(0.001)
    shelf.passes(0.001)
    await shelf.take(500, limits=(TOKENS,))


async def test_of_several_calls_as_many_as_there_is_room_for(shelf: Shelf) -> None:
    decision = await shelf.counters.take("g", ALL, [(1, 600, 1), (1, 300, 1), (1, 200, 1), (1, 50, 1)])
    assert [list(grant.costs) for grant in decision.grants] == [[1, 600, 1], [1, 300, 1]], "in their order"
    assert decision.refused == 1
    assert decision.wait == pytest.approx(6.0)
    assert len({grant.holder for grant in decision.grants}) == 2
    for grant in decision.grants:
        await shelf.settle(grant, (0, 0, 0))
    assert [level.left for level in (await shelf.one(1, 1, 1)).levels] == [9, 999, 2]


async def test_what_was_used_is_made_right(shelf: Shelf) -> None:
    first, second = await shelf.take(1, 400, 1), await shelf.take(1, 400, 1)
    await shelf.settle(first, (1, 150, 1))
    await shelf.settle(second, (0, 0, 0))
    assert [level.left for level in (await shelf.one(1, 0, 1)).levels] == [8, 850, 2]
    third = await shelf.take(1, 800, 1)
    await shelf.settle(third, (1, 1200, 1))
    refused = await shelf.one(1, 0, 1)
    assert (refused.refused, refused.levels[1].left) == (1, 0), "who has used too much has to wait, even for nothing"
    assert refused.wait == pytest.approx(350 * 0.06)


async def test_more_than_a_limit_ever_has_takes_all_of_it(shelf: Shelf) -> None:
    grant = await shelf.take(1, 5000, 1)
    assert list(grant.costs) == [1, 1000, 1]
    assert (await shelf.one(1, 1, 1)).refused == 1
    await shelf.settle(grant, (1, 20, 1))
    assert (await shelf.one(1, 980, 1)).grants


async def test_groups_and_names_are_apart(shelf: Shelf) -> None:
    other = Limit("other", REQUESTS.rule)
    for _ in range(10):
        await shelf.take(1, limits=(REQUESTS,), group="a")
    assert not (await shelf.one(1, limits=(REQUESTS,), group="a")).grants
    assert (await shelf.one(1, limits=(other,), group="a")).grants
    assert (await shelf.one(1, limits=(REQUESTS,), group="b")).grants


async def test_another_amount_counts_what_has_been_used(shelf: Shelf) -> None:
    for _ in range(6):
        await shelf.take(1, limits=(REQUESTS,))
    less, more = Limit("requests", Rule("window", 5, 10_000)), Limit("requests", Rule("window", 20, 10_000))
    assert not (await shelf.one(1, limits=(less,))).grants
    assert (await shelf.one(1, limits=(more,))).levels[0].left == 13


@shared
async def test_two_who_share_a_store_share_its_counts(shelf: Shelf) -> None:
    assert shelf.other is not None
    sides = (shelf.counters, shelf.other)
    decisions = await asyncio.gather(*(sides[n % 2].take("g", (REQUESTS,), [(1,)]) for n in range(100)))
    assert sum(len(decision.grants) for decision in decisions) == 10


@shared
async def test_slots_of_a_process_that_has_died_are_free_after_a_while(shelf: Shelf) -> None:
    assert shelf.other is not None
    for _ in range(3):
        [grant] = (await shelf.other.take("g", (SLOTS,), [(1,)])).grants
    await shelf.other.aclose()  # it renews no more
    shelf.passes(LEASE - 0.001)
    assert not (await shelf.one(1, limits=(SLOTS,))).grants
    shelf.passes(0.001)
    assert (await shelf.one(1, limits=(SLOTS,))).grants
    await shelf.settle(grant, (1,))  # it was not dead: what it gives back it does not have any more
    assert (await shelf.one(1, limits=(SLOTS,))).levels[0].left == 1


@shared
async def test_slots_of_calls_that_run_are_renewed(shelf: Shelf) -> None:
    assert shelf.other is not None
    leases: Any = shelf.counters._leases  # type: ignore[attr-defined]
    leases._every = 0.01
    grant = await shelf.take(1, limits=(SLOTS,))
    for _ in range(4):
        shelf.passes(LEASE / 2)
        await asyncio.sleep(0.1)
    assert (await shelf.other.take("g", (SLOTS,), [(0,)])).levels[0].left == 2
    await shelf.settle(grant, (1,))
    assert (await shelf.other.take("g", (SLOTS,), [(0,)])).levels[0].left == 3
    await asyncio.sleep(0.1)
    assert leases._renewing.done(), "there is nothing to renew"


@pytest.mark.parametrize("kind", ["valkey", "debian_redis", "cluster"])
async def test_what_is_taken_for_who_has_gone_is_given_back(request: pytest.FixtureRequest, kind: str) -> None:
    async with in_redis(server=request.getfixturevalue(kind)) as shelf:
        await shelf.one(1, 1, 1)  # the connection is there, the script is known
        for _ in range(5):
            leaving = asyncio.ensure_future(shelf.one(1, 100, 1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
        await shelf.counters.told()
        await shelf.counters.told()
        assert [level.left for level in (await shelf.one(1, 0, 1)).levels] == [8, 999, 1]


@pytest.mark.parametrize("kind", ["valkey", "debian_redis", "cluster"])
async def test_redis_counts_by_its_own_clock(request: pytest.FixtureRequest, kind: str) -> None:
    server: Server | ClusterOfThree = request.getfixturevalue(kind)
    async with in_redis(server=server) as shelf:
        redis: Any = shelf.counters
        redis.now = 0
        limits = (Limit("a", Rule("window", 2, 300)), Limit("b", Rule("bucket", 2, 300)))
        for _ in range(2):
            await shelf.take(1, 1, limits=limits)
        refused = await shelf.one(1, 1, limits=limits)
        assert not refused.grants
        assert 0.2 < refused.wait <= 0.302
        names = redis._keys("g", limits)
        for name in names:
            assert "{g}" in name, "one node of a cluster has them all"
            assert 60_000 < await redis._redis.command("PTTL", name) <= 60_303
        await asyncio.sleep(0.35)
        for _ in range(2):
            await shelf.take(1, 1, limits=limits)


# ------------------------------------------------------------------------------------------- all of them count alike

Amounts = st.integers(1, 60)
Rules = st.one_of(
    st.builds(Rule, st.just("window"), Amounts, st.sampled_from([100, 999, 10_000, 86_400_000])),
    st.builds(Rule, st.just("bucket"), Amounts, st.sampled_from([100, 999, 10_000, 86_400_000])),
    st.builds(Rule, st.just("slots"), st.integers(1, 5)),
)
Costs = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 80)), min_size=3, max_size=3)
Pauses = st.one_of(st.integers(0, 60), st.integers(0, 20_000), st.integers(-250, -1), st.just(90_000_000))
Step = st.one_of(
    st.tuples(st.just("take"), Pauses, st.lists(Costs, min_size=1, max_size=4)),
    st.tuples(st.just("settle"), Pauses, Costs),
)
Story = st.lists(Step, min_size=5, max_size=30)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("kind", ["valkey", "debian_redis", "cluster", "sqlite"])
def test_every_store_counts_as_memory_does(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory, loop: asyncio.Runner
) -> None:
    server = request.getfixturevalue(kind) if kind != "sqlite" else None
    folder = tmp_path_factory.mktemp("counters")
    of_kind: Any = KINDS[kind]
    opening = of_kind(server=server, folder=folder)
    theirs: Shelf = loop.run(opening.__aenter__())
    number = iter(range(10**9))

    @settings(max_examples=600 if kind != "sqlite" else 60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(Rules, min_size=3, max_size=3), Story)
    def compare(rules: list[Rule], story: list[Any]) -> None:
        loop.run(_compare(theirs, f"g{next(number)}", rules, story))

    try:
        compare()
    finally:
        loop.run(opening.__aexit__(None, None, None))


async def _compare(theirs: Shelf, group: str, rules: list[Rule], story: list[Any]) -> None:
    async with in_memory(lease=LEASE_MS) as mine:
        # A file is not written where nothing was let in, so what a clock that is set back has forgotten is still there.
        await _tell(mine, theirs, group, rules, story, steps_back=not isinstance(theirs.counters, SqliteCounters))


async def _tell(
    mine: Shelf, theirs: Shelf, group: str, rules: list[Rule], story: list[Any], *, steps_back: bool
) -> None:
    limits = tuple(Limit(f"l{number}", rule) for number, rule in enumerate(rules))
    slots = [rule.way == "slots" for rule in rules]
    theirs.now = mine.now = BEGIN
    held: list[tuple[Grant, Grant]] = []

    def fit(costs: list[int]) -> list[int]:
        return [min(cost, 1) if slot else cost for cost, slot in zip(costs, slots, strict=True)]

    for what, pause, given_costs in story:
        pause = pause if steps_back else abs(pause)
        for shelf in (mine, theirs):
            shelf.passes(pause / 1000)
        if what == "take":
            calls = [fit(costs) for costs in given_costs]
            ours, others = [await shelf.counters.take(group, limits, calls) for shelf in (mine, theirs)]
            assert len(ours.grants) == len(others.grants)
            assert (ours.refused, ours.wait) == (others.refused, others.wait)
            assert ours.levels == others.levels
            assert [[*grant.costs] for grant in ours.grants] == [[*grant.costs] for grant in others.grants]
            held += zip(ours.grants, others.grants, strict=True)
        else:
            middle = len(held) // 2
            some, held[middle : middle + 3] = held[middle : middle + 3], []
            for ours_held, others_held in some:
                mine.counters.settle(ours_held, given_costs)
                theirs.counters.settle(others_held, given_costs)
            await theirs.counters.told()
