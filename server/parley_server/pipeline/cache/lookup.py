"""One chat on its way through the cache: where its answer is looked for, and how a new one gets there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import (
    CredentialsRejected,
    GatewayError,
    GatewayOverloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.pipeline.cache.answers import Answers
from parley_server.pipeline.cache.entry import Entry, cached_form, saved_by
from parley_server.pipeline.cache.filling import overhear
from parley_server.pipeline.cache.lease import Lease
from parley_server.pipeline.cache.near import Near, Question
from parley_server.pipeline.cache.policy import CachePolicy, is_kept, least_similarity, ttl_of
from parley_server.pipeline.cache.store import Claim

_ORDERED = (v1.RoutingOptions.STRATEGY_UNSPECIFIED, v1.RoutingOptions.STRATEGY_ORDERED)
_HIT, _SEMANTIC_HIT = v1.CacheInfo.STATUS_HIT, v1.CacheInfo.STATUS_SEMANTIC_HIT
_BAD_MOMENTS = (Unavailable, RateLimited, QuotaExhausted, ProtocolError, CredentialsRejected, GatewayOverloaded)
"""Failures that an old answer is better than."""


class Lookup:
    """One question, and the answers that there are to it."""

    def __init__(self, answers: Answers, near: Near | None, question: Question, policy: CachePolicy) -> None:
        self._answers = answers
        self._question = question
        self._policy = policy
        usual = 1.0 if near is None else near.threshold
        self._least = least_similarity(question.request, policy, usual)
        self._near = near if self._least is not None else None
        self._old: Entry | None = None  # past its time
        self._claim: Claim | None = None  # not made use of yet
        self._revision: int | None = None  # of the purges known when the answer was looked for
        self.is_past = False
        """Whether the answer that was given is past its time."""
        self.flight = question.key
        """Key of the call that those join who ask the same: a near hit is for those only who accept it."""
        if self._least is not None:
            self.flight += str(self._least).encode()

    def at_hand(self, ctx: Context) -> Reply[v1.ChatResponse] | None:
        """The answer, if it is in this process's memory, be it past its time where that will do for now."""
        entry = self._answers.local(self._question.key)
        if entry is None or not self._will_do(entry):
            self._old = entry
            return None
        self._answers.counts.memory_hits += 1
        return self._given(entry, ctx)

    async def elsewhere(self, ctx: Context) -> Reply[v1.ChatResponse] | None:
        """The answer from the shared store, or to a similar question if that is wanted. None is a miss."""
        entry = await self._answers.look(self._question.key, self._question.scope.tenant)
        if entry is not None and self._will_do(entry):
            self._answers.counts.shared_hits += 1
            return self._given(entry, ctx)
        if (reply := await self._nearby(ctx)) is not None:
            return reply
        self._missed(ctx)
        return None

    async def glance(self, ctx: Context, refresh: Callable[[], None]) -> Reply[v1.ChatResponse] | None:
        """The answer from the shared store. Else the place may be ours: `under_way` follows at once, or `leave`."""
        self._claim = await self._claimed(self._policy.stale_while_revalidate, waits=False)
        return self._found(self._claim, ctx, refresh)

    def leave(self) -> None:
        """Another call makes the answer."""
        if self._claim is not None and self._claim.lease is not None:
            self._claim.lease.release()
        self._claim = None

    def under_way(self, inner: Service, refresh: Callable[[], None] | None = None) -> Service:
        """The service that finds the answer elsewhere, or has it made and keeps it.

        `refresh`: called if the answer is past its time; without it only a good one will do.
        """

        async def found(request: Any, ctx: Context) -> Reply[Any]:
            claim, self._claim = self._claim, None
            if claim is None or claim.lease is None:
                claim = await self._claimed(0.0 if refresh is None else self._policy.stale_while_revalidate)
                if (reply := self._found(claim, ctx, refresh)) is not None:
                    return reply
            self._old = claim.entry or self._old
            try:
                if (near := await self._nearby(ctx)) is not None:
                    if claim.lease is not None:
                        claim.lease.release()
                    return near
                return await self.filled(inner, request, ctx, claim.lease)
            except BaseException as error:
                if claim.lease is not None:
                    claim.lease.release()
                if isinstance(error, _BAD_MOMENTS) and self._old is not None and self._is_better_than_none(self._old):
                    return self._made_do(self._old, error, ctx)
                raise

        return found

    async def _claimed(self, stale_for: float, *, waits: bool = True) -> Claim:
        self._revision = self._answers.purges.revision
        return await self._answers.claim(self._question.key, self._question.scope.tenant, stale_for, waits=waits)

    def _found(self, claim: Claim, ctx: Context, refresh: Callable[[], None] | None) -> Reply[v1.ChatResponse] | None:
        """The answer of a claim, if it will do."""
        entry = claim.entry
        stale_for = 0.0 if refresh is None else self._policy.stale_while_revalidate
        if entry is None or claim.lease is not None or not self._will_do(entry, stale_for):
            return None
        self._answers.counts.shared_hits += 1
        reply = self._given(entry, ctx)
        if self.is_past and refresh is not None:
            refresh()
        return reply

    async def filled(self, inner: Service, request: Any, ctx: Context, lease: Lease | None = None) -> Reply[Any]:
        """Have the answer made, and keep it. Once this has returned, the lease is taken care of."""
        self._missed(ctx)
        revision = self._answers.purges.revision if self._revision is None else self._revision
        reply = await inner(request, ctx)
        waiting = [lease] if lease is not None else []

        def keep(whole: v1.ChatResponse | None) -> None:
            entry = None if whole is None else self._entry(whole, revision, ctx)
            held = waiting.pop() if waiting else None
            if entry is not None:
                self._keep(entry, held, ctx)
            else:
                self._answers.counts.refused_writes += 1
                if held is not None:
                    held.void()

        def over(_: Outcome) -> None:
            if waiting:
                waiting.pop().release()

        reply.on_over(over)
        return overhear(reply, ctx, self._policy.max_entry_bytes, keep)

    def _entry(self, response: v1.ChatResponse, revision: int, ctx: Context) -> Entry | None:
        """An answer as it is kept; None if it is not to be."""
        request, scope = self._question.request, self._question.scope
        primary = scope.target.primary if request.routing.strategy in _ORDERED else ""
        complete = not (request.include_provider_response and ctx.streaming)  # a stream lacks the raw body
        if not complete or not is_kept(response, primary, self._policy):
            return None
        saved, answered = saved_by(response.usage), f"{response.route.provider}/{response.route.model}"
        data = cached_form(response)
        if len(data) > self._policy.max_entry_bytes:
            return None
        return Entry.of(
            data,
            made=ctx.received_at,
            ttl=ttl_of(request, self._policy),
            grace=max(self._policy.stale_while_revalidate, self._policy.stale_if_error),
            revision=revision,
            tenant=scope.tenant,
            target=scope.target.name,
            answered=answered,
            namespace=scope.namespace,
            saved=saved,
        )

    def _keep(self, entry: Entry, lease: Lease | None, ctx: Context) -> None:
        self._answers.put([(self._question.key, entry)], lease)
        if ctx.cache is not None:
            ctx.cache.key = self._question.key.hex()
        if self._near is not None:
            self._answers.later(self._near.keep(self._question, entry.left(self._answers.wall()), ctx))

    async def _nearby(self, ctx: Context) -> Reply[v1.ChatResponse] | None:
        """The answer to a similar question, if one is wanted and there is one."""
        if self._least is None:
            return None
        if self._near is None:
            message = "this gateway keeps no index of similar questions; only the same one is answered from the cache"
            ctx.warnings.append(
                v1.Warning(code="UNSUPPORTED_PARAMETER", message=message, field="response_cache.min_similarity")
            )
            return None
        for one in await self._near.find(self._question, self._least, ctx):
            entry = await self._answers.look(one.key, self._question.scope.tenant)
            if entry is not None and entry.is_fresh(self._answers.wall()):
                self._answers.counts.semantic_hits += 1
                self.is_past = False  # the same question's answer may be
                reply = self._given(entry, ctx, _SEMANTIC_HIT, one.key)
                assert ctx.cache is not None  # noqa: S101  # set by what gave the reply
                ctx.cache.similarity = one.similarity
                return reply
        return None

    def _will_do(self, entry: Entry, stale_for: float | None = None) -> bool:
        """Whether an answer may be given without more ado."""
        if stale_for is None:
            stale_for = self._policy.stale_while_revalidate
        now = self._answers.wall()
        self.is_past = not entry.is_fresh(now)
        return now < entry.made + entry.ttl + stale_for

    def _is_better_than_none(self, entry: Entry) -> bool:
        return self._answers.wall() < entry.made + entry.ttl + self._policy.stale_if_error

    def _made_do(self, entry: Entry, error: GatewayError, ctx: Context) -> Reply[v1.ChatResponse]:
        """An old answer in place of a failure."""
        self.is_past = True
        self._answers.counts.memory_hits += 1
        message = f"this answer is past its time; a new one could not be had: {error.reason}"
        ctx.warnings.append(v1.Warning(code="STALE_ANSWER", message=message))
        return self._given(entry, ctx)

    def _given(
        self, entry: Entry, ctx: Context, status: v1.CacheInfo.Status.ValueType = _HIT, key: bytes | None = None
    ) -> Reply[v1.ChatResponse]:
        if self.is_past:
            self._answers.counts.stale_hits += 1
        return _answered(self._answers, self._question.key if key is None else key, entry, ctx, status)

    def _missed(self, ctx: Context) -> None:
        self._answers.counts.misses += 1
        ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_MISS)


def given(answers: Answers, key: bytes, entry: Entry, ctx: Context) -> Reply[v1.ChatResponse]:
    """A good answer from memory."""
    answers.counts.memory_hits += 1
    return _answered(answers, key, entry, ctx, _HIT)


def _answered(
    answers: Answers, key: bytes, entry: Entry, ctx: Context, status: v1.CacheInfo.Status.ValueType
) -> Reply[v1.ChatResponse]:
    answers.counts.save(entry.saved)
    ctx.cache = v1.CacheInfo(status=status, age_seconds=entry.age(answers.wall()), key=key.hex())
    return Reply.of(v1.ChatResponse.FromString(entry.data))
