"""The cache of embeddings, input by input: only those that are not there are asked for, each of them once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from parley import v1
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import CacheMiss
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.pipeline.cache.answers import Answers
from parley_server.pipeline.cache.entry import Entry, Saved
from parley_server.pipeline.cache.keys import Scope
from parley_server.pipeline.cache.layer import Flights, Resolve
from parley_server.pipeline.cache.lease import Lease
from parley_server.pipeline.cache.policy import (
    BYPASS,
    ONLY_IF_CACHED,
    READ_ONLY,
    READ_WRITE,
    REFRESH,
    CachePolicy,
    Policies,
    is_first_choice,
    mode_of,
    ttl_of,
)
from parley_server.pipeline.cache.store import Claim


class EmbedCache:
    """Answers the inputs of embedding requests from `answers`, and keeps there what `policies` allow."""

    def __init__(self, answers: Answers, policies: Policies, resolve: Resolve, flights: Flights) -> None:
        self._answers = answers
        self._policies = policies
        self._resolve = resolve
        self._flights = flights

    def __call__(self, inner: Service) -> Service:
        apart = self._flights(inner)

        async def cached(request: v1.EmbedRequest, ctx: Context) -> Reply[v1.EmbedResponse]:
            policy = self._policies.of(request.model)
            mode = mode_of(request, policy)
            if mode == BYPASS:
                if policy.mode != BYPASS or request.HasField("response_cache"):
                    ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_BYPASS)
                return await apart(request, ctx)
            answers, counts = self._answers, self._answers.counts
            scope = Scope(ctx.tenant, request.response_cache.namespace, self._resolve(request.model, ctx.operation))
            keys = list(answers.keys.inputs(request, scope))
            found = {} if mode == REFRESH else await answers.several(keys, scope.tenant)
            lacking = {key: one for key, one in zip(keys, request.inputs, strict=True) if key not in found}
            counts.misses += len(lacking)
            now = answers.wall()
            if not lacking:
                age = max(entry.age(now) for entry in found.values())
                ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_HIT, age_seconds=age)
                return Reply.of(_together(keys, _parsed(found), None))
            if mode == ONLY_IF_CACHED:
                message = f"{len(lacking)} of {len(keys)} inputs are not in the cache"
                raise CacheMiss(message, facts={"model": request.model})
            asked = v1.EmbedRequest()
            asked.CopyFrom(request)
            del asked.inputs[:]
            asked.inputs.extend(lacking.values())
            lacked, waits = list(lacking), mode == READ_WRITE
            making = self._making(inner, lacked, scope, policy, keeps=mode != READ_ONLY, waits=waits)
            if waits and not request.idempotency_key:
                reply = await self._flights.together(making, asked, ctx, answers.keys.of_several(lacked))
                if ctx.cache is not None and ctx.cache.status == v1.CacheInfo.STATUS_COALESCED:
                    counts.coalesced += len(lacked)
            else:
                reply = await making(asked, ctx)
            async with reply:
                response: v1.EmbedResponse = await reply.response()
            return Reply.of(_together(keys, _parsed(found) | _single(lacked, response), response))

        return cached

    def _making(
        self, inner: Service, keys: list[bytes], scope: Scope, policy: CachePolicy, *, keeps: bool, waits: bool
    ) -> Service:
        """The service that has the answers to all of `keys` made, and keeps them.

        `waits`: while another gateway makes the same ones.
        """
        answers = self._answers

        async def made(request: Any, ctx: Context) -> Reply[Any]:
            revision = answers.purges.revision
            claim = await answers.claim(answers.keys.of_several(keys), scope.tenant, 0) if waits else Claim()
            try:
                if claim.waited and len(found := await answers.several(keys, scope.tenant)) == len(keys):
                    if claim.lease is not None:
                        claim.lease.release()
                    ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_HIT, age_seconds=0)
                    return Reply.of(_together(keys, _parsed(found), None))
                ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_MISS)
                async with await inner(request, ctx) as reply:
                    response: v1.EmbedResponse = await reply.response()
            except BaseException:
                if claim.lease is not None:
                    claim.lease.release()
                raise
            if keeps:
                entries = self._entries(request, response, scope, policy, revision, ctx)
                self._keep(list(zip(keys, entries, strict=True)), response.route, scope, policy, claim.lease)
            return Reply.of(response)

        return made

    def _entries(
        self,
        request: v1.EmbedRequest,
        response: v1.EmbedResponse,
        scope: Scope,
        policy: CachePolicy,
        revision: int,
        ctx: Context,
    ) -> Iterator[Entry]:
        """The answer to each input. Nobody says what one of several cost: it gets its share by length."""
        weights = [counting.estimated_input(v1.EmbedRequest(inputs=[one])) or 1 for one in request.inputs]
        tokens = list(shares(response.usage.input_tokens, weights))
        costs = list(shares(response.usage.cost.total_nano_usd, weights))
        answered = f"{response.route.provider}/{response.route.model}"
        for index, embedding in enumerate(response.embeddings):
            alone = v1.EmbedResponse(embeddings=[embedding], warnings=response.warnings)
            alone.route.provider, alone.route.model = response.route.provider, response.route.model
            yield Entry.of(
                alone.SerializeToString(),
                made=ctx.received_at,
                ttl=ttl_of(request, policy),
                grace=0.0,
                revision=revision,
                tenant=scope.tenant,
                target=scope.target.name,
                answered=answered,
                namespace=scope.namespace,
                saved=Saved(tokens[index], 0, costs[index]),
            )

    def _keep(
        self,
        entries: list[tuple[bytes, Entry]],
        route: v1.RouteInfo,
        scope: Scope,
        policy: CachePolicy,
        lease: Lease | None,
    ) -> None:
        if is_first_choice(route, scope.target.primary):
            kept = [one for one in entries if len(one[1].data) <= policy.max_entry_bytes]
        else:
            kept = []
        self._answers.counts.refused_writes += len(entries) - len(kept)
        if kept:
            self._answers.put(kept, lease)
        elif lease is not None:
            lease.void()


def shares(whole: int, weights: Sequence[int]) -> Iterator[int]:
    """`whole` divided by weight (above 0), in whole numbers that add up to it."""
    total, so_far, given = sum(weights), 0, 0
    for weight in weights:
        so_far += weight
        until = whole * so_far // total
        yield until - given
        given = until


_Parsed = dict[bytes, v1.EmbedResponse]
"""By key, a response with the vector of one input."""


def _parsed(found: dict[bytes, Entry]) -> _Parsed:
    return {key: _with_tokens(v1.EmbedResponse.FromString(entry.data), entry.saved) for key, entry in found.items()}


def _with_tokens(response: v1.EmbedResponse, saved: Saved) -> v1.EmbedResponse:
    response.usage.input_tokens = saved.input_tokens
    return response


def _single(keys: Iterable[bytes], response: v1.EmbedResponse) -> _Parsed:
    pairs = zip(keys, response.embeddings, strict=True)
    return {key: v1.EmbedResponse(embeddings=[embedding]) for key, embedding in pairs}


def _together(keys: Sequence[bytes], parts: _Parsed, asked: v1.EmbedResponse | None) -> v1.EmbedResponse:
    """One response of the answers to all inputs. What was used and billed is what `asked` says, that for some."""
    response = v1.EmbedResponse()
    if asked is not None:
        response.CopyFrom(asked)
        del response.embeddings[:]
    else:
        response.route.CopyFrom(next(iter(parts.values())).route)
        tokens = sum(parts[key].usage.input_tokens for key in keys)
        response.usage.CopyFrom(v1.Usage(source=v1.Usage.SOURCE_CACHE, input_tokens=tokens, total_tokens=tokens))
        response.usage.cost.SetInParent()
    for index, key in enumerate(keys):
        one = response.embeddings.add()
        one.CopyFrom(parts[key].embeddings[0])
        one.index = index
    for warning in (warning for part in parts.values() for warning in part.warnings):
        if warning not in response.warnings:
            response.warnings.append(warning)
    return response
