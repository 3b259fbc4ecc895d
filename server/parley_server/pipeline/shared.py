"""One upstream call for several callers: those with the same idempotency key, and those who ask the same at once.

Behind the check, since nothing malformed is worth keeping; around the router and what recovers streams, so that what is
shared is the answer as one caller would have got it. The call runs in a task of its own. Its callers follow it, each
with a deadline of its own and free to go; the last one who goes ends it.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from parley import v1
from parley.fold import Fold, fold, unfold
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import (
    Bug,
    GatewayError,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    Violation,
)
from parley_server.core.reply import Batch, Batches, Final, Reply
from parley_server.core.service import AnyRequest, Layer, Service

_AHEAD = 256 * 1024  # bytes that a stream may be read ahead of its callers
_EVENTS = 64  # that a caller who comes late is given at a time
_OVERHEAD = 200  # bytes that an object takes beside its content, roughly
_SHARE = 4  # one answer gets a quarter of the memory at most
_LATER = 1.0  # seconds until a call that cannot be joined may be over
_NOT_ASKED = ("idempotency_key", "metadata", "end_user_id")  # what does not change an answer

Key = tuple[str, str | bytes]
"""Caller, and idempotency key or what is asked."""


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """For how long answers are remembered, and how much of them."""

    window: float = 600.0
    """Seconds that an answer with an idempotency key is remembered after its end."""
    max_bytes: int = 64 * 1024 * 1024
    """Of all answers, under way and remembered, roughly. The oldest are forgotten first. An answer that takes more than
    a quarter is not remembered, and a stream that does cannot be joined any more."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """An answer that is over; with `error` its beginning, and how it broke off."""

    digest: bytes
    response_id: str
    kind: type[Any]
    data: bytes
    warnings: tuple[v1.Warning, ...]
    error: Exception | None
    until: float

    @property
    def size(self) -> int:
        return len(self.data) + _OVERHEAD


class Memory:
    """Calls under way and answers remembered. It outlives the stacks that use it."""

    def __init__(self, policy: SharePolicy, clock: Callable[[], float]) -> None:
        self.policy = policy
        self.running: dict[Key, SharedCall] = {}
        self._clock = clock
        self._finished: OrderedDict[Key, _Remembered] = OrderedDict()  # by their end, and so by when they expire
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes that are kept, roughly."""
        return self._bytes

    def finished(self, key: Key) -> _Remembered | None:
        """The answer remembered for a key."""
        now = self._clock()
        while self._finished and next(iter(self._finished.values())).until <= now:
            self._forget()
        return self._finished.get(key)

    def remember(self, key: Key, call: SharedCall) -> None:
        """Keep what came of a call."""
        response = call.whole()
        if response is None:
            return
        data = response.SerializeToString()
        until = self._clock() + self.policy.window
        warnings = tuple(call.ctx.warnings)
        entry = _Remembered(call.digest, call.ctx.response_id, type(response), data, warnings, call.error, until)
        if entry.size * _SHARE <= self.policy.max_bytes and self.take(entry.size):
            self._finished[key] = entry

    def take(self, size: int) -> bool:
        """Find room for so many bytes, at the cost of what is remembered; False if there is none."""
        while self._bytes + size > self.policy.max_bytes:
            if not self._finished:
                return False
            self._forget()
        self._bytes += size
        return True

    def give_back(self, size: int) -> None:
        """So many bytes are not needed any more."""
        self._bytes -= size

    def _forget(self) -> None:
        self._bytes -= self._finished.popitem(last=False)[1].size


class Share:
    """Gives calls with the same idempotency key one answer, and with `join` equal requests under way too.

    Keys belong to `ctx.caller`. A call that fails frees its key, unless content was sent already: then whoever comes
    with it gets that content and the same error. Requests without a key are joined if they are for embeddings or
    rerankings, or set a seed or a temperature of 0. A failure that may have been one of the moment is not shared with
    those who joined: they try once more, together.

    `around`: a layer that also sees those calls which may outlast the caller who began them.
    """

    def __init__(self, memory: Memory, *, join: bool = False, around: Layer | None = None) -> None:
        self._memory = memory
        self._join = join
        self._around = around

    def __call__(self, inner: Service) -> Service:
        join = self._join
        outlasting = inner if self._around is None else self._around(inner)

        async def shared(request: Any, ctx: Context) -> Reply[Any]:
            if request.idempotency_key:
                return await self._keyed(outlasting, request, ctx)
            if join and _is_repeatable(request):
                return await self._joined(outlasting, request, ctx)
            return await inner(request, ctx)

        return shared

    async def _keyed(self, inner: Service, request: AnyRequest, ctx: Context) -> Reply[Any]:
        memory, digest = self._memory, _digest(request)
        key = (ctx.caller, request.idempotency_key)
        while (call := memory.running.get(key)) is not None:
            _check(call, digest)
            if not call.abandoned:
                if call.lost:
                    raise _in_progress(call)
                ctx.warnings.append(_replays(call.ctx.response_id))
                return await call.attended(ctx)
            await call.ended()  # so that no two calls for one key are ever under way
        if (done := memory.finished(key)) is not None:
            _check(done, digest)
            ctx.warnings.append(_replays(done.response_id))
            return _replayed(done, ctx)
        call = SharedCall(inner, request, ctx, digest, memory, lambda over: self._over(key, over))
        memory.running[key] = call
        return await call.attended(ctx, leads=True)

    def _over(self, key: Key, call: SharedCall) -> None:
        del self._memory.running[key]
        if not call.abandoned and not call.lost:
            self._memory.remember(key, call)

    async def _joined(self, inner: Service, request: AnyRequest, ctx: Context) -> Reply[Any]:
        running, digest = self._memory.running, _digest(request, but=_NOT_ASKED)
        key = (ctx.caller, digest)
        notes = len(ctx.warnings)
        tried = False
        while True:
            call = running.get(key)
            leads = call is None or call.abandoned or call.lost
            if call is None or leads:
                call = running[key] = SharedCall(
                    inner, request, ctx, digest, self._memory, lambda it: _gone(running, key, it)
                )
            else:
                ctx.warnings.append(_joins(call.ctx.response_id))
            try:
                return await call.attended(ctx, leads=leads)
            except GatewayError as error:
                if leads or tried or not error.retryable:
                    raise
            tried = True
            del ctx.warnings[notes:]


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
            if leads:
                self._led_by(ctx)
            if self.error is not None:
                raise _again(self.error)
            response = type(self._response)()
            response.CopyFrom(self._response)
            _own(response, ctx, self.ctx.warnings, leads=leads)
        except BaseException:
            await self._leave(reader)
            raise
        await self._leave(reader)
        return Reply.of(response)

    def _led_by(self, ctx: Context) -> None:
        """Tell the caller who began the call where it went, for its trace."""
        ctx.route, ctx.strategy, ctx.answer_headers = self.ctx.route, self.ctx.strategy, self.ctx.answer_headers

    async def _following(self, reader: _Reader, ctx: Context, leads: bool) -> Reply[Any]:
        while not self._produced and not self._over:
            await self._change()
        if leads:
            self._led_by(ctx)
        if self.error is not None and not self._produced:
            raise _again(self.error)
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
                raise _again(self.error)
            else:
                return

    def _copied(self, event: v1.StreamChatResponse, ctx: Context, leads: bool) -> v1.StreamChatResponse:
        mine = v1.StreamChatResponse()
        mine.CopyFrom(event)  # the edge writes into it
        match event.WhichOneof("event"):
            case "completed":
                _own(mine.completed, ctx, self.ctx.warnings, leads=leads)
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


def _gone(running: dict[Key, SharedCall], key: Key, call: SharedCall) -> None:
    if running.get(key) is call:  # else another one has taken its place
        del running[key]


def _replayed(done: _Remembered, ctx: Context) -> Reply[Any]:
    """A remembered answer, as this caller gets it."""
    response = done.kind.FromString(done.data)
    if done.error is None:
        _own(response, ctx, done.warnings, leads=False)
        return Reply.of(response)
    if not ctx.streaming:
        raise _again(done.error)
    return Reply(response=None, batches=_broken(response, done.error), owner=None)


async def _broken(response: v1.ChatResponse, error: Exception) -> Batches:
    yield unfold(response)[:-1]
    raise _again(error)


def _own(final: Final, ctx: Context, warnings: list[v1.Warning] | tuple[v1.Warning, ...], *, leads: bool) -> None:
    """Make the end of an answer that of one caller. The call is paid for and told of once, by who leads it."""
    ctx.warnings.extend(warnings)
    if not leads:
        final.usage.CopyFrom(counting.from_cache(final.usage))
        del final.route.attempts[:]


def _again(error: Exception) -> Exception:
    """The error for one caller: outer layers write into it."""
    return copy.copy(error) if isinstance(error, GatewayError) else error


def _check(call: SharedCall | _Remembered, digest: bytes) -> None:
    if call.digest != digest:
        description = "the key was used for another request"
        violation = Violation("idempotency_key", description, "IDEMPOTENCY_KEY_REUSED")
        raise IdempotencyKeyReused(f"idempotency_key: {description}", violations=[violation])


def _in_progress(call: SharedCall) -> IdempotentRequestInProgress:
    return IdempotentRequestInProgress(
        f"{call.ctx.response_id} has the same idempotency key and is under way; it is too long to be joined",
        retry_after=_LATER,
        facts={"responseId": call.ctx.response_id},
    )


def _replays(response_id: str) -> v1.Warning:
    message = f"this is the answer of {response_id}, which has the same idempotency key; no provider was asked"
    return v1.Warning(code="IDEMPOTENT_REPLAY", message=message, field="idempotency_key")


def _joins(response_id: str) -> v1.Warning:
    return v1.Warning(code="JOINED", message=f"this is the answer of {response_id}, which asked the same at that time")


def _is_repeatable(request: AnyRequest) -> bool:
    """Whether the answer is meant to be the same each time."""
    if not isinstance(request, v1.ChatRequest):
        return True
    sampling = request.sampling
    return sampling.HasField("seed") or (sampling.HasField("temperature") and sampling.temperature == 0)


def _digest(request: Any, but: tuple[str, ...] = ("idempotency_key",)) -> bytes:
    """What is asked, whoever asks it and by which key."""
    asked = type(request)()
    asked.CopyFrom(request)
    for name in but:
        if name in asked.DESCRIPTOR.fields_by_name:
            asked.ClearField(name)
    data = asked.SerializeToString(deterministic=True)
    return hashlib.blake2b(data, digest_size=32, person=type(request).__name__.encode()[:16]).digest()
