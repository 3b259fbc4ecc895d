"""The cache of chats: a question that was asked before gets the answer it got then.

Inside the check and what belongs to idempotency keys, around the calls that are joined: a hit costs none of them.
Whole answers and streams share entries: a whole answer from the cache streams, and a stream is kept once it is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import CacheMiss
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.pipeline.cache.answers import Answers
from parley_server.pipeline.cache.entry import Entry, cached_form, saved_by
from parley_server.pipeline.cache.filling import overhear
from parley_server.pipeline.cache.keys import Scope, Target
from parley_server.pipeline.cache.near import Near, Question
from parley_server.pipeline.cache.policy import (
    BYPASS,
    ONLY_IF_CACHED,
    READ_ONLY,
    REFRESH,
    CachePolicy,
    Policies,
    is_kept,
    mode_of,
    ttl_of,
)

Resolve = Callable[[str, Operation], Target]
"""What a model name stands for. Does not raise: an unknown name stands for itself."""

_ORDERED = (v1.RoutingOptions.STRATEGY_UNSPECIFIED, v1.RoutingOptions.STRATEGY_ORDERED)


class Flights(Protocol):
    """Calls under way, each for all who ask the same."""

    def __call__(self, inner: Service, /) -> Service:
        """The layer for calls that the cache has nothing to do with."""
        ...

    async def together(self, inner: Service, request: Any, ctx: Context, key: bytes) -> Reply[Any]:
        """The answer of the call with this key that is under way, or of `inner`, for those to come as well."""
        ...


class Cache:
    """Answers chats from `answers`, and keeps there what `policies` allow.

    `near`: an index of similar questions, if there is one.
    """

    def __init__(
        self, answers: Answers, policies: Policies, resolve: Resolve, flights: Flights, near: Near | None = None
    ) -> None:
        self._answers = answers
        self._policies = policies
        self._resolve = resolve
        self._flights = flights
        self._near = near

    def __call__(self, inner: Service) -> Service:
        apart = self._flights(inner)

        async def cached(request: v1.ChatRequest, ctx: Context) -> Reply[v1.ChatResponse]:
            policy = self._policies.of(request.model)
            mode = mode_of(request, policy)
            if mode == BYPASS:
                if policy.mode != BYPASS or request.HasField("response_cache"):
                    ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_BYPASS)
                return await apart(request, ctx)
            lookup = _Lookup(self._answers, self._near, self._question(request, ctx), policy)
            if mode == REFRESH:
                return await lookup.filled(inner, request, ctx)
            if (reply := lookup.at_hand(ctx)) is not None:
                return reply
            if mode in (READ_ONLY, ONLY_IF_CACHED):
                if (reply := await lookup.elsewhere(ctx)) is not None:
                    return reply
                if mode == ONLY_IF_CACHED:
                    raise CacheMiss("the answer is not in the cache", facts={"model": request.model})
                return await apart(request, ctx)
            making = lookup.under_way(inner)
            if request.idempotency_key:  # its call is shared already, by those who have the key
                return await making(request, ctx)
            reply = await self._flights.together(making, request, ctx, lookup.flight)
            if ctx.cache is not None and ctx.cache.status == v1.CacheInfo.STATUS_COALESCED:
                self._answers.counts.coalesced += 1
            return reply

        return cached

    def _question(self, request: v1.ChatRequest, ctx: Context) -> Question:
        scope = Scope(ctx.tenant, request.response_cache.namespace, self._resolve(request.model, ctx.operation))
        return Question(request, scope, self._answers.keys.chat(request, scope))


class _Lookup:
    """One question on its way through the cache."""

    def __init__(self, answers: Answers, near: Near | None, question: Question, policy: CachePolicy) -> None:
        self._answers = answers
        self._question = question
        self._policy = policy
        options = question.request.response_cache
        self._least = options.min_similarity if options.HasField("min_similarity") else None
        self._near = near if self._least is not None else None
        self.flight = question.key
        """Key of the call that those join who ask the same: a near hit is for those only who accept it."""
        if self._least is not None:
            self.flight += str(self._least).encode()

    def at_hand(self, ctx: Context) -> Reply[v1.ChatResponse] | None:
        """The answer, if it is in this process's memory."""
        entry = self._answers.local(self._question.key)
        if entry is None or not entry.is_fresh(self._answers.wall()):
            return None
        self._answers.counts.memory_hits += 1
        return self._given(entry, ctx)

    async def elsewhere(self, ctx: Context) -> Reply[v1.ChatResponse] | None:
        """The answer to a similar question, if that is wanted; else counts a miss."""
        if (reply := await self._nearby(ctx)) is not None:
            return reply
        self._missed(ctx)
        return None

    def under_way(self, inner: Service) -> Service:
        """The service that finds the answer elsewhere, or has it made and keeps it."""

        async def found(request: Any, ctx: Context) -> Reply[Any]:
            if (reply := await self._nearby(ctx)) is not None:
                return reply
            return await self.filled(inner, request, ctx)

        return found

    async def filled(self, inner: Service, request: Any, ctx: Context) -> Reply[Any]:
        """Have the answer made, and keep it."""
        self._missed(ctx)
        revision = self._answers.purges.revision
        reply = await inner(request, ctx)
        return overhear(reply, ctx, self._policy.max_entry_bytes, lambda whole: self._keep(whole, revision, ctx))

    def _keep(self, response: v1.ChatResponse | None, revision: int, ctx: Context) -> None:
        request, scope = self._question.request, self._question.scope
        primary = scope.target.primary if request.routing.strategy in _ORDERED else ""
        complete = not (request.include_provider_response and ctx.streaming)  # a stream lacks the raw body
        if response is None or not complete or not is_kept(response, primary, self._policy):
            self._answers.counts.refused_writes += 1
            return
        saved, answered = saved_by(response.usage), f"{response.route.provider}/{response.route.model}"
        data = cached_form(response)
        if len(data) > self._policy.max_entry_bytes:
            self._answers.counts.refused_writes += 1
            return
        grace = max(self._policy.stale_while_revalidate, self._policy.stale_if_error)
        entry = Entry(
            data,
            made=ctx.received_at,
            ttl=ttl_of(request, self._policy),
            grace=grace,
            revision=revision,
            tenant=scope.tenant,
            target=scope.target.name,
            answered=answered,
            namespace=scope.namespace,
            saved=saved,
        )
        self._answers.put(self._question.key, entry)
        if ctx.cache is not None:
            ctx.cache.key = self._question.key.hex()
        if self._near is not None:
            self._answers.later(self._near.keep(self._question, entry.left(self._answers.wall())))

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
            entry = self._answers.local(one.key)
            if entry is not None and entry.is_fresh(self._answers.wall()):
                self._answers.counts.semantic_hits += 1
                reply = self._given(entry, ctx, v1.CacheInfo.STATUS_SEMANTIC_HIT, one.key)
                assert ctx.cache is not None  # noqa: S101  # set by what gave the reply
                ctx.cache.similarity = one.similarity
                return reply
        return None

    def _given(
        self,
        entry: Entry,
        ctx: Context,
        status: v1.CacheInfo.Status.ValueType = v1.CacheInfo.STATUS_HIT,
        key: bytes | None = None,
    ) -> Reply[v1.ChatResponse]:
        answers = self._answers
        answers.counts.save(entry.saved)
        key = self._question.key if key is None else key
        ctx.cache = v1.CacheInfo(status=status, age_seconds=entry.age(answers.wall()), key=key.hex())
        return Reply.of(v1.ChatResponse.FromString(entry.data))

    def _missed(self, ctx: Context) -> None:
        self._answers.counts.misses += 1
        ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_MISS)
