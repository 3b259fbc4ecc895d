"""The vectors of one partition. Those nearest to another are found from any thread; one thread makes changes."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator, Sequence

from parley_server.stores.vectors.base import Near, Vector
from parley_server.stores.vectors.block import ROWS, Block
from parley_server.stores.vectors.graph import Graph

LARGE = 50_000  # vectors above which there is a graph
_SMALLEST = 1  # rows: most partitions hold little
_PIECE = 64  # vectors that go into the graph at a time
_ROUNDING = 1e-6  # of a cosine in single precision


class Partition:
    """Up to `most` vectors of one width; the oldest make room for more. Of more than `large` there is a graph."""

    def __init__(self, width: int, most: int, large: int = LARGE) -> None:
        self.width = width
        self._most = most
        self._large = large
        self._blocks: tuple[Block, ...] = ()  # replaced, never changed: who reads has its own
        self._serials: dict[bytes, int] = {}
        self._next = 0
        self._graph: Graph | None = None
        self._growing: Graph | None = None

    def __len__(self) -> int:
        return len(self._serials)

    def __contains__(self, id: bytes) -> bool:
        return id in self._serials

    def add(self, id: bytes, vector: Vector, note: bytes, expires: float, now: float) -> None:
        """Keep a vector, in place of the one with this ID."""
        self.remove(id)
        if len(self) >= self._most:
            self.sweep(now)
            self._drop_oldest(len(self) - self._most + 1 + self._most // 32)
        if not self._blocks or self._blocks[-1].is_full:
            self._make_room(now)
        self._append(id, vector, note, expires)

    def remove(self, id: bytes) -> bool:
        """Forget a vector; whether there was one."""
        serial = self._serials.pop(id, None)
        if serial is None:
            return False
        block = self._blocks[_index_of(self._blocks, serial)]
        block.end_row(serial - block.first)
        return True

    def sweep(self, now: float) -> None:
        """Let go of what has expired, and of memory that is mostly unused for that."""
        for block in self._blocks:
            self._forget_ended(block, now)
        for block in self._blocks[:-1]:
            living = list(block.living(now))
            if 2 * len(living) < block.count:
                self._blocks = tuple(one for one in self._blocks if one is not block)
                self._take_in(living, now)

    def find(self, vector: Vector, least: float, most: int, now: float) -> list[Near]:
        """The nearest, nearest first."""
        blocks, graph = self._blocks, self._graph
        least -= _ROUNDING
        until = 0
        found: list[tuple[float, Block, int]] = []
        if graph is not None:
            until = graph.until
            for block, row in _places(blocks, graph.nearest(vector, 4 * most + 16), until):
                cosine = block.cosine(row, vector, now)
                if cosine is not None and cosine >= least:
                    found.append((cosine, block, row))
        for block in blocks:
            if block.end > until:
                near = block.near(vector, least, most, now, max(0, until - block.first))
                found += [(cosine, block, row) for cosine, row in near]
        nearest = heapq.nlargest(most, found, key=lambda one: one[0])
        return [Near(block.ids[row], min(cosine, 1.0), block.notes[row]) for cosine, block, row in nearest]

    @property
    def wants_to_grow(self) -> bool:
        """Whether `grow` has something to do that is worth it."""
        graph = self._growing or self._graph
        if len(self) <= self._large:
            return graph is not None
        return graph is None or graph is self._growing or self._next - graph.until >= ROWS or self._is_stale(graph)

    def grow(self, now: float) -> bool:
        """Put a few more vectors into the graph, on any one thread; whether there is more to do."""
        blocks = self._blocks
        if len(self) <= self._large:
            self._graph = self._growing = None
            return False
        graph = self._growing or self._graph
        if graph is None or (graph is self._graph and self._is_stale(graph)):
            graph = self._growing = Graph(self.width)
        block = next((block for block in blocks if block.end > graph.until), None)
        if block is not None:
            start = max(0, graph.until - block.first)
            stop = min(start + _PIECE, block.count)
            graph.add(*block.rows(start, stop, now), until=block.first + stop)
            return True
        if graph is self._growing:
            self._graph, self._growing = graph, None
        return False

    def _is_stale(self, graph: Graph) -> bool:
        """Whether most of what is in the graph is gone."""
        return graph.count > 2 * len(self)

    def _forget_ended(self, block: Block, now: float) -> None:
        for row in block.ended(now):
            if self._serials.get(block.ids[row]) == block.first + row:
                del self._serials[block.ids[row]]

    def _append(self, id: bytes, vector: Vector, note: bytes, expires: float) -> None:
        self._serials[id] = self._next
        self._next += 1
        self._blocks[-1].add(id, vector, note, expires)

    def _make_room(self, now: float) -> None:
        """See to it that the last block is not full."""
        if not self._blocks:
            self._blocks = (Block(self.width, _SMALLEST, self._next),)
            return
        last = self._blocks[-1]
        self._forget_ended(last, now)
        living = list(last.living(now))
        if 2 * len(living) <= last.count:  # what is gone makes room enough
            self._blocks = (*self._blocks[:-1], Block(self.width, last.count, self._next))
            self._take_in(living, now)
        elif last.count < ROWS:
            self._blocks = (*self._blocks[:-1], last.larger(min(2 * last.count, ROWS)))
        else:
            self.sweep(now)
            if self._blocks[-1].is_full:
                self._blocks = (*self._blocks, Block(self.width, ROWS, self._next))

    def _take_in(self, living: Sequence[tuple[bytes, Vector, bytes, float]], now: float) -> None:
        """Add rows that were in a block which is there no longer."""
        for id, vector, note, expires in living:
            if self._blocks[-1].is_full:
                self._make_room(now)
            self._append(id, vector, note, expires)

    def _drop_oldest(self, count: int) -> None:
        for block in self._blocks:
            for row, id in enumerate(block.ids):
                if count <= 0:
                    return
                if self._serials.get(id) == block.first + row:
                    self.remove(id)
                    count -= 1


def _index_of(blocks: Sequence[Block], serial: int) -> int:
    """Which block the serial number belongs to; -1 if it is older than all."""
    return bisect.bisect_right(blocks, serial, key=lambda block: block.first) - 1


def _places(blocks: Sequence[Block], serials: Sequence[int], until: int) -> Iterator[tuple[Block, int]]:
    """Block and row of those serial numbers below `until` that still have one."""
    for serial in serials:
        index = _index_of(blocks, serial)
        if serial < until and index >= 0 and serial < blocks[index].end:
            yield blocks[index], serial - blocks[index].first
