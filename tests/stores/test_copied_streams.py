"""Streams that are copied behind their writers' backs, while the store of copies fails, hangs and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.stores.copied_streams import CopiedStreams
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.keyvalue import MemoryKeyValue
from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.packed_events import packed, packed_ending, unpacked, unpacked_ending
from parley_server.stores.presence import LEASE, Presence
from parley_server.stores.sealing import Seals
from parley_server.stores.streams import (
    Bounds,
    Change,
    Copied,
    Ending,
    Event,
    Slice,
    State,
    StreamExpired,
    StreamUnknown,
)
from tests import fakes

DONE = Ending(b"status", b"usage")
BOUNDS = Bounds(10_000, 30_000, 600)


class Copies:
    """A StreamCopies that does as it is told: `away`, `slow` (seconds), `partly` (every other change fails)."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.dropped: dict[str, int] = {}
        self.endings: dict[str, Ending] = {}
        self.taken: int | None = None
        self.writes = 0
        self.away = self.partly = False
        self.slow = 0.0

    async def write(self, changes: Sequence[Change]) -> list[Copied | StoreUnavailable]:
        await self._asked()
        self.writes += 1
        return [
            StoreUnavailable("half") if self.partly and (self.writes + number) % 2 else self._write(change)
            for number, change in enumerate(changes)
        ]

    def _write(self, change: Change) -> Copied:
        if change.key not in self.events and not change.whole:
            return Copied(missing=True)
        there = self.events.setdefault(change.key, [])
        there += [one for one in change.events if not there or one.sequence > there[-1].sequence]
        self.dropped[change.key] = change.dropped
        self.events[change.key] = [one for one in there if one.sequence > change.dropped]
        if change.ending is not None:
            self.endings[change.key] = change.ending
        return Copied(taken=self.taken)

    async def forget(self, keys: Sequence[str]) -> None:
        await self._asked()
        for key in keys:
            self.events[key] = []

    async def state(self, key: str) -> State:
        await self._asked()
        if key not in self.events:
            raise StreamUnknown(key)
        if not self.events[key]:
            raise StreamExpired(key)
        return State(self.events[key][-1].sequence, self.endings.get(key), "other")

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        await self.state(key)
        return Slice([one for one in self.events[key] if one.sequence > after], self.endings.get(key))

    async def leave(self, key: str, reader: str) -> None:
        await self._asked()

    async def aclose(self) -> None:
        return

    async def _asked(self) -> None:
        await asyncio.sleep(self.slow)
        if self.away:
            raise StoreUnavailable("away")


def events(first: int, last: int, size: int = 10) -> list[Event]:
    return [Event(sequence, bytes([sequence % 256]) * size) for sequence in range(first, last + 1)]


@pytest.fixture
def copies() -> Copies:
    return Copies()


@pytest.fixture
def streams(copies: Copies) -> CopiedStreams:
    return CopiedStreams(MemoryStreams(BOUNDS), copies)


async def test_a_writer_waits_for_no_copy(streams: CopiedStreams, copies: Copies) -> None:
    copies.slow = 100.0
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await streams.create("a")
    for sequence in range(1, 51):
        await streams.append("a", events(sequence, sequence))
        assert (await streams.read("a", sequence - 1, 1)).events == events(sequence, sequence)
        await streams.paced("a", 100)
    await streams.finish("a", DONE)
    assert loop.time() == begun
    copies.slow = 0.0
    await asyncio.sleep(500)
    assert copies.events["a"] == events(1, 50)
    assert copies.endings["a"] == DONE
    assert copies.writes < 10, "what came meanwhile was copied together"
    await streams.aclose()


async def test_the_copy_is_whole_once_the_store_is_back(streams: CopiedStreams, copies: Copies) -> None:
    await streams.create("a")
    await streams.append("a", events(1, 5))
    await asyncio.sleep(1)
    copies.away = True
    await streams.append("a", events(6, 20))
    await streams.create("b")
    await streams.append("b", events(1, 3))
    await streams.finish("b", DONE)
    await asyncio.sleep(60)
    assert streams.failing
    assert not await streams.is_shared("a")
    assert (await streams.read("a", 0, 10_000)).events == events(1, 20), "it goes on here"
    with pytest.raises(StoreUnavailable):
        await streams.state("c")
    copies.away = False
    await asyncio.sleep(1)
    assert not streams.failing
    assert copies.events == {"a": events(1, 20), "b": events(1, 3)}
    assert copies.endings == {"b": DONE}
    assert await streams.is_shared("a")
    assert await streams.is_shared("b")
    assert streams.lost == streams.uncopied == 0
    await streams.aclose()


async def test_a_store_that_was_emptied_gets_all_of_it_again(streams: CopiedStreams, copies: Copies) -> None:
    await streams.create("a")
    await streams.append("a", events(1, 5))
    await streams.create("quiet")
    await streams.append("quiet", events(1, 5))
    await asyncio.sleep(1)
    copies.events.clear()
    await streams.append("a", events(6, 6))
    await asyncio.sleep(1)
    assert copies.events == {"a": events(1, 6)}
    await asyncio.sleep(120)
    assert copies.events["quiet"] == events(1, 5), "those are looked after from time to time"
    await streams.aclose()


async def test_what_is_dropped_here_is_dropped_there(streams: CopiedStreams, copies: Copies) -> None:
    for key in "abc":
        await streams.create(key)
        await streams.append(key, events(1, 8, size=1000))
        await streams.finish(key, DONE)
    await streams.create("d")
    copies.away = True
    for sequence in range(1, 30):
        await streams.append("d", events(sequence, sequence, size=1000))
    copies.away = False
    await asyncio.sleep(2)
    assert [key for key, kept in copies.events.items() if not kept] == ["a"], "it had to make room"
    assert copies.dropped["d"] > 15
    assert copies.events["d"] == events(copies.dropped["d"] + 1, 29, size=1000)
    with pytest.raises(StreamExpired):
        await streams.state("a")
    await streams.aclose()


async def test_the_end_copies_what_there_is_but_not_for_ever(copies: Copies) -> None:
    streams = CopiedStreams(MemoryStreams(BOUNDS), copies)
    await streams.create("a")
    await streams.append("a", events(1, 5))
    await streams.finish("a", DONE)
    await streams.aclose()
    assert (copies.events, copies.endings) == ({"a": events(1, 5)}, {"a": DONE})
    streams = CopiedStreams(MemoryStreams(BOUNDS), copies)
    await streams.create("b")
    copies.slow = 1000.0
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await streams.aclose()
    assert loop.time() - begun < 5
    assert streams.lost == 1


async def test_readers_elsewhere_slow_the_writer_until_they_cannot_be_asked(copies: Copies) -> None:
    streams = CopiedStreams(MemoryStreams(BOUNDS), copies)
    copies.taken = 2
    await streams.create("a")
    await streams.append("a", events(1, 5, size=1000))
    await asyncio.sleep(1)
    assert await streams.paced("a", 4000, within=1)
    assert not await streams.paced("a", 3000, within=1)
    waiting = asyncio.create_task(streams.paced("a", 3000))
    copies.taken = 4
    assert await asyncio.wait_for(waiting, 1)
    copies.taken = 1
    await streams.append("a", events(6, 6, size=1000))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(streams.paced("a", 1000))
    await asyncio.sleep(1)
    assert not waiting.done()
    copies.away = True
    assert await asyncio.wait_for(waiting, 2)
    await streams.aclose()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5), st.sampled_from([0, 100, 3000])),
            st.tuples(st.sampled_from(["away", "back", "partly", "whole", "empty", "wait", "slow", "quick"])),
        ),
        max_size=30,
    )
)
def test_in_the_end_the_copy_is_what_is_here(steps: list[tuple[object, ...]]) -> None:
    """Whatever becomes of the store in between."""

    async def main() -> None:
        copies, here = Copies(), MemoryStreams(BOUNDS)
        streams, last = CopiedStreams(here, copies), 0
        await streams.create("a")
        await streams.create("b")
        await streams.append("b", events(1, 1))
        for step in steps:
            match step:
                case ("append", int(count), int(size)):
                    await streams.append("a", events(last + 1, last + count, size))
                    last += count
                case ("away",) | ("back",):
                    copies.away = step == ("away",)
                case ("partly",) | ("whole",):
                    copies.partly = step == ("partly",)
                case ("slow",) | ("quick",):
                    copies.slow = 0.3 if step == ("slow",) else 0.0
                case ("empty",):
                    copies.events.clear()
                case _:
                    await asyncio.sleep(0.7)
        copies.away, copies.partly, copies.slow = False, False, 0.0
        await asyncio.sleep(200)
        dropped, kept = here.kept("a", 0, 10**9)
        assert copies.events.get("a", []) == list(kept.events)
        assert copies.dropped["a"] == dropped
        await streams.finish("a", DONE)
        await streams.finish("b", DONE)
        await streams.aclose()
        assert copies.endings == {"a": DONE, "b": DONE}
        assert len(asyncio.all_tasks()) == 1

    fakes.run(main())


class Values(MemoryKeyValue):
    """Values that can be away."""

    away = False

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().put(key, value, ttl)


async def test_a_gateway_is_there_until_nothing_is_heard_of_it_for_a_while() -> None:
    clock = asyncio.get_running_loop().time
    values = Values(clock)
    one, other = Presence(values, "one", clock), Presence(values, "other", clock)
    await one.start()
    await other.start()
    await asyncio.sleep(100)
    assert await one.is_there("other")
    assert await one.is_there("one")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # other dies
        if task is other._beating:
            task.cancel()
    died = clock()
    seen = []
    for _ in range(5):
        seen.append(await one.is_there("other"))
        await asyncio.sleep(1)
    assert all(seen[:3])
    assert not await one.is_there("other")
    assert one.was_gone("other")
    assert clock() - died < LEASE + 3
    begun = clock()
    assert not await one.is_there("other")
    assert clock() == begun, "that much is known by now"
    await one.aclose()


async def test_one_that_goes_says_so() -> None:
    clock = asyncio.get_running_loop().time
    values = MemoryKeyValue(clock)
    one, other = Presence(values, "one", clock), Presence(values, "other", clock)
    await one.start()
    await other.start()
    await other.aclose()
    begun = clock()
    assert not await one.is_there("other")
    assert clock() - begun < 2
    await one.aclose()


async def test_nobody_is_given_up_for_an_outage_of_the_store() -> None:
    clock = asyncio.get_running_loop().time
    values = Values(clock)
    one, other = Presence(values, "one", clock), Presence(values, "other", clock)
    await one.start()
    await asyncio.sleep(0.7)
    await other.start()
    values.away = True
    for _ in range(20):
        await asyncio.sleep(1)
        assert await one.is_there("other"), "it cannot say that it is there"
    values.away = False
    for _ in range(20):
        await asyncio.sleep(0.5)
        assert await one.is_there("other")
    await values.remove("gateway:other")
    assert await one.is_there("other"), "a store that was emptied is told anew"
    await one.aclose()
    await other.aclose()


@given(st.lists(st.binary(max_size=300), max_size=30), st.integers(1, 1000), st.integers(0, 40))
def test_packed_events_are_unpacked(data: list[bytes], most: int, after: int) -> None:
    seals = Seals(b"secret")
    all_of_them = [Event(number * 2, one) for number, one in enumerate(data, 1)]
    pieces = [(sequence, piece) for sequence, _, piece in packed(seals, "key", all_of_them, most)]
    assert [sequence for sequence, _ in pieces] == sorted({sequence for sequence, _ in pieces})
    rest = [one for one in all_of_them if one.sequence > after]
    assert unpacked(seals, "key", pieces, after) == rest
    assert unpacked(seals, "key", [piece for piece in pieces for _ in range(2)], after) == rest


def test_pieces_that_belong_elsewhere_are_not_kept() -> None:
    seals, other = Seals(b"", [bytes(32)]), Seals(b"", [bytes([1] * 32)])
    pieces = [(last, piece) for last, _, piece in packed(seals, "key", [Event(1, b"abc"), Event(2, b"def")], 1)]
    moved = [(1, pieces[1][1])]
    for reader, key, some in ((seals, "other", pieces), (seals, "key", moved), (other, "key", pieces)):
        with pytest.raises(StreamExpired):
            unpacked(reader, key, some, 0)
    status, usage = packed_ending(seals, "key", DONE)
    assert unpacked_ending(seals, "key", status, usage) == DONE
    assert DONE.status not in status
    with pytest.raises(StreamExpired):
        unpacked_ending(seals, "key", usage, status)
