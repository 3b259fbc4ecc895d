"""What every store of streams does, whatever it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.streams import Bounds, Ending, Event, State, StreamExpired, StreamStore, StreamUnknown

Make = Callable[..., StreamStore]
STORES: dict[str, Callable[[Bounds], StreamStore]] = {"memory": MemoryStreams}
"""Each implementation; what is added here has to pass all of this."""

MEGA = 1024 * 1024
EVERYTHING = 2**40
DONE = Ending(b"status", b"usage")


@pytest.fixture(params=STORES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    made: list[StreamStore] = []

    def one(stream_bytes: int = MEGA, total_bytes: int = 8 * MEGA, window: float = 600.0) -> StreamStore:
        made.append(STORES[request.param](Bounds(stream_bytes, total_bytes, window)))
        return made[-1]

    yield one
    for store in made:
        await store.aclose()


def event(sequence: int, size: int = 10) -> Event:
    return Event(sequence, (b"%d." % sequence).ljust(size, b"x"))


async def fill(store: StreamStore, key: str, count: int, size: int = 10) -> list[Event]:
    """Append `count` events, one at a time, to a new stream."""
    await store.create(key)
    events = [event(sequence, size) for sequence in range(1, count + 1)]
    for one in events:
        await store.append(key, [one])
    return events


async def read_all(store: StreamStore, key: str, after: int = 0, most: int = EVERYTHING) -> tuple[list[Event], Ending]:
    """All events after `after`, by as many reads as it takes."""
    events: list[Event] = []
    while True:
        part = await store.read(key, after, most)
        events += part.events
        after = events[-1].sequence if events else after
        if part.ending is not None:
            return events, part.ending


async def test_what_was_appended_is_read_in_order(make: Make) -> None:
    store = make()
    events = await fill(store, "a", 20)
    await store.finish("a", DONE)
    assert await read_all(store, "a") == (events, DONE)
    for after in range(20):
        assert await read_all(store, "a", after) == (events[after:], DONE)
    assert await read_all(store, "a", 20) == ([], DONE)


async def test_sequences_may_have_gaps(make: Make) -> None:
    store = make()
    await store.create("a")
    await store.append("a", [event(2), event(5)])
    await store.append("a", [event(9)])
    await store.finish("a", DONE)
    for after, expected in ((0, [2, 5, 9]), (2, [5, 9]), (3, [5, 9]), (5, [9]), (8, [9]), (9, [])):
        events, _ = await read_all(store, "a", after)
        assert [one.sequence for one in events] == expected


async def test_a_read_takes_about_as_much_as_it_was_told(make: Make) -> None:
    store = make()
    events = await fill(store, "a", 20, size=100)
    part = await store.read("a", 0, 1)
    assert part.events == events[:1]
    part = await store.read("a", 0, 500)
    assert part.events == events[:5]
    rest = await store.read("a", 5, EVERYTHING)
    assert rest.events == events[5:]
    assert rest.behind == 0
    assert part.behind >= sum(len(one.data) for one in rest.events)
    assert await store.append("a", [event(21, 100)]) >= 100
    assert (await store.read("a", 20, EVERYTHING)).ending is None


async def test_a_read_waits_for_more(make: Make) -> None:
    store = make()
    await store.create("a")
    readers = [asyncio.create_task(store.read("a", 0, EVERYTHING)) for _ in range(3)]
    await asyncio.sleep(1)
    assert not any(reader.done() for reader in readers)
    await store.append("a", [event(1)])
    for reader in readers:
        assert (await reader).events == [event(1)]


async def test_a_read_that_waits_learns_of_the_end(make: Make) -> None:
    store = make()
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(1)
    await store.finish("a", DONE)
    part = await reader
    assert (list(part.events), part.ending) == ([], DONE)


async def test_a_read_can_be_given_up(make: Make) -> None:
    store = make()
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await store.append("a", [event(2)])
    assert (await store.read("a", 1, EVERYTHING)).events == [event(2)]


async def test_the_state_of_a_stream(make: Make) -> None:
    store = make()
    await store.create("a")
    assert await store.state("a") == State(0, None)
    await store.append("a", [event(1), event(2)])
    assert await store.state("a") == State(2, None)
    await store.finish("a", DONE)
    assert await store.state("a") == State(2, DONE)


async def test_streams_keep_out_of_each_others_way(make: Make) -> None:
    store = make()
    ones, others = await fill(store, "a", 3), await fill(store, "b", 5)
    await store.finish("a", DONE)
    assert await read_all(store, "a") == (ones, DONE)
    assert (await store.read("b", 0, EVERYTHING)).events == others


async def test_nobody_knows_other_keys(make: Make) -> None:
    store = make()
    await fill(store, "a", 1)
    with pytest.raises(StreamUnknown):
        await store.state("b")
    with pytest.raises(StreamUnknown):
        await store.read("b", 0, EVERYTHING)


async def test_a_long_stream_loses_its_beginning(make: Make) -> None:
    store = make(stream_bytes=10_000)
    events = await fill(store, "a", 100, size=500)
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)
    kept = [after for after in range(100) if await can_read(store, "a", after)]
    assert kept == list(range(kept[0], 100))
    assert 80 < kept[0] < 95
    assert (await store.read("a", kept[0], EVERYTHING)).events == events[kept[0] :]


async def can_read(store: StreamStore, key: str, after: int) -> bool:
    try:
        await store.read(key, after, 1)
    except StreamExpired:
        return False
    return True


async def test_the_newest_event_is_kept_whatever_its_size(make: Make) -> None:
    store = make(stream_bytes=1000, total_bytes=2000)
    await store.create("a")
    await store.append("a", [event(1)])
    await store.append("a", [event(2, size=50_000)])
    assert (await store.read("a", 1, EVERYTHING)).events == [event(2, size=50_000)]
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)


async def test_a_finished_stream_is_kept_for_the_window(make: Make) -> None:
    store = make(window=600)
    events = await fill(store, "a", 2)
    await asyncio.sleep(10_000)  # while it runs, it stays
    await store.finish("a", DONE)
    await asyncio.sleep(599)
    assert await read_all(store, "a") == (events, DONE)
    await asyncio.sleep(2)
    with pytest.raises(StreamExpired):
        await store.state("a")
    with pytest.raises(StreamExpired):
        await store.read("a", 0, EVERYTHING)


async def test_each_stream_has_its_own_window(make: Make) -> None:
    store = make(window=600)
    for key in "abc":
        await fill(store, key, 1)
        await store.finish(key, DONE)
        await asyncio.sleep(200)
    await asyncio.sleep(10)
    with pytest.raises(StreamExpired):
        await store.state("a")
    assert (await store.state("b")).last == 1
    await asyncio.sleep(200)
    with pytest.raises(StreamExpired):
        await store.state("b")
    assert (await store.state("c")).last == 1


async def test_when_all_is_full_the_oldest_finished_stream_goes_first(make: Make) -> None:
    store = make(total_bytes=50_000)
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
    store = make(total_bytes=50_000)
    short = await fill(store, "short", 5, size=1000)
    long = await fill(store, "long", 60, size=1000)
    assert (await store.read("short", 0, EVERYTHING)).events == short
    with pytest.raises(StreamExpired):
        await store.read("long", 0, EVERYTHING)
    assert (await store.read("long", 55, EVERYTHING)).events == long[55:]


async def test_who_waits_for_a_stream_that_is_forgotten_is_told(make: Make) -> None:
    store = make(stream_bytes=2000)
    await fill(store, "a", 1)
    reader = asyncio.create_task(store.read("a", 1, EVERYTHING))
    await asyncio.sleep(0)
    await store.append("a", [event(sequence, size=1000) for sequence in range(2, 8)])
    with pytest.raises(StreamExpired):
        await reader


async def test_memory_holds_what_it_may_and_nothing_in_the_end() -> None:
    store = MemoryStreams(Bounds(20_000, 100_000, 60))
    most = 0
    for number in range(200):
        await fill(store, str(number), 20, size=number * 7 % 2000)
        most = max(most, store.held)
        await store.finish(str(number), DONE)
    assert 90_000 < most <= 100_000
    await asyncio.sleep(61)
    assert (store.held, len(store)) == (0, 0)
    await store.aclose()
