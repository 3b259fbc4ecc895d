"""What a store of groups does: keep values together that are read together, each for its own lifetime.

Names of groups are texts of at most 512 bytes in UTF-8, names within them and values opaque bytes. Every method raises
StoreUnavailable where the store cannot be asked. Lifetimes are seconds, above 0.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Member:
    """A value of a group. `left`: the seconds that it has yet to live."""

    name: bytes
    value: bytes
    left: float


class Groups(Protocol):
    """Values by group and name. What is written by one is seen by all who share the store."""

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        """Keep `value`, whatever there was under the name."""
        ...

    async def remove(self, group: str, names: Sequence[bytes]) -> None:
        """Forget the values of these names, if there are any."""
        ...

    async def drop(self, prefix: str) -> None:
        """Forget all groups whose names begin with `prefix`. Takes as long as it takes to look at all names."""
        ...

    def read(self, group: str) -> AsyncIterator[Sequence[Member]]:
        """All values of a group, some at a time, in no order.

        Those that are there all the while are given at least once.
        """
        ...
