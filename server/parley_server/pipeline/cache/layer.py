"""The cache of chats: a question that was asked before gets the answer it got then.

Inside the check and what belongs to idempotency keys, around the calls that are joined: a hit costs none of them.
Whole answers and streams share entries: a whole answer from the cache streams, and a stream is kept once it is whole.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import structlog

from parley import v1
from parley_server.core.context import AttemptBudget, Context, Ledger, Operation
from parley_server.core.errors import CacheMiss, GatewayError
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.pipeline.cache.answers import Answers
from parley_server.pipeline.cache.keys import Scope, Target, is_plain
from parley_server.pipeline.cache.lookup import Lookup, given
from parley_server.pipeline.cache.near import Near, Question
from parley_server.pipeline.cache.policy import (
    BYPASS,
    ONLY_IF_CACHED,
    READ_ONLY,
    READ_WRITE,
    REFRESH,
    Policies,
    is_repeatable,
    mode_of,
)

Resolve = Callable[[str, Operation], Target]
"""What a model name stands for. Does not raise: an unknown name stands for itself."""

_REFRESH = 600.0  # seconds that making an answer anew may take

log = structlog.get_logger("parley.cache")


class Flights(Protocol):
    """Calls under way, each for all who ask the same."""

    def __call__(self, inner: Service, /) -> Service:
        """The layer for calls that the cache has nothing to do with."""
        ...

    def is_under_way(self, key: bytes) -> bool:
        """Whether there is a call with this key to join."""
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
        self._refreshing: set[bytes] = set()

    def knows(self, request: v1.ChatRequest, ctx: Context) -> bool:
        """Whether the answer is in memory, and to the very same request: one that has been checked before.

        What is found is kept in `ctx`, for when the request gets here.
        """
        policy = self._policies.of(request.model)
        if (
            not policy.enabled
            or policy.mode in (BYPASS, REFRESH)
            or not is_plain(request)
            or not is_repeatable(request, policy)
        ):
            return False
        scope = Scope(ctx.tenant, "", self._resolve(request.model, ctx.operation))
        key = self._answers.keys.chat(request, scope, plain=True)
        entry = self._answers.local(key)
        if entry is not None and not entry.is_fresh(self._answers.wall()):
            entry = None
        ctx.at_hand = (key, entry)
        return entry is not None

    def __call__(self, inner: Service) -> Service:
        apart = self._flights(inner)

        async def cached(request: v1.ChatRequest, ctx: Context) -> Reply[v1.ChatResponse]:
            if ctx.at_hand is not None and ctx.at_hand[1] is not None:
                return given(self._answers, *ctx.at_hand, ctx)
            policy = self._policies.of(request.model)
            mode = mode_of(request, policy)
            if mode == BYPASS:
                if policy.mode != BYPASS or request.HasField("response_cache"):
                    ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_BYPASS)
                return await apart(request, ctx)
            question = self._question(request, ctx)
            lookup = Lookup(self._answers, self._near, question, policy)
            if mode == REFRESH:
                return await lookup.filled(inner, request, ctx)
            if (reply := lookup.at_hand(ctx)) is not None:
                if lookup.is_past and mode == READ_WRITE:
                    self._refresh(lookup, inner, question, ctx)
                return reply
            if mode in (READ_ONLY, ONLY_IF_CACHED):
                if (reply := await lookup.elsewhere(ctx)) is not None:
                    return reply
                if mode == ONLY_IF_CACHED:
                    raise CacheMiss("the answer is not in the cache", facts={"model": request.model})
                return await apart(request, ctx)
            refresh = functools.partial(self._refresh, lookup, inner, question, ctx)
            making = lookup.under_way(inner, refresh)
            if request.idempotency_key:  # its call is shared already, by those who have the key
                return await making(request, ctx)
            if self._answers.are_shared and not self._flights.is_under_way(lookup.flight):
                if (reply := await lookup.glance(ctx, refresh)) is not None:
                    return reply
                if self._flights.is_under_way(lookup.flight):  # since a moment ago
                    lookup.leave()
            reply = await self._flights.together(making, request, ctx, lookup.flight)
            if ctx.cache is not None and ctx.cache.status == v1.CacheInfo.STATUS_COALESCED:
                self._answers.counts.coalesced += 1
            return reply

        return cached

    def _question(self, request: v1.ChatRequest, ctx: Context) -> Question:
        scope = Scope(ctx.tenant, request.response_cache.namespace, self._resolve(request.model, ctx.operation))
        key = self._answers.keys.chat(request, scope) if ctx.at_hand is None else ctx.at_hand[0]
        return Question(request, scope, key)

    def _refresh(self, lookup: Lookup, inner: Service, question: Question, ctx: Context) -> None:
        """Have the answer made anew in the background, once at a time."""
        if question.key not in self._refreshing:
            self._refreshing.add(question.key)
            self._answers.later(self._refreshed(lookup, inner, question, ctx))

    async def _refreshed(self, lookup: Lookup, inner: Service, question: Question, ctx: Context) -> None:
        own = replace(
            ctx,
            streaming=False,
            deadline=ctx.clock() + _REFRESH,
            cancelled_when_due=False,
            budget=AttemptBudget(),
            ledger=Ledger(),
            warnings=[],
            outgoing={},
            broken=[],
            received=ctx.clock(),
            received_at=self._answers.wall(),
        )
        try:
            async with asyncio.timeout(_REFRESH):
                making = lookup.under_way(inner)
                async with await self._flights.together(making, question.request, own, lookup.flight) as reply:
                    await reply.response()
        except (GatewayError, TimeoutError) as error:
            log.info("cache_refresh_failed", request_id=ctx.request_id, reason=getattr(error, "reason", "TIMEOUT"))
        finally:
            self._refreshing.discard(question.key)
