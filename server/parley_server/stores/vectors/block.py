"""Vectors row by row, in memory reserved at once.

One thread writes, any number may read: rows are only ever added, and count once they are whole; one that is gone has
expired. So readers need no lock, and see every row that was there when they began.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parley_server.stores.vectors.base import Vector

ROWS = 4096  # of a full-sized block: 6 MiB at 384 dimensions
_GONE = -np.inf


class Block:
    """Rows with the serial numbers `first`, `first` + 1, …"""

    def __init__(self, width: int, capacity: int, first: int) -> None:
        self.first = first
        self.count = 0
        self.ids: list[bytes] = []
        self.notes: list[bytes] = []
        self._vectors = np.empty((capacity, width), np.float32)
        self._expires = np.empty(capacity, np.float64)

    @property
    def width(self) -> int:
        return self._vectors.shape[1]

    @property
    def is_full(self) -> bool:
        return self.count == len(self._vectors)

    @property
    def end(self) -> int:
        """The serial number after the last row's."""
        return self.first + self.count

    def add(self, id: bytes, vector: Vector, note: bytes, expires: float) -> None:
        """One more row. There has to be room."""
        self._vectors[self.count] = vector
        self._expires[self.count] = expires
        self.ids.append(id)
        self.notes.append(note)
        self.count += 1

    def larger(self, capacity: int) -> Block:
        """The same rows with room for more."""
        block = Block(self.width, capacity, self.first)
        block._vectors[: self.count] = self._vectors[: self.count]
        block._expires[: self.count] = self._expires[: self.count]
        block.ids, block.notes, block.count = list(self.ids), list(self.notes), self.count
        return block

    def end_row(self, row: int) -> None:
        """The row is gone."""
        self._expires[row] = _GONE

    def ended(self, now: float) -> list[int]:
        """The rows that have expired."""
        return [int(row) for row in np.flatnonzero(self._expires[: self.count] <= now)]

    def living(self, now: float) -> Iterator[tuple[bytes, Vector, bytes, float]]:
        """The rows that have not, as `add` took them."""
        for row in np.flatnonzero(self._expires[: self.count] > now):
            yield self.ids[row], self._vectors[row], self.notes[row], float(self._expires[row])

    def near(self, vector: Vector, least: float, most: int, now: float, start: int = 0) -> list[tuple[float, int]]:
        """Cosine and row of the nearest ones from the row `start` on, in no order."""
        count = self.count
        cosines = self._vectors[start:count] @ vector
        found = np.flatnonzero((cosines >= least) & (self._expires[start:count] > now))
        if len(found) > most:
            found = found[np.argpartition(-cosines[found], most)[:most]]
        return [(float(cosines[row]), int(row) + start) for row in found]

    def cosine(self, row: int, vector: Vector, now: float) -> float | None:
        """That of one row; None if it has expired."""
        return float(self._vectors[row] @ vector) if self._expires[row] > now else None

    def rows(self, start: int, stop: int, now: float) -> tuple[list[int], Vector]:
        """Serial numbers and vectors of the living among some rows."""
        rows = np.flatnonzero(self._expires[start : min(stop, self.count)] > now) + start
        return [self.first + int(row) for row in rows], self._vectors[rows]
