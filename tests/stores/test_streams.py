"""What every store of streams does, whatever it is made of, and whoever reads: its writer, or another gateway."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.streams import (
    Bounds,
    Ending,
    Event,
    State,
    StreamExpired,
    StreamStore,
    StreamUnknown,
)

Make = Callable[..., Awaitable["Elsewhere"]]
ELSEWHERE = ("sqlite elsewhere", "valkey elsewhere", "debian_redis elsewhere", "cluster elsewhere")
STORES = ("memory", "sqlite", "valkey", *ELSEWHERE)
"""Each implementation; what is added here has to pass all of this. "elsewhere": another gateway reads."""

MEGA = 1024 * 1024
EVERYTHING = 2**40
UNIT = 0.1
"""Seconds that stand for one of a window: no longer than need be, but nothing that hurries may take as long."""
DONE = Ending(b"status", b"usage")


class Elsewhere:
    """A store that one gateway writes to and another one reads from, or the same one."""

    def __init__(self, writer: StreamStore, reader: StreamStore) -> None:
        self.writer = writer
        self.reader = reader
        self.read, self.leave, self.paced = reader.read, reader.leave, writer.paced

    async def create(self, key: str) -> None:
        await self._shown(key, self.writer.create(key))

    async def append(self, key: str, events: Sequence[Event]) -> None:
        await self._shown(key, self.writer.append(key, events))

    async def finish(self, key: str, ending: Ending) -> None:
        await self._shown(key, self.writer.finish(key, ending))

    async def state(self, key: str) -> State:
        state = await self.reader.state(key)
        assert bool(state.owner) is (self.reader is not self.writer)
        return State(state.last, state.ending, lost=state.lost)

    async def _shown(self, key: str, doing: Any) -> None:
        await doing
        assert await self.writer.is_shared(key) is not isinstance(self.writer, MemoryStreams)


@pytest_asyncio.fixture(params=STORES)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    kind, _, elsewhere = request.param.partition(" ")

    def settings() -> str:
        if kind == "sqlite":
            return f"storage: {{path: {tmp_path}/{uuid.uuid4().hex}.db}}"
        url, prefix = request.getfixturevalue(kind).url, f"test-{uuid.uuid4().hex}:"
        return f"redis: {{url: '{url}', prefix: '{prefix}', slow: 5, timeout: 5, connect_timeout: 5}}"

    async with AsyncExitStack() as opened:

        async def make(stream_bytes: int = MEGA, total_bytes: int = 8 * MEGA, window: float = 4000.0) -> Elsewhere:
            bounds = Bounds(stream_bytes, total_bytes, window * UNIT)
            text = "" if kind == "memory" else settings()
            found: list[StreamStore] = []
            for _ in range(2 if elsewhere else 1):
                stores = shelves.build(load(text, {}), bounds)
                opened.push_async_callback(stores.aclose)
                await stores.start()
                found.append(stores.streams)
            return Elsewhere(found[0], found[-1])

        yield make


def event(sequence: int, size: int = 10) -> Event:
    return Event(sequence, (b"%d." % sequence).ljust(size, b"x"))


async def fill(store: Elsewhere, key: str, count: int, size: int = 10) -> list[Event]:
    """Append `count` events, one at a time, to a new stream."""
    await store.create(key)
    events = [event(sequence, size) for sequence in range(1, count + 1)]
    for one in events:
        await store.append(key, [one])
    return events


async def read_all(store: Elsewhere, key: str, after: int = 0, most: int = EVERYTHING) -> tuple[list[Event], Ending]:
    """All events after `after`, by as many reads as it takes."""
    events: list[Event] = []
    while True:
        part = await store.read(key, after, most)
        events += part.events
        after = events[-1].sequence if events else after
        if part.ending is not None:
            return events, part.ending


async def test_what_was_appended_is_read_in_order(make: Make) -> None:
    store = await make()
    events = await fill(store, "a", 20)
    await store.finish("a", DONE)
    assert await read_all(store, "a") == (events, DONE)
    for after in range(20):
        assert await read_all(store, "a", after) == (events[after:], DONE)
    assert await read_all(store, "a", 20) == ([], DONE)


async def test_sequences_may_have_gaps(make: Make) -> None:
    store = await make()
    await store.create("a")
    await store.append("a", [event(2), event(5)])
    await store.append("a", [event(9)])
    await store.finish("a", DONE)
    for after, expected in ((0, [2, 5, 9]), (2, [5, 9]), (3, [5, 9]), (5, [9]), (8, [9]), (9, [])):
        events, _ = await read_all(store, "a", after)
        assert [one.sequence for one in events] == expected


async def test_a_read_takes_about_as_much_as_it_was_told(make: Make) -> None:
    store = await make()
    events = await fill(store, "a", 20, size=100)
    part = await store.read("a", 0, 1)
    assert part.events == events[:1]
    part = await store.read("a", 0, 500)
    assert part.events == events[:5]
    rest = await store.read("a", 5, EVERYTHING)
    assert rest.events == events[5:]
    await store.append("a", [event(21, 100)])
    assert (await store.read("a", 20, EVERYTHING)).ending is None


async def test_a_read_waits_for_more(make: Make) -> None:
    store = await make()
    await store.create("a")
    readers = [asyncio.create_task(store.read("a", 0, EVERYTHING)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not any(reader.done() for reader in readers)
    await store.append("a", [event(1)])
    for reader in readers:
        assert (await reader).events == [event(1)]


async def test_a_read_that_waits_learns_of_the_end(make: Make) -> None:
    store = await make()
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(0.05)
    await store.finish("a", DONE)
    part = await reader
    assert (list(part.events), part.ending) == ([], DONE)


async def test_a_read_can_be_given_up(make: Make) -> None:
    store = await make()
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(0.05)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await store.append("a", [event(2)])
    assert (await store.read("a", 1, EVERYTHING)).events == [event(2)]


async def test_the_state_of_a_stream(make: Make) -> None:
    store = await make()
    await store.create("a")
    assert await store.state("a") == State(0, None)
    await store.append("a", [event(1), event(2)])
    assert await store.state("a") == State(2, None)
    await store.finish("a", DONE)
    assert await store.state("a") == State(2, DONE)


async def test_streams_keep_out_of_each_others_way(make: Make) -> None:
    store = await make()
    ones, others = await fill(store, "a", 3), await fill(store, "b", 5)
    await store.finish("a", DONE)
    assert await read_all(store, "a") == (ones, DONE)
    assert (await store.read("b", 0, EVERYTHING)).events == others


async def test_nobody_knows_other_keys(make: Make) -> None:
    store = await make()
    await fill(store, "a", 1)
    with pytest.raises(StreamUnknown):
        await store.state("b")
    with pytest.raises(StreamUnknown):
        await store.read("b", 0, EVERYTHING)


async def test_a_long_stream_loses_its_beginning(make: Make) -> None:
    store = await make(stream_bytes=10_000)
    events = await fill(store, "a", 100, size=500)
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)
    kept = [after for after in range(100) if await can_read(store, "a", after)]
    assert kept == list(range(kept[0], 100))
    assert 80 < kept[0] < 95
    assert (await store.read("a", kept[0], EVERYTHING)).events == events[kept[0] :]


async def can_read(store: Elsewhere, key: str, after: int) -> bool:
    try:
        await store.read(key, after, 1)
    except StreamExpired:
        return False
    return True


async def test_the_newest_event_is_kept_whatever_its_size(make: Make) -> None:
    store = await make(stream_bytes=1000, total_bytes=2000)
    await store.create("a")
    await store.append("a", [event(1)])
    await store.append("a", [event(2, size=50_000)])
    assert (await store.read("a", 1, EVERYTHING)).events == [event(2, size=50_000)]
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)


async def test_a_finished_stream_is_kept_for_the_window(make: Make) -> None:
    store = await make(window=6)
    events = await fill(store, "a", 2)
    await asyncio.sleep(8 * UNIT)  # while it runs, it stays
    await store.finish("a", DONE)
    await asyncio.sleep(3 * UNIT)
    assert await read_all(store, "a") == (events, DONE)
    await asyncio.sleep(4 * UNIT)
    with pytest.raises(StreamExpired):
        await store.state("a")
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)


async def test_when_all_is_full_the_oldest_finished_stream_goes_first(make: Make) -> None:
    store = await make(total_bytes=50_000)
    for key in "abc":
        await fill(store, key, 10, size=1000)
    for key in "bac":
        await store.finish(key, DONE)
    running = await fill(store, "d", 20, size=1000)
    with pytest.raises(StreamExpired):
        await store.state("b")
    assert (await store.state("a")).last == 10
    assert (await store.read("d", 0, EVERYTHING)).events == running


async def test_when_nothing_is_finished_the_longest_loses_its_beginning(make: Make) -> None:
    store = await make(total_bytes=50_000)
    short = await fill(store, "short", 5, size=1000)
    long = await fill(store, "long", 60, size=1000)
    assert (await store.read("short", 0, EVERYTHING)).events == short
    with pytest.raises(StreamExpired):
        await store.read("long", 0, EVERYTHING)
    assert (await store.read("long", 55, EVERYTHING)).events == long[55:]


async def test_who_waits_for_a_stream_that_is_forgotten_is_told(make: Make) -> None:
    store = await make(stream_bytes=2000)
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(0.05)
    await store.append("a", [event(sequence, size=1000) for sequence in range(2, 8)])
    with suppress(StreamExpired):
        seen = (await reader).events
        assert seen[0].sequence == 2, "it has read what came next, before that was forgotten: no gap"
    with pytest.raises(StreamExpired):
        await store.read("a", 1, EVERYTHING)


async def test_the_fastest_reader_sets_the_pace(make: Make) -> None:
    store = await make()
    events = await fill(store, "a", 100, size=1000)
    assert await store.paced("a", 10_000, within=1), "nobody reads"
    slow = await store.read("a", 0, 1, "slow")
    assert slow.events == events[:1]
    await store.append("a", [event(101, 1000)])
    assert not await store.paced("a", 50_000, within=0.3)
    pace = asyncio.create_task(store.paced("a", 50_000, within=10))
    await asyncio.sleep(0.05)
    assert not pace.done()
    assert len((await store.read("a", 0, 90_000, "fast")).events) > 80
    assert await pace
    await store.append("a", [event(sequence, 1000) for sequence in range(102, 160)])
    assert not await store.paced("a", 50_000, within=0.3)
    await store.leave("a", "fast")
    assert not await store.paced("a", 50_000, within=0.3), "the slow one is the fastest now"
    await store.leave("a", "slow")
    assert await store.paced("a", 50_000, within=10), "nobody reads any more"


async def test_a_long_stream_is_read_in_pieces_of_any_size(make: Make) -> None:
    store = await make()
    await store.create("a")
    events = [event(sequence, sequence * 37 % 3000) for sequence in range(1, 200)]
    await store.append("a", events[:150])
    await store.append("a", events[150:])
    await store.finish("a", DONE)
    for most in (1, 500, 40_000):
        assert await read_all(store, "a", after=120, most=most) == (events[120:], DONE)
    assert await read_all(store, "a") == (events, DONE)
