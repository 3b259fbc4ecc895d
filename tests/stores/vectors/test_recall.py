"""How often the graph of a large partition finds what looking at every vector would."""

from __future__ import annotations

import numpy as np

from parley_server.stores.vectors.partition import Partition
from tests.stores.vectors.near import clustered


def test_the_graph_finds_the_nearest() -> None:
    rows = clustered(6000, 96, seed=3)
    vectors = Partition(96, 10_000, large=2000)
    for index, row in enumerate(rows):
        vectors.add(b"%d" % index, row, b"", 1e9, 0)
    while vectors.grow(0):
        pass
    assert vectors._graph is not None
    assert vectors._graph.count == 6000
    random = np.random.default_rng(4)
    asked = rows[:400] + 0.15 * random.normal(size=(400, 96)).astype(np.float32) / np.sqrt(96)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    exact = np.argmax(asked @ rows.T, axis=1)
    found = [int(vectors.find(one, 0.5, 1, 0)[0].id) for one in asked]
    assert np.mean(np.array(found) == exact) >= 0.99
