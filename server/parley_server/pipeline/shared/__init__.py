"""One upstream call for several callers: those with the same idempotency key, and those who ask the same at once.

Behind the check, since nothing malformed is worth keeping; around the router and what recovers streams, so that what is
shared is the answer as one caller would have got it. The call runs in a task of its own. Its callers follow it, each
with a deadline of its own and free to go; the last one who goes ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import (
    GatewayError,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    StateUnavailable,
    Violation,
)
from parley_server.core.reply import Reply
from parley_server.core.service import AnyRequest, Layer, Service
from parley_server.pipeline.shared.call import SharedCall
from parley_server.pipeline.shared.claims import Claim, Claims
from parley_server.pipeline.shared.memory import Key, Memory, Remembered, SharePolicy, replayed
from parley_server.pipeline.shared.records import Begun
from parley_server.stores.keyvalue import StoreUnavailable

__all__ = ["Claims", "Join", "Keyed", "Memory", "SharePolicy"]

_LATER = 1.0  # seconds until a call that cannot be joined may be over
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.25  # seconds between two looks at a call that another gateway makes
_NOT_ASKED = ("idempotency_key", "metadata", "end_user_id")  # what does not change an answer


class Keyed:
    """Gives calls with the same idempotency key one answer.

    Keys belong to `ctx.caller`. A call that fails frees its key, unless content was sent already: then whoever comes
    with it gets that content and the same error. Where gateways share a store a key counts for all of them; whoever
    comes to another one waits for the answer as a whole.

    `around`: a layer that also sees those calls which may outlast the caller who began them.
    """

    def __init__(self, memory: Memory, *, around: Layer | None = None) -> None:
        self._memory = memory
        self._around = around

    def __call__(self, inner: Service) -> Service:
        outlasting = inner if self._around is None else self._around(inner)

        async def keyed(request: Any, ctx: Context) -> Reply[Any]:
            if request.idempotency_key:
                return await self._keyed(outlasting, request, ctx)
            return await inner(request, ctx)

        return keyed

    async def _keyed(self, inner: Service, request: AnyRequest, ctx: Context) -> Reply[Any]:
        memory, digest = self._memory, _digest(request)
        key = (ctx.caller, request.idempotency_key)
        pause = _FIRST_LOOK
        while True:
            if (call := memory.running.get(key)) is not None:
                _check(call, digest)
                if not call.abandoned:
                    if call.lost:
                        raise _in_progress(call.ctx.response_id)
                    ctx.warnings.append(_replays(call.ctx.response_id))
                    return await call.attended(ctx)
                await call.ended()  # so that no two calls for one key are ever under way
                continue
            there: Claim | Begun | Remembered | None = memory.finished(key)
            if there is None and memory.claims is not None:
                there = await _taken(memory.claims, key, digest, ctx)
                if there is None and key in memory.running:  # begun meanwhile, without a claim
                    continue
            if there is None or isinstance(there, Claim):
                break
            _check(there, digest)
            if isinstance(there, Remembered):
                ctx.warnings.append(_replays(there.response_id))
                return replayed(there, ctx)
            if there.lost:
                raise _in_progress(there.response_id)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
        claim = there
        call = SharedCall(inner, request, ctx, digest, memory, lambda over: self._over(key, over, claim))
        memory.running[key] = call
        return await call.attended(ctx, leads=True)

    def _over(self, key: Key, call: SharedCall, claim: Claim | None) -> None:
        memory = self._memory
        del memory.running[key]
        answer = None if call.abandoned or call.lost else memory.outcome(call)
        fits = answer is not None and memory.fits(answer)
        if answer is not None and fits:
            memory.remember(key, answer)
        if claim is not None and memory.claims is not None:
            lost = not call.abandoned and (call.lost or (answer is not None and not fits))
            memory.claims.settle(claim, answer if fits else None, memory.policy.window, lost=lost)


async def _taken(claims: Claims, key: Key, digest: bytes, ctx: Context) -> Claim | Begun | Remembered | None:
    """What `claims` has to say of a key; None if it cannot be asked, and the call may be made all the same."""
    try:
        return await claims.take(key, digest, ctx.response_id)
    except StoreUnavailable as error:
        if not claims.refuses():
            return None
        raise StateUnavailable(
            "it cannot be told now whether the call with this idempotency key was made already, so it is not made",
            retry_after=_LATER,
        ) from error


class Join:
    """Answers equal requests that are under way at the same time by one call.

    As a layer it joins, if `enabled`, requests for embeddings or rerankings and those that set a seed or a temperature
    of 0. A failure that may have been one of the moment is not shared with those who joined: they try once more,
    together. `around`: as for `Keyed`.
    """

    def __init__(self, memory: Memory, *, enabled: bool = False, around: Layer | None = None) -> None:
        self._memory = memory
        self._enabled = enabled
        self._around = around

    def __call__(self, inner: Service) -> Service:
        if not self._enabled:
            return inner

        async def joined(request: Any, ctx: Context) -> Reply[Any]:
            if request.idempotency_key or not _is_repeatable(request):
                return await inner(request, ctx)
            return await self._joined(inner, request, ctx, (ctx.caller, _digest(request, but=_NOT_ASKED)), _joins)

        return joined

    def is_under_way(self, key: bytes) -> bool:
        """Whether there is a call with this key to join."""
        call = self._memory.running.get(("", key))
        return call is not None and not (call.abandoned or call.lost)

    async def together(self, inner: Service, request: Any, ctx: Context, key: bytes) -> Reply[Any]:
        """The answer of the call with this key that is under way, or of `inner`, for those to come as well."""
        return await self._joined(inner, request, ctx, ("", key))

    async def _joined(
        self,
        inner: Service,
        request: AnyRequest,
        ctx: Context,
        key: Key,
        note: Callable[[str], v1.Warning] | None = None,
    ) -> Reply[Any]:
        """`note`: what those are told who join, made from the ID of the response that they get."""
        running = self._memory.running
        inner = inner if self._around is None else self._around(inner)
        notes = len(ctx.warnings)
        tried = False
        while True:
            call = running.get(key)
            leads = call is None or call.abandoned or call.lost
            if call is None or leads:
                call = running[key] = SharedCall(
                    inner, request, ctx, b"", self._memory, lambda it: _gone(running, key, it)
                )
            elif note is not None:
                ctx.warnings.append(note(call.ctx.response_id))
            try:
                return await call.attended(ctx, leads=leads)
            except GatewayError as error:
                if leads or tried or not error.retryable:
                    raise
            tried = True
            del ctx.warnings[notes:]


def _gone(running: dict[Key, SharedCall], key: Key, call: SharedCall) -> None:
    if running.get(key) is call:  # else another one has taken its place
        del running[key]


def _check(call: SharedCall | Begun | Remembered, digest: bytes) -> None:
    if call.digest != digest:
        description = "the key was used for another request"
        violation = Violation("idempotency_key", description, "IDEMPOTENCY_KEY_REUSED")
        raise IdempotencyKeyReused(f"idempotency_key: {description}", violations=[violation])


def _in_progress(response_id: str) -> IdempotentRequestInProgress:
    return IdempotentRequestInProgress(
        f"{response_id} has the same idempotency key and is under way; it is too long to be joined",
        retry_after=_LATER,
        facts={"responseId": response_id},
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
