"""A call that several callers follow."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from parley import v1
from parley.fold import Fold, fold
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import Bug
from parley_server.core.reply import Batch, Batches, Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.pipeline.shared.answers import again, own
from parley_server.pipeline.shared.memory import Memory

_AHEAD = 256 * 1024  # bytes that a stream may be read ahead of its callers
_EVENTS = 64  # that a caller who comes late is given at a time
_OVERHEAD = 200  # bytes that an object takes beside its content, roughly
_SHARE = 4  # one answer gets a quarter of the memory at most


class _Reader:
    """How far a caller has read."""

    __slots__ = ("index", "read")

    def __init__(self) -> None:
        self.index = 0
        self.read = 0  # bytes


class SharedCall:
    """A call under way, for all who follow it. Begins at once; `over` is called when it has come to its end.

    A stream is kept from its beginning as long as `memory` has room, and read as fast as its fastest caller takes it.
    When there is no more room it is `lost`: what all have read is dropped, nobody can join, the slowest sets the pace.
    """

    def __init__(
        self,
        inner: Service,
        request: AnyRequest,
        ctx: Context,
        digest: bytes,
        memory: Memory,
        over: Callable[[SharedCall], None],
    ) -> None:
        # The ledger is that of the caller who began; deadline and notes are the call's own.
        self.ctx = dataclasses.replace(ctx, cancelled_when_due=False, warnings=[], outgoing=dict(ctx.outgoing))
        self.digest = digest
        self.abandoned = False
        self.lost = False
        self.error: Exception | None = None
        self._response: Any = None
        self._over = False
        self._complete = False
        self._memory = memory
        self._tell = over
        self._readers: set[_Reader] = set()
        self._events: list[v1.StreamChatResponse] = []
        self._sizes: list[int] = []
        self._dropped = 0  # events before the first that is kept
        self._produced = 0  # bytes
        self._kept = 0  # bytes that the memory counts
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(inner, request))

    async def ended(self) -> None:
        """Wait until the call has come to its end, and all that it opened is closed."""
        await asyncio.wait((self._task,))

    def whole(self) -> Any:
        """The answer, or its beginning if it broke off; None if there is nothing."""
        if self._events:
            return fold(self._events)
        return self._response

    async def attended(self, ctx: Context, *, leads: bool = False) -> Reply[Any]:
        """Follow the call: the answer as this caller gets it. Whoever does not lead has it from the cache."""
        reader = _Reader()
        self._readers.add(reader)
        if ctx is not self.ctx:
            deadline = self.ctx.deadline
            self.ctx.deadline = None if deadline is None or ctx.deadline is None else max(deadline, ctx.deadline)
        try:
            if self.ctx.streaming:
                return await self._following(reader, ctx, leads)
            while not self._over:
                await self._change()
            self._tell_of(ctx, leads)
            if self.error is not None:
                raise again(self.error)
            response = type(self._response)()
            response.CopyFrom(self._response)
            own(response, ctx, self.ctx.warnings, leads=leads)
        except BaseException:
            await self._leave(reader)
            raise
        await self._leave(reader)
        return Reply.of(response)

    def _tell_of(self, ctx: Context, leads: bool) -> None:
        """Tell a caller where the answer comes from; where the call went only who began it, for its trace."""
        if leads:
            ctx.route, ctx.strategy, ctx.answer_headers = self.ctx.route, self.ctx.strategy, self.ctx.answer_headers
        cache = self.ctx.cache
        if cache is not None and cache.status == v1.CacheInfo.STATUS_MISS and not leads:
            cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_COALESCED)
        ctx.cache = cache

    async def _following(self, reader: _Reader, ctx: Context, leads: bool) -> Reply[Any]:
        while not self._produced and not self._over:
            await self._change()
        self._tell_of(ctx, leads)
        if self.error is not None and not self._produced:
            raise again(self.error)
        batches = self._read(reader, ctx, leads)
        if ctx.streaming:
            owner = AsyncExitStack()
            owner.push_async_callback(self._leave, reader)
            return Reply(response=None, batches=batches, owner=owner)
        so_far = Fold()
        async for batch in batches:
            for event in batch:
                so_far.feed(event)
        await self._leave(reader)
        return Reply.of(so_far.response())

    async def _read(self, reader: _Reader, ctx: Context, leads: bool) -> Batches:
        while True:
            at = reader.index - self._dropped
            fresh = self._events[at : at + _EVENTS]
            if fresh:
                reader.read += sum(self._sizes[at : at + _EVENTS])
                reader.index += len(fresh)
                self._wake()  # there may be room now
                yield [self._copied(event, ctx, leads) for event in fresh]
            elif not self._over:
                await self._change()
            elif self.error is not None:
                raise again(self.error)
            else:
                return

    def _copied(self, event: v1.StreamChatResponse, ctx: Context, leads: bool) -> v1.StreamChatResponse:
        mine = v1.StreamChatResponse()
        mine.CopyFrom(event)  # the edge writes into it
        match event.WhichOneof("event"):
            case "completed":
                own(mine.completed, ctx, self.ctx.warnings, leads=leads)
            case "usage" if not leads:
                mine.usage.CopyFrom(counting.from_cache(event.usage))
        return mine

    async def _leave(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        self._wake()
        if not self._readers and not self._over and not self._complete:
            self.abandoned = True
            self._task.cancel()
            await self.ended()

    async def _run(self, inner: Service, request: AnyRequest) -> None:
        try:
            async with await inner(request, self.ctx) as reply:
                if self.ctx.streaming:
                    async for batch in reply:
                        self._add(batch)
                        while self._is_ahead():
                            await self._change()
                else:
                    self._response = await reply.response()
        except Exception as error:
            self.error = error
        finally:
            self._over = True
            if self.error is None and not self._complete and self._response is None:
                self.error = Bug("the call that this one shared was stopped")
            self._tell(self)
            self._memory.give_back(self._kept)
            self._kept = 0
            self._wake()

    def _add(self, batch: Batch) -> None:
        for event in batch:
            size = event.ByteSize() + _OVERHEAD
            self._events.append(event)
            self._sizes.append(size)
            self._produced += size
            if event.WhichOneof("event") == "completed":
                self._complete = True
            if not self.lost:
                if self._produced * _SHARE <= self._memory.policy.max_bytes and self._memory.take(size):
                    self._kept += size
                else:
                    self.lost = True
        self._wake()

    def _is_ahead(self) -> bool:
        """Whether its callers have to catch up before more is read."""
        if not self._readers:
            return False
        if not self.lost:
            return self._produced - max(reader.read for reader in self._readers) > _AHEAD
        drop = min(reader.index for reader in self._readers) - self._dropped
        if drop:
            del self._events[:drop]
            del self._sizes[:drop]
            self._dropped += drop
        return self._produced - min(reader.read for reader in self._readers) > _AHEAD

    async def _change(self) -> None:
        await self._changed.wait()

    def _wake(self) -> None:
        """Let all who wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
