"""Streams in memory, on fake time: what only they promise."""

from __future__ import annotations

import asyncio

import pytest

from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.streams import Bounds, Ending, Event, StreamExpired

DONE = Ending(b"status", b"usage")


async def fill(store: MemoryStreams, key: str, count: int, size: int = 10) -> None:
    await store.create(key)
    for sequence in range(1, count + 1):
        await store.append(key, [Event(sequence, bytes(size))])


async def test_windows_are_kept_to_the_second() -> None:
    store = MemoryStreams(Bounds(10_000, 100_000, 600))
    await fill(store, "a", 2)
    await asyncio.sleep(10_000)  # while it runs, it stays
    await store.finish("a", DONE)
    await asyncio.sleep(599)
    assert (await store.read("a", 0, 1000)).ending == DONE
    await asyncio.sleep(2)
    with pytest.raises(StreamExpired):
        await store.state("a")
    await store.aclose()


async def test_each_stream_has_its_own_window() -> None:
    store = MemoryStreams(Bounds(10_000, 100_000, 600))
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
    await store.aclose()


async def test_who_made_room_is_told_of() -> None:
    store, gone = MemoryStreams(Bounds(20_000, 30_000, 600)), list[str]()
    store.on_forget = gone.append
    for key in "abc":
        await fill(store, key, 10, size=1000)
        await store.finish(key, DONE)
    assert gone == ["a"]
    await asyncio.sleep(601)
    assert gone == ["a"], "a window that is over is no lack of room"
    await store.aclose()


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
