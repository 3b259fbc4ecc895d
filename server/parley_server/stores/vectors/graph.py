"""Nearest neighbours without looking at every vector: a graph of them (HNSW, by usearch). For large partitions."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from usearch.index import Index

from parley_server.stores.vectors.base import Vector

_ADDING, _SEARCHING = 64, 96  # how many candidates are kept in view: slower and better with more


class Graph:
    """Vectors by serial number. `until`: all below are in it, if they were alive when it got there."""

    def __init__(self, width: int) -> None:
        self.until = 0
        self._index = Index(ndim=width, metric="ip", dtype="f16", expansion_add=_ADDING, expansion_search=_SEARCHING)
        self._lock = threading.Lock()  # the index may move in memory when it grows

    @property
    def count(self) -> int:
        """Vectors in it, those included that are gone by now."""
        return len(self._index)

    def add(self, serials: Sequence[int], vectors: Vector, until: int) -> None:
        """Some more. Takes about half a millisecond each: not for the event loop."""
        if serials:
            with self._lock:
                self._index.add(np.array(serials, np.uint64), vectors, threads=1)
        self.until = until

    def nearest(self, vector: Vector, most: int) -> list[int]:
        """The serial numbers of the nearest, those included that are gone by now."""
        if not self.count:
            return []
        with self._lock:
            found = self._index.search(vector, most, threads=1)
        return [int(serial) for serial in found.keys]
