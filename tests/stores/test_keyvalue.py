"""What every store of values does."""

from __future__ import annotations

import asyncio

import pytest

from parley_server.stores.keyvalue import KeyValue, Messages
from parley_server.stores.memory.keyvalue import MemoryKeyValue, MemoryMessages

pytestmark = pytest.mark.asyncio


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def values(clock: FakeClock) -> KeyValue:
    return MemoryKeyValue(clock)


@pytest.fixture
def messages() -> Messages:
    return MemoryMessages()


async def test_what_is_put_is_there_until_its_time_is_over(values: KeyValue, clock: FakeClock) -> None:
    await values.put("a", b"1", 10)
    await values.put("b", b"2", 20)
    assert await values.get_many(["b", "none", "a"]) == [b"2", None, b"1"]
    clock.advance(10)
    assert await values.get("a") is None
    assert await values.get("b") == b"2"


async def test_one_of_two_adds(values: KeyValue) -> None:
    assert await values.add("a", b"1", 10) is None
    assert await values.add("a", b"2", 10) == b"1"
    assert await values.get("a") == b"1"


async def test_replaces_and_removes_what_is_expected(values: KeyValue) -> None:
    assert not await values.replace("a", b"1", b"2", 10)
    await values.put("a", b"1", 10)
    assert not await values.replace("a", b"0", b"2", 10)
    assert await values.replace("a", b"1", b"2", 10)
    assert not await values.remove("a", b"1")
    assert await values.remove("a", b"2")
    assert not await values.remove("a")


async def test_lists_keys_by_prefix(values: KeyValue, clock: FakeClock) -> None:
    for number in range(1200):
        await values.put(f"a:{number}", b"", 10 if number % 2 else 20)
        await values.put(f"b:{number}", b"", 10)
    clock.advance(15)
    found = [key async for some in values.keys("a:") for key in some]
    assert sorted(found) == sorted(f"a:{number}" for number in range(0, 1200, 2))


async def test_listeners_are_told(messages: Messages) -> None:
    one, other = messages.listen("news"), messages.listen("else")
    assert await anext(one) is None
    assert await anext(other) is None
    await messages.publish("news", b"1")
    await messages.publish("news", b"2")
    await messages.publish("else", b"3")
    assert [await anext(one), await anext(one), await anext(other)] == [b"1", b"2", b"3"]
    waiting = asyncio.ensure_future(anext(one))
    await asyncio.sleep(0)
    await messages.publish("news", b"4")
    assert await waiting == b"4"
    for _ in range(2000):
        await messages.publish("news", b"5")
    seen = [await anext(one) for _ in range(900)]
    assert None in seen, "who is too far behind is told so"
