"""Streams in the memory of this process: gone when it ends."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence

from parley_server.stores.streams import Bounds, Ending, Event, Slice, State, StreamExpired, StreamUnknown

OVERHEAD = 120
"""Bytes that an event takes beside its own: objects, and places in a list."""
_SLACK = 8  # what is too much is dropped in steps of an eighth, so that not every event pays for moving the others
_REMEMBERED = 2000  # keys of forgotten streams, so that a reader who comes a little too late is told so


class _Stream:
    __slots__ = (
        *("begin", "dropped", "end", "ending", "ends", "events", "expires", "last"),
        *("moved", "readers", "waiting"),
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ends: list[int] = []  # where each of them ends, if all there ever were stood in a row
        self.begin = self.end = 0  # the same of what is kept
        self.dropped = 0  # the newest sequence that is no longer kept
        self.last = 0
        self.ending: Ending | None = None
        self.expires = 0.0
        self.waiting: set[asyncio.Future[None]] = set()
        self.readers: dict[str, int] = {}  # how far each has come, as `ends` counts
        self.moved = asyncio.Event()  # one of them has, or has left

    def lag(self) -> int:
        """Bytes that the fastest reader is behind; 0 if there is none."""
        return self.end - max(self.readers.values()) if self.readers else 0

    def offset(self, sequence: int) -> int:
        """Where what comes after `sequence` begins, as `ends` counts."""
        index = bisect_right(self.events, sequence, key=_sequence)
        return self.begin if index == 0 else self.ends[index - 1]

    def slice(self, after: int, most: int, reader: str = "") -> Slice:
        events = self.events
        start = bisect_right(events, after, key=_sequence)
        end, size = start, 0
        while end < len(events) and (size < most or end == start):
            size += len(events[end].data)
            end += 1
        if reader:
            self.readers[reader] = self.ends[end - 1] if end else self.begin
            self.moved.set()
        return Slice(events[start:end], self.ending if end == len(events) else None)

    def wake(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()

    @property
    def held(self) -> int:
        return self.end - self.begin

    def add(self, events: Sequence[Event]) -> int:
        """Append `events`; gives the bytes that they take, which are what bounds are about."""
        before = end = self.end
        for event in events:
            end += len(event.data) + OVERHEAD
            self.ends.append(end)
        self.events += events
        self.end = end
        self.last = events[-1].sequence
        return end - before

    def drop(self, target: int) -> int:
        """Let go of the oldest events until `target` bytes are held, but not of the newest; gives the bytes freed."""
        count = min(bisect_left(self.ends, self.end - target) + 1, len(self.events) - 1)
        if count <= 0 or self.held <= target:
            return 0
        before, self.begin = self.begin, self.ends[count - 1]
        self.dropped = self.events[count - 1].sequence
        del self.events[:count], self.ends[:count]
        return self.begin - before

    def clear(self) -> int:
        """Let go of everything; gives the bytes freed."""
        freed, self.begin, self.dropped = self.held, self.end, self.last
        self.events, self.ends = [], []
        return freed


class MemoryStreams:
    """A StreamStore. `held` is what it holds, in bytes, `len()` the number of streams."""

    def __init__(self, bounds: Bounds) -> None:
        self.held = 0
        self.on_forget: Callable[[str], None] = lambda key: None
        """Called with the key of a finished stream that has to go before its window is over."""
        self._bounds = bounds
        self._running: dict[str, _Stream] = {}
        self._finished: OrderedDict[str, _Stream] = OrderedDict()  # in the order in which they expire
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._running) + len(self._finished)

    async def create(self, key: str) -> None:
        self._running[key] = _Stream()

    async def append(self, key: str, events: Sequence[Event]) -> None:
        stream = self._running[key]
        if not events:
            return
        self.held += stream.add(events)
        if stream.held > self._bounds.stream_bytes:
            self.held -= stream.drop(self._bounds.stream_bytes - self._bounds.stream_bytes // _SLACK)
        if self.held > self._bounds.total_bytes:
            self._make_room()
        if stream.waiting:
            stream.wake()

    async def paced(self, key: str, ahead: int, within: float | None = None) -> bool:
        stream = self._running[key]
        while stream.lag() > ahead:
            stream.moved.clear()
            try:
                async with asyncio.timeout(within):
                    await stream.moved.wait()
            except TimeoutError:
                return False
        return True

    async def finish(self, key: str, ending: Ending) -> None:
        stream = self._running.pop(key)
        stream.ending = ending
        stream.expires = asyncio.get_running_loop().time() + self._bounds.window
        self._finished[key] = stream
        if self._timer is None:
            self._set_timer()
        stream.wake()

    async def state(self, key: str) -> State:
        stream = self._find(key)
        return State(stream.last, stream.ending)

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        stream = self._find(key)
        while stream.last <= after and stream.ending is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            stream.waiting.add(future)
            try:
                await future
            finally:
                stream.waiting.discard(future)
        if after < stream.dropped:
            raise StreamExpired(key)
        return stream.slice(after, most, reader)

    async def leave(self, key: str, reader: str) -> None:
        self.reads_elsewhere(key, reader, None)

    async def is_shared(self, key: str) -> bool:
        return False

    def reads_elsewhere(self, key: str, reader: str, taken: int | None) -> None:
        """A reader that does not read here has come to the sequence `taken`; None: it reads no more."""
        stream = self._running.get(key) or self._finished.get(key)
        if stream is None:
            return
        if taken is None:
            stream.readers.pop(reader, None)
        else:
            stream.readers[reader] = stream.offset(taken)
        stream.moved.set()

    def kept(self, key: str, after: int, most: int) -> tuple[int, Slice]:
        """The newest sequence that is no longer kept, and what `read` would give of the rest, without waiting for it.

        Raises StreamUnknown, StreamExpired.
        """
        stream = self._find(key)
        return stream.dropped, stream.slice(after, most)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find(self, key: str) -> _Stream:
        stream = self._running.get(key) or self._finished.get(key)
        if stream is not None:
            return stream
        raise StreamExpired(key) if key in self._forgotten else StreamUnknown(key)

    def _make_room(self) -> None:
        total = self._bounds.total_bytes
        while self.held > total and self._finished:
            self.on_forget(self._forget())
        while self.held > total:
            longer = [stream for stream in self._running.values() if len(stream.events) > 1]
            if not longer:  # every running stream is down to its newest event
                return
            longest = max(longer, key=_held)
            self.held -= longest.drop(longest.held - max(self.held - total, longest.held // _SLACK))

    def _forget(self) -> str:
        """Forget the stream that ended first; gives its key. Who is reading it is told."""
        key, stream = self._finished.popitem(last=False)
        self.held -= stream.clear()
        self._forgotten[key] = None
        if len(self._forgotten) > _REMEMBERED:
            self._forgotten.popitem(last=False)
        return key

    def _set_timer(self) -> None:
        self._timer = None
        if self._finished:
            first = next(iter(self._finished.values()))
            self._timer = asyncio.get_running_loop().call_at(first.expires, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._finished and next(iter(self._finished.values())).expires <= now + 0.001:
            self._forget()
        self._set_timer()


def _held(stream: _Stream) -> int:
    return stream.held


def _sequence(event: Event) -> int:
    return event.sequence
