"""What every store of groups does, whatever it is made of."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.groups import Groups
from parley_server.stores.memory.groups import MemoryGroups


@dataclass
class Shelf:
    """Two views of one store of each kind. Lifetimes are given in `unit` seconds, and `passes(n)` lets n pass."""

    groups: Groups
    theirs: Groups
    unit: float
    passes: Callable[[float], Awaitable[None]]

    async def held(self, group: str) -> dict[bytes, bytes]:
        """What the other view sees of a group."""
        return {member.name: member.value async for some in self.theirs.read(group) for member in some}


@pytest.fixture(params=("memory", "sqlite", "valkey", "debian_redis", "cluster"))
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        now = 1000.0

        async def advance(seconds: float) -> None:
            nonlocal now
            now += seconds

        groups = MemoryGroups(lambda: now)
        yield Shelf(groups, groups, 1.0, advance)
        return
    if request.param == "sqlite":
        text = f"storage: {{path: {request.getfixturevalue('tmp_path')}/parley.db}}"
    else:
        url = request.getfixturevalue(request.param).url
        text = f"redis: {{url: '{url}', prefix: 'test-{uuid.uuid4().hex}:', slow: 5, timeout: 5, connect_timeout: 5}}"
    mine, theirs = (shelves.build(load(text, {})) for _ in range(2))
    for stores in (mine, theirs):
        await stores.start()
    yield Shelf(mine.groups("cache"), theirs.groups("cache"), 0.02, lambda units: asyncio.sleep(0.02 * units))
    assert not mine.health.failures
    assert not theirs.health.failures
    await asyncio.gather(mine.aclose(), theirs.aclose())


async def test_each_value_lives_for_its_own_time(shelf: Shelf) -> None:
    groups, unit = shelf.groups, shelf.unit
    await groups.put("g", b"short", b"1", 10 * unit)
    await groups.put("g", b"long", b"\x00\xff:\r\n", 1000 * unit)
    await groups.put("g", b"longer", b"", 2000 * unit)
    await groups.put("other", b"long", b"2", 1000 * unit)
    assert await shelf.held("g") == {b"short": b"1", b"long": b"\x00\xff:\r\n", b"longer": b""}
    left = {member.name: member.left async for some in shelf.theirs.read("g") for member in some}
    assert left[b"long"] == pytest.approx(1000 * unit, abs=500 * unit)
    assert left[b"longer"] - left[b"long"] == pytest.approx(1000 * unit, abs=100 * unit)
    await shelf.passes(11)
    assert set(await shelf.held("g")) == {b"long", b"longer"}
    await groups.put("g", b"short", b"3", 1000 * unit)
    assert (await shelf.held("g"))[b"short"] == b"3", "what was forgotten can come again"
    assert await shelf.held("nothing") == {}


async def test_a_short_life_does_not_shorten_the_others(shelf: Shelf) -> None:
    await shelf.groups.put("g", b"long", b"1", 1000 * shelf.unit)
    await shelf.groups.put("g", b"short", b"2", 5 * shelf.unit)
    await shelf.passes(6)
    assert await shelf.held("g") == {b"long": b"1"}


async def test_what_is_put_or_removed_is_seen_by_all(shelf: Shelf) -> None:
    groups, long = shelf.groups, 1000 * shelf.unit
    await groups.put("g", b"a", b"1", long)
    await shelf.theirs.put("g", b"a", b"2", long)
    await groups.put("g", b"b", b"3", long)
    await groups.put("g", b"c", b"4", long)
    await groups.remove("g", [b"b", b"none"])
    await groups.remove("g", [])
    await groups.remove("none", [b"a"])
    assert await shelf.held("g") == {b"a": b"2", b"c": b"4"}


async def test_groups_are_dropped_by_the_beginning_of_their_names(shelf: Shelf) -> None:
    for number in range(700):
        await shelf.groups.put(f"a*:{number}", b"1", b"1", 1000 * shelf.unit)
    for group in ("a*", "aa:1", "b", "a*:"):
        await shelf.groups.put(group, b"1", b"2", 1000 * shelf.unit)
    await shelf.groups.drop("a*:")
    await shelf.groups.drop("none")
    held = {group: bool(await shelf.held(group)) for group in ("a*:0", "a*:699", "a*:", "a*", "aa:1", "b")}
    assert held == {"a*:0": False, "a*:699": False, "a*:": False, "a*": True, "aa:1": True, "b": True}


async def test_large_groups_are_read_piece_by_piece(shelf: Shelf) -> None:
    names = [number.to_bytes(2, "big") for number in range(1500)]
    await asyncio.gather(*(shelf.groups.put("g", name, name * 300, 1000 * shelf.unit) for name in names))
    pieces = [len(some) async for some in shelf.theirs.read("g")]
    assert len(pieces) > 1
    assert await shelf.held("g") == {name: name * 300 for name in names}
