"""What a store of streams does: keep numbered events, in order, for as long as it was told and has room.

The bytes are opaque here. All methods are asynchronous so that a store may be another process; one in memory never
waits, except in `read`, for more. A stream has one writer and any number of readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StreamUnknown(Exception):
    """No stream has that key."""


class StreamExpired(Exception):
    """The stream was there and has been forgotten, or its beginning has, and that is what is asked for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, in bytes, and how many seconds after its end a stream is."""

    stream_bytes: int
    """Of one stream: a longer one loses its beginning. Its newest event is kept in any case."""
    total_bytes: int
    """Of all: finished streams are forgotten first, oldest first; then the longest running one loses its beginning."""
    window: float


@dataclass(frozen=True, slots=True)
class Event:
    """One event; sequences of a stream grow from 1, not necessarily by 1."""

    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended: two opaque texts of its writer."""

    status: bytes = b""
    usage: bytes = b""


@dataclass(frozen=True, slots=True)
class State:
    """How a stream stands. `last`: the newest sequence, 0 if there is none yet. `ending`: None while it runs."""

    last: int
    ending: Ending | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Events in order. `behind`: bytes that are kept after them. `ending`: set if nothing comes after them."""

    events: Sequence[Event]
    behind: int
    ending: Ending | None


class StreamStore(Protocol):
    """A store of streams."""

    async def create(self, key: str) -> None:
        """Begin a stream. Keys are used once."""
        ...

    async def append(self, key: str, events: Sequence[Event]) -> int:
        """Add events to a stream that runs; gives the bytes they take, which are the bytes that bounds are about."""
        ...

    async def finish(self, key: str, ending: Ending) -> None:
        """End a stream; from now on it is kept for the window."""
        ...

    async def state(self, key: str) -> State:
        """How a stream stands. Raises StreamUnknown, StreamExpired."""
        ...

    async def read(self, key: str, after: int, most: int) -> Slice:
        """The events after the sequence `after`, about `most` bytes of them and at least one, as soon as there is any.

        Without further events it waits until there are some or the stream ends. Raises StreamUnknown; and StreamExpired
        if an event after `after` is no longer kept.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the store itself holds: connections, timers."""
        ...
