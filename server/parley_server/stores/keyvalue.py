"""What a store of values does: keep bytes under a key for a while, and tell all who share it of what happens.

Keys are texts of at most 512 bytes in UTF-8, values opaque bytes. Every method may be another process's work, so each
is asynchronous, and each raises StoreUnavailable where that process cannot be asked. Lifetimes are seconds, above 0.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol


class StoreUnavailable(Exception):
    """The store cannot be asked now: it is not there, does not answer in time, or refuses to write.

    What was asked may have been done all the same.
    """


class KeyValue(Protocol):
    """Values by key, each for its lifetime. What is written by one is seen by all who share the store."""

    async def get(self, key: str) -> bytes | None:
        """The value, None if there is none or its time is over."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The same for several keys, in their order, in one go."""
        ...

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value`, whatever there was."""
        ...

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """Keep `value` if there is none; gives the one that there is already, None if it was added. Atomic."""
        ...

    async def replace(self, key: str, expected: bytes, value: bytes, ttl: float) -> bool:
        """Keep `value` if there is `expected`; whether there was. Atomic."""
        ...

    async def remove(self, key: str, expected: bytes | None = None) -> bool:
        """Forget the value, if it is `expected` where that is given; whether there was one to forget. Atomic."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The keys that begin with `prefix`, some at a time, in no order.

        Those that are there all the while are given at least once; others may be.
        """
        ...


class Messages(Protocol):
    """Tells all who share the store of what happens. Nobody keeps messages: who does not listen misses them."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell all who listen to `channel`, oneself included."""
        ...

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """The messages from now on, until the iterator is closed.

        None, first of all and then whenever messages may have been missed: what they said must be looked up.
        """
        ...
