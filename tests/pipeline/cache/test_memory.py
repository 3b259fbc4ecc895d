"""Answers in memory: who has to go, and what all of it takes up."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from hypothesis import given
from hypothesis import strategies as st

from parley_server.pipeline.cache.entry import Entry
from parley_server.pipeline.cache.memory import Memory

HEAD = len(Entry.of(b"", made=0.0, ttl=1.0).packed)


def entry(size: int) -> Entry:
    return Entry.of(bytes(size), made=0.0, ttl=1.0)


class Model:
    """The same as a list: used last comes last."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.entries: list[tuple[bytes, int]] = []

    def put(self, key: bytes, size: int, costs: int) -> None:
        self.entries = [one for one in self.entries if one[0] != key]
        if costs <= self.max_bytes:
            self.entries.append((key, costs))
        while sum(cost for _, cost in self.entries) > self.max_bytes:
            del self.entries[0]

    def get(self, key: bytes) -> bool:
        found = [one for one in self.entries if one[0] == key]
        self.entries = [one for one in self.entries if one[0] != key] + found
        return bool(found)


keys = st.integers(0, 8).map(lambda number: bytes([number]))


@given(st.lists(st.tuples(keys, st.none() | st.integers(0, 4000)), max_size=60), st.integers(0, 8000))
def test_those_not_used_for_longest_go_first(steps: list[tuple[bytes, int | None]], max_bytes: int) -> None:
    evicted: list[None] = []
    memory, model = Memory(max_bytes, lambda: evicted.append(None)), Model(max_bytes)
    for key, size in steps:
        if size is None:
            assert (memory.get(key) is not None) is model.get(key)
        else:
            memory.put(key, entry(size))
            model.put(key, size, size + HEAD + 270)
        assert memory.size == sum(cost for _, cost in model.entries) <= max_bytes
    assert [key for piece in memory.pieces() for key, _ in piece] == [key for key, _ in model.entries]


def test_a_smaller_cap_takes_effect_at_once() -> None:
    evicted: list[None] = []
    memory = Memory(10_000, lambda: evicted.append(None))
    for number in range(10):
        memory.put(bytes([number]), entry(100))
    memory.max_bytes = 600
    assert (len(memory), len(evicted)) == (1, 9)
    assert memory.get(bytes([9])) is not None


def test_a_hundred_thousand_entries_take_up_what_they_are_said_to_within_five_per_cent() -> None:
    script = """
        import gc, os, random
        from pathlib import Path
        from parley_server.pipeline.cache.entry import Entry, Saved
        from parley_server.pipeline.cache.memory import Memory

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        chance = random.Random(7)
        memory = Memory(118_000_000, lambda: None)

        def fill(number):
            for _ in range(number):
                count = chance.randrange(10_000)
                saved = Saved(count + 1000, count + 1000, count * 10_000)
                made = 1_790_000_000.0 + count
                data = chance.randbytes(int(chance.lognormvariate(6.3, 0.8)))
                one = Entry.of(data, made=made, ttl=3600.0, tenant="t", target="lab/m", answered="lab/m", saved=saved)
                memory.put(chance.randbytes(20), one)
            gc.collect()

        fill(1000)
        before, counted = resident(), memory.size
        fill(99_000)
        print(len(memory), (resident() - before) / (memory.size - counted), memory.size)
        fill(200_000)
        print(len(memory), (resident() - before) / (memory.size - counted), memory.size)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50, check=True
    )
    whole, churned = (line.split() for line in done.stdout.splitlines())
    assert int(whole[0]) == 100_000
    assert 0.95 <= float(whole[1]) <= 1.05
    assert 0.99 * 118_000_000 < float(churned[2]) <= 118_000_000
    assert 0.95 <= float(churned[1]) <= 1.05, "after many have come and gone"
