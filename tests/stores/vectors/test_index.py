"""Vectors in memory, and what several processes share of them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.groups import Member
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.groups import MemoryGroups
from parley_server.stores.memory.keyvalue import MemoryMessages
from parley_server.stores.vectors.base import Near
from parley_server.stores.vectors.index import SharedVectors, VectorIndex
from tests.fakes import run
from tests.stores.vectors.near import clustered, unit

EAST, NORTH = unit(1, 0, 0), unit(0, 1, 0)
NEARLY_EAST = unit(1, 0.1, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Signed:
    """A seal that tells damage."""

    def close(self, packed: bytes, place: bytes) -> bytes:
        return hashlib.blake2b(place + packed, digest_size=8).digest() + packed

    def open(self, value: bytes, place: bytes) -> bytes | None:
        packed = value[8:]
        return packed if self.close(packed, place) == value else None


class Failing(MemoryGroups):
    """A store that can be out of reach, or slow to read until it is told to go on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.out_of_reach = False
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.reads = 0

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        if self.out_of_reach:
            raise StoreUnavailable("away")
        await super().put(group, name, value, ttl)

    async def read(self, group: str) -> AsyncIterator[Sequence[Member]]:
        self.reads += 1
        if self.out_of_reach:
            raise StoreUnavailable("away")
        async for members in super().read(group):
            yield members
            await self.go_on.wait()


class Scene:
    """Several gateways' indexes over one store."""

    def __init__(self, most: int = 1000) -> None:
        self.clock = Clock()
        self.groups, self.messages = Failing(self.clock), MemoryMessages()
        self.most = most
        self.opened: list[VectorIndex] = []

    async def index(self) -> VectorIndex:
        """One more gateway."""
        index = VectorIndex(self.most, self.clock, SharedVectors(self.groups, self.messages, Signed()))
        index.start()
        self.opened.append(index)
        await asyncio.sleep(0.01)
        return index


@asynccontextmanager
async def scene(most: int = 1000) -> AsyncIterator[Scene]:
    there = Scene(most)
    try:
        yield there
    finally:
        for index in there.opened:
            await index.aclose()


def ids(found: Sequence[Near]) -> list[bytes]:
    return [near.id for near in found]


async def test_what_is_near_in_a_partition_is_found() -> None:
    clock = Clock()
    index = VectorIndex(100, clock)
    assert await index.is_empty(b"p")
    await index.add(b"p", b"east", EAST, b"its note", 10)
    await index.add(b"p", b"north", NORTH, b"", 10)
    [near] = await index.find(b"p", NEARLY_EAST, 0.9, 5)
    assert (near.id, near.note) == (b"east", b"its note")
    assert near.similarity == pytest.approx(float(EAST @ NEARLY_EAST))
    assert ids(await index.find(b"p", NEARLY_EAST, 0, 5)) == [b"east", b"north"]
    assert ids(await index.find(b"p", NEARLY_EAST, 0, 1)) == [b"east"]
    await index.remove(b"p", [b"east", b"none"])
    assert ids(await index.find(b"p", EAST, 0.5, 5)) == []
    clock.now += 10
    assert ids(await index.find(b"p", NORTH, 0.5, 5)) == []
    await index.aclose()


NAMES = st.sampled_from([b"a", b"b", b"ab", b""])


@given(st.lists(st.tuples(NAMES, st.integers(0, 9)), max_size=30), NAMES)
def test_nothing_is_found_in_another_partition(added: list[tuple[bytes, int]], asked: bytes) -> None:
    async def play() -> None:
        async with scene() as there:
            mine, theirs = await there.index(), await there.index()
            for partition, number in added:
                await mine.add(partition, b"%d" % number, EAST, partition, 100)
            for index in (mine, theirs):
                found = await index.find(asked, EAST, -1, 100)
                assert {near.note for near in found} <= {asked}
                assert {*ids(found)} == {b"%d" % number for partition, number in added if partition == asked}

    run(play())


async def test_other_gateways_see_what_is_added_and_removed() -> None:
    async with scene() as there:
        mine = await there.index()
        await mine.add(b"p", b"before", EAST, b"1", 100)
        theirs = await there.index()
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"before"]
        await mine.add(b"p", b"after", NEARLY_EAST, b"2", 100)
        await mine.remove(b"p", [b"before"])
        await asyncio.sleep(0.01)
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"after"]
        assert there.groups.reads == 1, "what is known already is not read again"
        assert ids(await mine.find(b"p", EAST, 0.5, 5)) == [b"after"]
        assert len(theirs) == 1


async def test_a_restart_keeps_everything_and_reads_it_when_it_is_needed() -> None:
    async with scene() as there:
        first = await there.index()
        rows = clustered(300, 8, seed=6)
        for number, row in enumerate(rows):
            await first.add(b"p", b"%d" % number, row, b"note %d" % number, 100)
        second = await there.index()
        assert (len(second), there.groups.reads) == (0, 0)
        for number in (0, 150, 299):
            [near] = await second.find(b"p", rows[number], 0.5, 1)
            assert (near.id, near.note) == (b"%d" % number, b"note %d" % number)
            assert near.similarity > 0.9999
        assert there.groups.reads == 1


async def test_who_asks_waits_no_longer_than_it_likes() -> None:
    async with scene() as there:
        mine = await there.index()
        await mine.add(b"p", b"1", EAST, b"", 100)
        theirs = await there.index()
        there.groups.go_on.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await theirs.find(b"p", EAST, 0.5, 5)
        await mine.add(b"p", b"2", NEARLY_EAST, b"", 100)  # while the others read
        await mine.remove(b"p", [b"1"])
        await asyncio.sleep(0.01)
        there.groups.go_on.set()
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"2"]
        assert there.groups.reads == 1


async def test_changes_that_may_have_been_missed_are_looked_up() -> None:
    async with scene() as there:
        mine, theirs = await there.index(), await there.index()
        await mine.add(b"p", b"old", EAST, b"", 100)
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"old"]
        value = Signed().close(b"\x01\x03\x00" + EAST.astype("<f2").tobytes() + b"n", b"p" + b"new")
        await there.groups.put("vectors:70", b"new", value, 100)  # nobody is told
        await there.groups.remove("vectors:70", [b"old"])
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"old"]
        there.messages._listeners.tell("vectors", None)
        await asyncio.sleep(0.01)
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"old"], "meanwhile what is known is told"
        await asyncio.sleep(0.01)
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"new"]


async def test_without_the_store_each_gateway_knows_its_own() -> None:
    async with scene() as there:
        mine, theirs = await there.index(), await there.index()
        there.groups.out_of_reach = True
        assert await mine.is_empty(b"p")
        await mine.add(b"p", b"1", EAST, b"", 100)
        assert ids(await mine.find(b"p", EAST, 0.5, 5)) == [b"1"]
        assert await theirs.is_empty(b"p")
        assert mine.failures >= 2
        reads = there.groups.reads
        await theirs.is_empty(b"p")
        assert there.groups.reads == reads, "it is not asked again and again"
        there.groups.out_of_reach = False
        there.clock.now += 3
        await mine.add(b"p", b"2", NEARLY_EAST, b"", 100)
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"2"]


async def test_damaged_and_foreign_values_are_left_out_and_counted() -> None:
    async with scene() as there:
        mine = await there.index()
        await mine.add(b"p", b"good", EAST, b"", 100)
        await mine.add(b"p", b"bad", EAST, b"", 100)
        [good] = [
            member.value async for some in there.groups.read("vectors:70") for member in some if member.name == b"good"
        ]
        await there.groups.put("vectors:70", b"bad", good, 100)  # from another place
        await there.groups.put("vectors:70", b"worse", good[:-1], 100)
        await there.groups.put("vectors:70", b"none", b"", 100)
        theirs = await there.index()
        assert ids(await theirs.find(b"p", EAST, 0.5, 5)) == [b"good"]
        assert theirs.corrupt == 3
        for message in (b"", b"?" * 40):
            await there.messages.publish("vectors", message)
        await asyncio.sleep(0.01)
        assert theirs.corrupt == 5


async def test_partitions_are_dropped_everywhere() -> None:
    async with scene() as there:
        mine, theirs = await there.index(), await there.index()
        for partition in (b"ab", b"ac", b"b"):
            await mine.add(partition, b"1", EAST, b"", 100)
            assert not await theirs.is_empty(partition)
        await mine.drop(b"a")
        await asyncio.sleep(0.01)
        late = await there.index()
        for index in (mine, theirs, late):
            assert [await index.is_empty(partition) for partition in (b"ab", b"ac", b"b")] == [True, True, False]
        assert len(mine) == 1
        await late.drop(b"")
        await asyncio.sleep(0.01)
        assert [await index.is_empty(b"b") for index in (mine, theirs, late)] == [True, True, True]


async def test_memory_is_bounded_and_what_goes_comes_back_when_it_is_needed() -> None:
    async with scene(most=20) as there:
        index = await there.index()
        for number in range(50):
            partition = b"%d" % number
            await index.is_empty(partition)
            await index.add(partition, b"1", EAST, partition, 100)
            if number % 2:
                await index.is_empty(b"empty %d" % number)
        assert len(index) <= 20
        assert index.partitions <= 20
        [near] = await index.find(b"0", EAST, 0.5, 5)
        assert near.note == b"0"
    alone = VectorIndex(20, Clock())
    for number in range(50):
        await alone.add(b"%d" % number, b"1", EAST, b"", 100)
    assert (len(alone), await alone.is_empty(b"0"), await alone.is_empty(b"49")) == (20, True, False)
    for number in range(50):
        await alone.add(b"large", b"%d" % number, EAST, b"", 100)
    assert len(await alone.find(b"large", EAST, 0.5, 100)) in range(18, 21)
    await alone.aclose()


async def test_large_partitions_are_searched_and_put_into_a_graph_beside_the_event_loop() -> None:
    index = VectorIndex(10_000, Clock(), large=2500)
    rows = clustered(3000, 16, seed=7)
    for number, row in enumerate(rows):
        await index.add(b"p", b"%d" % number, row, b"", 100)
    assert ids(await index.find(b"p", rows[2999], 0.9, 1)) == [b"2999"]
    assert {thread.name.rpartition("_")[0] for thread in threading.enumerate()} >= {"vectors-search", "vectors-build"}
    async with asyncio.timeout(30):
        while index._growing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    vectors = index._held[b"p"].vectors
    assert vectors is not None
    assert vectors._graph is not None
    assert ids(await index.find(b"p", rows[5], 0.9, 1)) == [b"5"]
    await index.aclose()


async def test_another_width_takes_the_place_of_what_was_there() -> None:
    index = VectorIndex(100, Clock())
    await index.add(b"p", b"1", EAST, b"", 100)
    assert ids(await index.find(b"p", unit(1, 0), 0.5, 5)) == []
    await index.add(b"p", b"2", unit(1, 0), b"", 100)
    assert ids(await index.find(b"p", unit(1, 0), 0.5, 5)) == [b"2"]
    await index.aclose()


@pytest.mark.parametrize("kind", ["valkey", "cluster", "sqlite"])
async def test_over_a_real_store(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        text = f"storage: {{path: {request.getfixturevalue('tmp_path')}/parley.db}}"
    else:
        url = request.getfixturevalue(kind).url
        text = f"redis: {{url: '{url}', prefix: 'test-{uuid.uuid4().hex}:', slow: 5, timeout: 5, connect_timeout: 5}}"
    stores = [shelves.build(load(text, {})) for _ in range(2)]
    clock = asyncio.get_running_loop().time
    mine, theirs = (
        VectorIndex(5000, clock, SharedVectors(one.groups("cache"), one.messages("cache"), Signed())) for one in stores
    )
    rows = clustered(1000, 384, seed=8)
    for one in stores:
        await one.start()
    for index in (mine, theirs):
        index.start()
    assert await theirs.is_empty(b"p")
    await asyncio.gather(*(mine.add(b"p", b"%d" % number, row, b"n", 100) for number, row in enumerate(rows)))
    async with asyncio.timeout(30):
        while len(theirs) < 1000:
            await asyncio.sleep(0.01)
            await theirs.is_empty(b"p")
    for number in (0, 500, 999):
        assert ids(await theirs.find(b"p", rows[number], 0.9, 1)) == [b"%d" % number]
    late = VectorIndex(5000, clock, SharedVectors(stores[0].groups("cache"), stores[0].messages("cache"), Signed()))
    assert ids(await late.find(b"p", rows[77], 0.9, 1)) == [b"77"]
    await mine.remove(b"p", [b"77"])
    async with asyncio.timeout(30):
        while len(theirs) == 1000:
            await asyncio.sleep(0.01)
            await theirs.is_empty(b"p")
    for index in (mine, theirs, late):
        assert (index.failures, index.corrupt) == (0, 0)
        await index.aclose()
    for one in stores:
        await one.aclose()
