"""What every store of values and every store of messages does, whatever it is made of."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.keyvalue import KeyValue, Messages
from parley_server.stores.memory.keyvalue import MemoryKeyValue, MemoryMessages


@dataclass
class Shelf:
    """A store of each kind. Lifetimes are given in `unit` seconds, and `passes(n)` lets n of them pass."""

    values: KeyValue
    messages: Messages
    unit: float
    passes: Callable[[float], Awaitable[None]]


STORES = ("memory", "sqlite", "valkey", "debian_redis", "sentinels", "cluster")


@pytest.fixture(params=STORES)
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        now = 1000.0

        async def advance(seconds: float) -> None:
            nonlocal now
            now += seconds

        yield Shelf(MemoryKeyValue(lambda: now), MemoryMessages(), 1.0, advance)
        return
    if request.param == "sqlite":
        text = f"storage: {{path: {request.getfixturevalue('tmp_path')}/new/parley.db}}"
    else:
        url = request.getfixturevalue(request.param).url
        text = f"redis: {{url: '{url}', prefix: 'test-{uuid.uuid4().hex}:', slow: 5, timeout: 5, connect_timeout: 5}}"
    stores = shelves.build(load(text, {}))
    await stores.start()
    yield Shelf(stores.keyvalue("cache"), stores.messages("cache"), 0.02, lambda units: asyncio.sleep(0.02 * units))
    assert not stores.health.failures
    await stores.aclose()


async def test_what_is_put_is_there_until_its_time_is_over(shelf: Shelf) -> None:
    values, unit = shelf.values, shelf.unit
    await values.put("a", b"1", 10 * unit)
    await values.put("b", b"2", 1000 * unit)
    await values.put("b", b"\x00\xff\r\n", 2000 * unit)
    assert await values.get_many(["b", "none", "b"]) == [b"\x00\xff\r\n", None, b"\x00\xff\r\n"]
    assert await values.get_many([]) == []
    await shelf.passes(11)
    assert await values.get("a") is None
    assert await values.get("b") == b"\x00\xff\r\n"
    await values.put("b", b"", 10 * unit)
    assert await values.get("b") == b"", "an empty value is a value"


async def test_one_of_many_adds(shelf: Shelf) -> None:
    texts = [str(number).encode() for number in range(50)]
    answers = await asyncio.gather(*(shelf.values.add("a", text, 1000 * shelf.unit) for text in texts))
    winner = await shelf.values.get("a")
    assert answers.count(None) == 1
    assert texts[answers.index(None)] == winner
    assert {answer for answer in answers if answer is not None} == {winner}
    await shelf.values.add("b", b"1", 10 * shelf.unit)
    await shelf.passes(11)
    assert await shelf.values.add("b", b"2", 1000 * shelf.unit) is None


async def test_replaces_and_removes_what_is_expected(shelf: Shelf) -> None:
    values, long = shelf.values, 1000 * shelf.unit
    assert not await values.replace("a", b"1", b"2", long)
    await values.put("a", b"1", long)
    assert not await values.replace("a", b"0", b"2", long)
    assert await values.replace("a", b"1", b"2", 10 * shelf.unit)
    assert not await values.remove("a", b"1")
    assert await values.remove("a", b"2")
    assert not await values.remove("a", b"2")
    assert not await values.remove("a")
    await values.put("a", b"1", long)
    assert await values.replace("a", b"1", b"2", 10 * shelf.unit)
    await shelf.passes(11)
    assert await values.get("a") is None, "what replaces has a lifetime of its own"
    await values.put("a", b"1", long)
    assert await values.remove("a")


async def test_of_many_that_replace_one_does(shelf: Shelf) -> None:
    await shelf.values.put("a", b"0", 1000 * shelf.unit)
    done = await asyncio.gather(*(shelf.values.replace("a", b"0", b"1", 1000 * shelf.unit) for _ in range(50)))
    assert done.count(True) == 1


async def test_lists_keys_by_prefix(shelf: Shelf) -> None:
    for number in range(1200):
        await shelf.values.put(f"a[*?\\]:{number}", b"", (10 if number % 2 else 1000) * shelf.unit)
        await shelf.values.put(f"aa:{number}", b"", 1000 * shelf.unit)
    await shelf.passes(15)
    found = {key async for some in shelf.values.keys("a[*?\\]:") for key in some}
    assert found == {f"a[*?\\]:{number}" for number in range(0, 1200, 2)}


async def test_keys_are_texts_of_any_script(shelf: Shelf) -> None:
    key = "é中🙂 \n" * 20
    await shelf.values.put(key, b"1", 1000 * shelf.unit)
    assert await shelf.values.get(key) == b"1"
    assert [key async for some in shelf.values.keys("é中") for key in some] == [key]


async def test_listeners_are_told(shelf: Shelf) -> None:
    messages = shelf.messages
    one, again, other = messages.listen("news"), messages.listen("news"), messages.listen("else")
    assert [await anext(one), await anext(again), await anext(other)] == [None, None, None]
    await messages.publish("news", b"1")
    await messages.publish("news", b"2")
    await messages.publish("else", b"3")
    assert [await anext(one), await anext(one), await anext(other)] == [b"1", b"2", b"3"]
    assert [await anext(again), await anext(again)] == [b"1", b"2"]
    waiting = asyncio.ensure_future(anext(one))
    await asyncio.sleep(0)
    await messages.publish("news", b"4")
    assert await asyncio.wait_for(waiting, 5) == b"4"
    for listener in (one, again, other):
        await listener.aclose()  # type: ignore[attr-defined]
    anew = messages.listen("news")
    assert await anext(anew) is None
    await messages.publish("news", b"5")
    assert await anext(anew) == b"5"
    await anew.aclose()  # type: ignore[attr-defined]


async def test_who_is_too_far_behind_is_told_so(shelf: Shelf) -> None:
    behind = shelf.messages.listen("news")
    assert await anext(behind) is None
    for number in range(3000):
        await shelf.messages.publish("news", b"%d" % number)
    seen = [await anext(behind)]
    while seen[-1] != b"2999":
        seen.append(await asyncio.wait_for(anext(behind), 5))
    assert len(seen) < 2500
    assert None in seen
    await behind.aclose()  # type: ignore[attr-defined]
