"""One partition: what is found in it, whatever was added and removed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from parley_server.stores.vectors import block, partition
from parley_server.stores.vectors.base import Near, Vector
from parley_server.stores.vectors.partition import Partition
from tests.stores.vectors.near import clustered, nearest, unit

MOST = 40


class Changes(RuleBasedStateMachine):
    """A partition with small blocks and a graph above 12 vectors, beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.partition = Partition(4, MOST, large=12)
        self.kept: dict[bytes, tuple[Vector, bytes, float]] = {}

    @rule(id=st.integers(0, 60), seed=st.integers(0, 10_000), ttl=st.integers(1, 30))
    def add(self, id: int, seed: int, ttl: int) -> None:
        name, vector = b"%d" % id, unit(*np.random.default_rng(seed).normal(size=4))
        self.partition.add(name, vector, b"note %d" % seed, self.now + ttl, self.now)
        self.kept[name] = (vector, b"note %d" % seed, self.now + ttl)
        self._forget_what_had_to_go()

    @rule(id=st.integers(0, 60))
    def remove(self, id: int) -> None:
        name = b"%d" % id
        there = self.kept.pop(name, None)
        found = self.partition.remove(name)
        assert found or there is None or there[2] <= self.now

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.kept = {name: kept for name, kept in self.kept.items() if kept[2] > self.now}

    @rule()
    def sweep(self) -> None:
        self.partition.sweep(self.now)
        assert len(self.partition) == len(self.kept)

    @rule()
    def grow(self) -> None:
        self.partition.grow(self.now)

    @rule(seed=st.integers(0, 10_000), least=st.floats(-1, 1), most=st.integers(1, 50))
    def find(self, seed: int, least: float, most: int) -> None:
        asked = unit(*np.random.default_rng(seed).normal(size=4))
        found = self.partition.find(asked, least, most, self.now)
        vectors = {name: kept[0] for name, kept in self.kept.items()}
        exact = nearest(vectors, asked, least)
        assert len(found) <= most
        assert {near.id for near in found} <= {*exact} | {
            id for id, v in vectors.items() if abs(v @ asked - least) < 1e-5
        }
        for near in found:
            assert near.similarity == pytest.approx(float(vectors[near.id] @ asked), abs=1e-5)
            assert near.note == self.kept[near.id][1]
        similarities = [near.similarity for near in found]
        assert similarities == sorted(similarities, reverse=True)
        if exact and abs(float(vectors[exact[0]] @ asked) - least) > 1e-5:
            assert found, "the graph may miss some, but not all"
            if self.partition._graph is None:
                assert similarities[0] == pytest.approx(float(vectors[exact[0]] @ asked), abs=1e-5)
                assert len(found) >= min(most, len([id for id in exact if vectors[id] @ asked > least + 1e-5]))

    @invariant()
    def no_more_than_the_most(self) -> None:
        assert len(self.partition) <= MOST
        assert len(self.kept) <= len(self.partition)

    def _forget_what_had_to_go(self) -> None:
        gone = [name for name in self.kept if name not in self.partition]
        assert not gone or len(self.partition) >= MOST - MOST // 32 - 1, "only for want of room"
        for name in gone:
            del self.kept[name]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (block, partition):
        monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(partition, "_PIECE", 3)


def test_what_is_near_is_found_whatever_was_done_before() -> None:
    run_state_machine_as_test(Changes, settings=settings(max_examples=60, stateful_step_count=60, deadline=None))


def test_readers_on_other_threads_see_whole_rows_only() -> None:
    rows = clustered(400, 16, seed=1)
    found_wrong: list[str] = []
    vectors, done = Partition(16, 10_000, large=50), threading.Event()

    def is_whole(near: Near) -> bool:
        cosine = float(rows[int(near.id)] @ rows[7])
        return near.note == b"note " + near.id and near.similarity == pytest.approx(cosine, abs=1e-5)

    def read() -> None:
        while not done.is_set():
            found_wrong.extend(repr(near) for near in vectors.find(rows[7], -1, 5, 0) if not is_whole(near))

    def build() -> None:
        while not done.is_set():
            vectors.grow(0)

    threads = [threading.Thread(target=read), threading.Thread(target=read), threading.Thread(target=build)]
    for thread in threads:
        thread.start()
    for turn in range(5):
        for index, row in enumerate(rows):
            vectors.add(b"%d" % index, row, b"note %d" % index, 1, 0)
            if index % 3 == turn % 3:
                vectors.remove(b"%d" % (index // 2))
    done.set()
    for thread in threads:
        thread.join()
    assert not found_wrong


def test_memory_is_given_back() -> None:
    vectors = Partition(4, 1000)
    for turn in range(50):
        for index in range(100):
            vectors.add(b"%d-%d" % (turn, index), unit(1, index, turn, 1), b"", turn + 1.5, turn)
    assert sum(len(one._expires) for one in vectors._blocks) < 1000
    vectors.sweep(1000)
    assert len(vectors) == 0
    assert sum(len(one._expires) for one in vectors._blocks) <= 8


def test_a_graph_of_those_who_are_gone_is_made_anew() -> None:
    vectors = Partition(8, 1000, large=20)
    rows = clustered(300, 8, seed=2)
    for index, row in enumerate(rows):
        vectors.add(b"%d" % index, row, b"", 1e9, 0)
        vectors.grow(0)
    while vectors.grow(0):
        pass
    first = vectors._graph
    assert first is not None
    for index in range(220):
        vectors.remove(b"%d" % index)
    assert vectors.wants_to_grow
    while vectors.grow(0):
        assert vectors.find(rows[250], 0.99, 1, 0)[0].id == b"250"
    assert vectors._graph is not None
    assert vectors._graph is not first
    assert vectors._graph.count == 80
    for index in range(220, 290):
        vectors.remove(b"%d" % index)
    assert vectors.wants_to_grow
    assert not vectors.grow(0)
    assert vectors._graph is None
    assert vectors.find(rows[295], 0.99, 1, 0)[0].id == b"295"
