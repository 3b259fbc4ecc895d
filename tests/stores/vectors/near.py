"""Vectors for tests, and what is near by the definition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parley_server.stores.vectors.base import Vector


def unit(*values: float) -> Vector:
    """A vector in that direction."""
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def clustered(count: int, width: int, seed: int, *, spread: float = 0.6, clusters: int = 0) -> Vector:
    """Rows that lie in groups, as texts about some topics do."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters or max(1, count // 50), width))
    rows = centres[random.integers(len(centres), size=count)] + spread * random.normal(size=(count, width))
    found: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def nearest(vectors: Mapping[bytes, Vector], to: Vector, least: float) -> list[bytes]:
    """The IDs with a cosine of at least `least`, nearest first."""
    cosines = {id: float(vector @ to) for id, vector in vectors.items()}
    return sorted((id for id, cosine in cosines.items() if cosine >= least), key=lambda id: -cosines[id])
