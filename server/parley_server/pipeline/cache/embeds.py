"""The cache of embeddings, input by input: only those that are not there are asked for, each of them once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
                return Reply.of(_together(keys, found, None))
            if mode == ONLY_IF_CACHED:
                message = f"{len(lacking)} of {len(keys)} inputs are not in the cache"
                raise CacheMiss(message, facts={"model": request.model})
            ctx.cache = v1.CacheInfo(status=v1.CacheInfo.STATUS_MISS)
            asked = v1.EmbedRequest()
            asked.CopyFrom(request)
            del asked.inputs[:]
            asked.inputs.extend(lacking.values())
            revision = answers.purges.revision
            if mode == READ_WRITE and not request.idempotency_key:
                reply = await self._flights.together(inner, asked, ctx, answers.keys.of_several(list(lacking)))
            else:
                reply = await inner(asked, ctx)
            async with reply:
                response: v1.EmbedResponse = await reply.response()
            fresh = dict(zip(lacking, self._entries(asked, response, scope, policy, revision, ctx), strict=True))
            if mode != READ_ONLY:
                self._keep(fresh, response, scope, policy)
            return Reply.of(_together(keys, found | fresh, response))

        return cached

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
            yield Entry(
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

    def _keep(self, fresh: dict[bytes, Entry], response: v1.EmbedResponse, scope: Scope, policy: CachePolicy) -> None:
        first_choice = is_first_choice(response.route, scope.target.primary)
        kept = [one for one in fresh.items() if first_choice and len(one[1].data) <= policy.max_entry_bytes]
        self._answers.counts.refused_writes += len(fresh) - len(kept)
        self._answers.put(kept)


def shares(whole: int, weights: Sequence[int]) -> Iterator[int]:
    """`whole` divided by weight (above 0), in whole numbers that add up to it."""
    total, so_far, given = sum(weights), 0, 0
    for weight in weights:
        so_far += weight
        until = whole * so_far // total
        yield until - given
        given = until


def _together(keys: Sequence[bytes], entries: dict[bytes, Entry], asked: v1.EmbedResponse | None) -> v1.EmbedResponse:
    """One response of the answers to all inputs; used and billed is what `asked` says, that for some."""
    parsed = {key: v1.EmbedResponse.FromString(entry.data) for key, entry in entries.items()}
    response = v1.EmbedResponse()
    if asked is not None:
        response.CopyFrom(asked)
        del response.embeddings[:]
    else:
        response.route.CopyFrom(next(iter(parsed.values())).route)
        tokens = sum(entries[key].saved.input_tokens for key in keys)
        response.usage.CopyFrom(v1.Usage(source=v1.Usage.SOURCE_CACHE, input_tokens=tokens, total_tokens=tokens))
        response.usage.cost.SetInParent()
    for index, key in enumerate(keys):
        one = response.embeddings.add()
        one.CopyFrom(parsed[key].embeddings[0])
        one.index = index
    for warning in (warning for single in parsed.values() for warning in single.warnings):
        if warning not in response.warnings:
            response.warnings.append(warning)
    return response
