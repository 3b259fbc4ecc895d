"""What a store of streams does: keep numbered events, in order, for as long as it was told and has room.

The bytes are opaque here. All methods are asynchronous so that a store may be another process; one in memory never
waits, except in `read` for more, and in `paced`. A stream has one writer and any number of readers. Writers write to a
store in their own memory; others read copies, which are made behind their backs (`copied_streams.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_server.stores.keyvalue import StoreUnavailable

UNTOUCHED = 120.0
"""Seconds after which a copy of a stream that runs has been written to, if only to say that it still does."""


READER = 30.0
"""Seconds for which a reader elsewhere counts that has not read: so long it can slow the writer."""
REMEMBERED = 3600.0
"""Seconds for which it is known of a copy that it was there, once its events are forgotten."""


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
    """How a stream stands. `last`: the newest sequence, 0 if there is none yet. `ending`: None while it runs.

    `owner`: the gateway that writes it, empty if that is this one. `lost`: it has no ending and will have none, since
    its owner is gone.
    """

    last: int
    ending: Ending | None
    owner: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """Events in order. `ending`: set if nothing comes after them. `lost`: nothing does, and there is no ending."""

    events: Sequence[Event]
    ending: Ending | None
    lost: bool = False


class StreamStore(Protocol):
    """A store of streams. All raise StoreUnavailable for a stream that others write, if it cannot be asked for."""

    async def create(self, key: str) -> None:
        """Begin a stream. Keys are used once."""
        ...

    async def append(self, key: str, events: Sequence[Event]) -> None:
        """Add events to a stream that runs."""
        ...

    async def paced(self, key: str, ahead: int, within: float | None = None) -> bool:
        """Wait while a stream that runs has readers, but even the fastest is more than `ahead` bytes behind.

        For at most `within` seconds; whether that is over.
        """
        ...

    async def finish(self, key: str, ending: Ending) -> None:
        """End a stream; from now on it is kept for the window."""
        ...

    async def state(self, key: str) -> State:
        """How a stream stands. Raises StreamUnknown, StreamExpired."""
        ...

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        """The events after the sequence `after`, about `most` bytes of them and at least one, as soon as there is any.

        Without further events it waits until there are some, or the stream ends or is lost. A `reader` with a name has
        taken what it is given, as far as `paced` is concerned. Raises StreamUnknown; and StreamExpired if an event
        after `after` is no longer kept.
        """
        ...

    async def leave(self, key: str, reader: str) -> None:
        """This reader reads no more."""
        ...

    async def is_shared(self, key: str) -> bool:
        """Whether other gateways can read all there is of a stream; sees to it first, if it can."""
        ...

    async def aclose(self) -> None:
        """Let go of what the store itself holds: connections, timers."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What is new in a stream since it was last copied.

    `whole`: the events begin with the oldest that is kept. `dropped`: the newest sequence that is no longer kept.
    """

    key: str
    events: Sequence[Event]
    dropped: int
    ending: Ending | None
    whole: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of a change. `missing`: there is no copy that it could be added to, it has to be made anew.

    `taken`: the newest sequence that a reader elsewhere has taken; None if there are no readers elsewhere.
    """

    missing: bool = False
    taken: int | None = None


class StreamCopies(Protocol):
    """Copies of streams for others to read, each written by one gateway, its owner. All raise StoreUnavailable.

    A copy is kept for the window after its ending, and for `UNTOUCHED` longer after its owner's last word.
    """

    async def write(self, changes: Sequence[Change]) -> list[Copied | StoreUnavailable]:
        """Make copies what their streams are now, in one go; what went wrong with one of them stands in its place."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Keep no events of these streams; that they were there is still known."""
        ...

    async def state(self, key: str) -> State:
        """As `StreamStore.state`."""
        ...

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        """As `StreamStore.read`."""
        ...

    async def leave(self, key: str, reader: str) -> None:
        """As `StreamStore.leave`."""
        ...

    async def aclose(self) -> None:
        """Let go of what is held here; the copies stay."""
        ...
