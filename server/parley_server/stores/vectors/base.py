"""What an index of vectors does: tell which ones are near, within one partition and never across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vector: TypeAlias = "npt.NDArray[np.float32]"
"""One dimension, of length 1 by Euclid. Those of a partition have one width; another one empties it."""


@dataclass(frozen=True, slots=True)
class Near:
    """A vector that is near. `similarity`: the cosine, at most 1. `note`: what was kept with it."""

    id: bytes
    similarity: float
    note: bytes


class Vectors(Protocol):
    """Vectors by partition and ID. What is near is told without regard to stores that cannot be asked now."""

    async def is_empty(self, partition: bytes) -> bool:
        """Whether a partition holds nothing. Waits until what others have added to it is known."""
        ...

    async def find(self, partition: bytes, vector: Vector, least: float, most: int) -> Sequence[Near]:
        """Up to `most` vectors with a cosine of at least `least`, the nearest first. Waits as well."""
        ...

    async def add(self, partition: bytes, id: bytes, vector: Vector, note: bytes, ttl: float) -> None:
        """Keep a vector for `ttl` seconds, in place of the one with this ID."""
        ...

    async def drop(self, prefix: bytes) -> None:
        """Forget all partitions that begin with `prefix`."""
        ...

    async def remove(self, partition: bytes, ids: Sequence[bytes]) -> None:
        """Forget vectors."""
        ...
