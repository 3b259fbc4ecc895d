"""Which requests the cache serves, and which answers it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from parley import v1
from parley_server.core.errors import CacheMiss

Mode: TypeAlias = v1.ResponseCacheOptions.Mode.ValueType
Cacheable: TypeAlias = v1.ChatRequest | v1.EmbedRequest

BYPASS = v1.ResponseCacheOptions.MODE_BYPASS
READ_WRITE = v1.ResponseCacheOptions.MODE_READ_WRITE
READ_ONLY = v1.ResponseCacheOptions.MODE_READ_ONLY
REFRESH = v1.ResponseCacheOptions.MODE_REFRESH
ONLY_IF_CACHED = v1.ResponseCacheOptions.MODE_ONLY_IF_CACHED

_USUAL_TEMPERATURE = 1.0  # what models take where nothing is said, or nearly so


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How answers are cached. Times are seconds."""

    enabled: bool = True
    """Otherwise nothing is, whatever a request says."""
    mode: Mode = BYPASS
    """Of requests that do not say."""
    ttl: float = 3600.0
    """How long an answer is good for, where the request does not say."""
    max_ttl: float = 7 * 86_400.0
    """The most that a request may ask for."""
    max_temperature: float = 0.0
    """Requests with a higher one are cached only if they say so themselves; none is taken for 1. A seed makes up for
    any."""
    tool_calls: bool = False
    """Whether answers that call tools are kept."""
    stale_while_revalidate: float = 0.0
    """How long after its time an answer is given at once, while a new one is fetched in the background."""
    stale_if_error: float = 0.0
    """How long after its time an answer is given where fetching a new one fails."""
    max_entry_bytes: int = 1024 * 1024
    """The largest answer that is kept."""
    similar: bool = False
    """Whether the answer to a similar question will do for requests that do not say."""
    min_similarity: float | None = None
    """How similar it has to be then; None: as the index of questions has it."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of every route, and of everything else."""

    usual: CachePolicy = CachePolicy()
    routes: Mapping[str, CachePolicy] = field(default_factory=dict)

    def of(self, model: str) -> CachePolicy:
        """The policy for requests that name `model`."""
        return self.routes.get(model, self.usual)


def mode_of(request: Cacheable, policy: CachePolicy) -> Mode:
    """What to do for a request. Raises CacheMiss if there is no cache that could answer one which wants that only."""
    if not policy.enabled:
        if request.response_cache.mode == ONLY_IF_CACHED:
            raise CacheMiss("this gateway caches no answers", facts={"model": request.model})
        return BYPASS
    if request.HasField("response_cache") and request.response_cache.mode:
        return request.response_cache.mode
    if policy.mode == BYPASS or not is_repeatable(request, policy):
        return BYPASS
    return policy.mode


def is_repeatable(request: Cacheable, policy: CachePolicy) -> bool:
    """Whether a request that does not say is one that the policy is for."""
    if not isinstance(request, v1.ChatRequest):
        return True
    sampling = request.sampling
    if sampling.HasField("seed"):
        return True
    temperature = sampling.temperature if sampling.HasField("temperature") else _USUAL_TEMPERATURE
    return temperature <= policy.max_temperature


def least_similarity(request: v1.ChatRequest, policy: CachePolicy, usual: float) -> float | None:
    """How similar a question has to be for its answer to do, `usual` if nobody says; None: only the same will do."""
    if request.response_cache.HasField("min_similarity"):
        return request.response_cache.min_similarity
    if not policy.similar:
        return None
    return usual if policy.min_similarity is None else policy.min_similarity


def ttl_of(request: Cacheable, policy: CachePolicy) -> float:
    """How long the answer to a request is good for, in seconds."""
    if request.HasField("response_cache") and request.response_cache.HasField("ttl"):
        ttl = request.response_cache.ttl
        return min(ttl.seconds + ttl.nanos / 1e9, policy.max_ttl)
    return min(policy.ttl, policy.max_ttl)


def is_kept(response: v1.ChatResponse, primary: str, policy: CachePolicy) -> bool:
    """Whether an answer may be given again. `primary`: the target that was meant, empty if any of several was.

    Only those that came to their natural end, from where they were wanted: what a fallback said in a bad moment is not
    to stand for hours.
    """
    match response.finish_reason:
        case v1.FINISH_REASON_STOP:
            pass
        case v1.FINISH_REASON_TOOL_CALL if policy.tool_calls:
            pass
        case _:
            return False
    if not policy.tool_calls and any(part.HasField("tool_call") for part in response.message.parts):
        return False
    if any(part.HasField("refusal") for part in response.message.parts):
        return False
    return is_first_choice(response.route, primary)


def is_first_choice(route: v1.RouteInfo, primary: str) -> bool:
    """Whether the target that was meant has answered, or where any of several was, the first one that was asked."""
    asked = [f"{attempt.provider}/{attempt.model}" for attempt in route.attempts]
    return not asked or asked[-1] == (primary or asked[0])
