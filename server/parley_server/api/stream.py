"""Writing the events of a stream: numbering, heartbeats in silence, merging on request."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from parley import v1
from parley_server.core.reply import Batch

Write = Callable[[v1.StreamChatResponse], Awaitable[None]]


class EventWriter:
    """Numbers events and writes them one at a time; a heartbeat goes out when nothing else has for `interval` seconds.

    `await write(...)` returns when the transport has taken the event, so a slow client slows the upstream read. If it
    takes nothing for `max_stall` seconds, and at most as long again, the task that made the writer is cancelled, and
    `stalled` is set. `ahead` is done before the first of all writes.
    """

    def __init__(
        self,
        write: Write,
        interval: float,
        max_stall: float = math.inf,
        ahead: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.sequence = 0
        self.stalled = False
        self._max_stall = max_stall
        self._stuck: tuple[int, float] | None = None  # the write that was under way at a look back, and when that was
        self._task = asyncio.current_task()
        self._write = write if ahead is None else self._first
        self._usual = write
        self._ahead = ahead
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._busy = False
        self._beat: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(min(interval, max_stall), self._tick)

    async def event(self, event: v1.StreamChatResponse) -> None:
        """Write the next event; one that has a number already keeps it."""
        if not event.sequence:
            event.sequence = self.sequence + 1
        self.sequence = event.sequence
        self._busy = True
        if self._beat is not None:
            await self._beat
            self._beat = None
        await self._write(event)
        self._last = self._loop.time()
        self._busy = False

    async def _first(self, event: v1.StreamChatResponse) -> None:
        """Write the first event of all, or heartbeat, behind what goes ahead of it."""
        self._write = self._usual
        if self._ahead is not None:
            await self._ahead()
        await self._usual(event)

    def _tick(self) -> None:
        # One timer that looks back, rather than one that every write puts off: a write costs no timer at all.
        now = self._loop.time()
        if self._is_stuck(now):
            self.stalled = True
            if self._task is not None:
                self._task.cancel()
            return
        wait = self._interval - (now - self._last)
        if wait <= 0:
            wait = self._interval
            if not self._busy and self._beat is None:
                self._beat = self._loop.create_task(self._heartbeat())
        wait = min(wait, self._max_stall)
        self._timer = self._loop.call_later(wait, self._tick)

    def _is_stuck(self, now: float) -> bool:
        """Whether one write has been under way for too long, as far as looks back from time to time can tell."""
        if not self._busy and self._beat is None:
            self._stuck = None
        elif self._stuck is None or self._stuck[0] != self.sequence:
            self._stuck = (self.sequence, now)
        else:
            return now - self._stuck[1] >= self._max_stall
        return False

    async def _heartbeat(self) -> None:
        await self._write(v1.StreamChatResponse(heartbeat=v1.Heartbeat()))
        self._last = self._loop.time()
        self._beat = None

    async def aclose(self) -> None:
        """Stop the timer and a heartbeat that is being written."""
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):  # the stream it belonged to is over
                await self._beat


async def coalesced(batches: AsyncIterator[Batch], interval: float) -> AsyncIterator[Batch]:
    """The same events in fewer batches: each waits up to `interval` seconds for company, and deltas of a part merge."""
    source = aiter(batches)
    coming: asyncio.Future[Batch] | None = None
    loop = asyncio.get_running_loop()
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(source))
            held = list(await coming)
            coming = None
            until = loop.time() + interval
            while (left := until - loop.time()) > 0:
                coming = coming or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait((coming,), timeout=left)
                if not done:
                    break
                if coming.exception() is not None:
                    break  # raised above, once what is held has gone out
                held += coming.result()
                coming = None
            yield merged(held)
    except StopAsyncIteration:
        return
    finally:
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError, StopAsyncIteration):
                await coming


def merged(batch: Batch) -> Batch:
    """`batch` with adjacent deltas of one kind and part made one, as long as the event stays small."""
    out: Batch = []
    for event in batch:
        last = out[-1] if out else None
        if last is not None and _joins(last, event):
            kind = str(event.part_delta.WhichOneof("delta"))
            setattr(last.part_delta, kind, getattr(last.part_delta, kind) + getattr(event.part_delta, kind))
            last.part_delta.logprobs.extend(event.part_delta.logprobs)
        else:
            out.append(event)
    return out


def _joins(last: v1.StreamChatResponse, event: v1.StreamChatResponse) -> bool:
    if not (last.HasField("part_delta") and event.HasField("part_delta")):
        return False
    one, other = last.part_delta, event.part_delta
    kind = other.WhichOneof("delta")
    return (
        one.part_index == other.part_index
        and one.WhichOneof("delta") == kind
        and kind != "citation"
        and last.ByteSize() + event.ByteSize() < 512 * 1024
    )
