"""Every metric that the gateway has: two tables, and nothing else.

`gen_ai.*` and `rpc.*` are OpenTelemetry's conventions, buckets included; names of our own begin with `parley.`. What
goes up and down is an up-down counter, what cannot be added up a gauge, units are UCUM's. Attributes have few values by
construction: what a caller can make up never is one.

OBSERVED is looked up when it is asked for (`core/gauges.py`), RECORDED is counted as it happens (`measures.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from parley_server import semconv
from parley_server.core.instruments import Instrument

_SECONDS: Final = tuple(0.01 * 2**n for n in range(14))
"""Of `gen_ai.client.*`: from 10 ms to 82 s."""
_RPC_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS: Final = tuple(float(4**n) for n in range(14))
_DELAYS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_GEN_AI: Final = (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.PARLEY_PROVIDER)
_TARGET: Final = (semconv.PARLEY_PROVIDER, semconv.REQUEST_MODEL)


@dataclass(frozen=True, slots=True)
class Observed:
    """An instrument whose value is looked up. `gauge`: which of the gateway's gauges it shows.

    `attributes`: of one that has several values; the gauge tells them by the values of these.
    """

    name: str
    kind: Literal["up_down_counter", "counter", "gauge"]
    unit: str
    description: str
    gauge: str
    attributes: tuple[str, ...] = ()


OBSERVED = (
    Observed("parley.server.active_calls", "up_down_counter", "{call}", "Calls under way.", "calls"),
    Observed(
        "parley.server.shared_calls",
        "up_down_counter",
        "{call}",
        "Calls under way that several callers may follow, by idempotency key or for being equal.",
        "shared_calls",
    ),
    Observed(
        "parley.server.remembered_answers.size",
        "up_down_counter",
        "By",
        "What is kept of answers for their idempotency keys.",
        "remembered_bytes",
    ),
    Observed(
        "parley.upstream.open_streams",
        "up_down_counter",
        "{stream}",
        "Answers of providers that have not been closed.",
        "open_upstream_streams",
    ),
    Observed(
        "parley.upstream.queued_calls",
        "up_down_counter",
        "{call}",
        "Calls that wait for a place at a target, or for its limits to have room.",
        "queued",
    ),
    Observed(
        "parley.upstream.open_circuits",
        "up_down_counter",
        "{target}",
        "Targets that are left alone for having failed too often.",
        "open_circuits",
    ),
    Observed(
        "parley.upstream.circuit.state",
        "gauge",
        "1",
        "Of each target that has been asked: 0 it may be asked, 1 it is being tried again, 2 it is left alone.",
        "circuits",
        _TARGET,
    ),
    Observed(
        "parley.upstream.active_attempts",
        "up_down_counter",
        "{attempt}",
        "Attempts under way at each target.",
        "active_attempts",
        _TARGET,
    ),
    Observed(
        "parley.upstream.keys_set_aside",
        "up_down_counter",
        "{key}",
        "Keys of providers with several that are refused, or whose accounts have no money.",
        "keys_set_aside",
    ),
    Observed("parley.cache.answers", "up_down_counter", "{answer}", "Answers cached in memory.", "cached_answers"),
    Observed("parley.cache.size", "up_down_counter", "By", "What these take.", "cached_bytes"),
    Observed(
        "parley.cache.similar.questions",
        "up_down_counter",
        "{question}",
        "Questions in the index of similar ones, in memory.",
        "similar_questions",
    ),
    Observed(
        "parley.cache.similar.lookups",
        "counter",
        "{lookup}",
        "Times that a similar question was looked for.",
        "similar_lookups",
    ),
    Observed(
        "parley.cache.similar.vetoes",
        "counter",
        "{question}",
        "Questions with similar vectors that differ in their words.",
        "similar_vetoed",
    ),
    Observed(
        "parley.cache.similar.late", "counter", "{lookup}", "Lookups that took too long, and found nothing.",
        "similar_late",
    ),
    Observed(
        "parley.cache.similar.not_embedded",
        "counter",
        "{question}",
        "Questions that the embedder made no vector of.",
        "similar_not_embedded",
    ),
    Observed(
        "parley.cache.lookups",
        "counter",
        "{lookup}",
        "What the cache had for those who asked it; each input of an embedding request counts once.",
        "cache_lookups",
        (semconv.PARLEY_CACHE_RESULT,),
    ),
    Observed(
        "parley.cache.events",
        "counter",
        "{event}",
        "What else happened in the cache.",
        "cache_events",
        (semconv.PARLEY_CACHE_EVENT,),
    ),
    Observed(
        "parley.cache.saved_tokens",
        "counter",
        "{token}",
        "Tokens that answers from the cache would have used.",
        "cache_saved_tokens",
        (semconv.TOKEN_TYPE,),
    ),
    Observed(
        "parley.cache.saved_nano_usd",
        "counter",
        "{nano_usd}",
        "What answers from the cache would have cost, in billionths of a US dollar.",
        "cache_saved_nano_usd",
    ),
    Observed("parley.store.unavailable", "up_down_counter", "{store}", "Stores that do not answer.", "stores_down"),
    Observed("parley.store.failures", "counter", "{failure}", "Failures of stores since the start.", "store_failures"),
    Observed("parley.config.revision", "gauge", "1", "How often another configuration was taken.", "config_revision"),
    Observed(
        "parley.config.refused", "gauge", "1", "1 while the newest configuration is no good and is not in use; else 0.",
        "config_refused",
    ),
)  # fmt: skip

RECORDED = (
    Instrument(
        "rpc.server.call.duration",
        "histogram",
        "s",
        "Calls, from their arrival until their answer is with gRPC, the last event of a stream included.",
        (semconv.RPC_SYSTEM_NAME, semconv.RPC_METHOD, semconv.RPC_STATUS_CODE, semconv.ERROR_TYPE),
        _RPC_SECONDS,
    ),
    Instrument(
        "gen_ai.client.operation.duration",
        "histogram",
        "s",
        "Attempts at providers, each for itself, to the end of the answer.",
        (*_GEN_AI, semconv.ERROR_TYPE),
        _SECONDS,
    ),
    Instrument(
        "gen_ai.client.operation.time_to_first_chunk",
        "histogram",
        "s",
        "From the start of an attempt to its first content; streams only.",
        _GEN_AI,
        _SECONDS,
    ),
    Instrument(
        "gen_ai.client.token.usage",
        "histogram",
        "{token}",
        "Tokens that attempts used, of input and of output; estimated where the provider did not say.",
        (*_GEN_AI, semconv.TOKEN_TYPE, semconv.PARLEY_USAGE_ESTIMATED),
        _TOKENS,
    ),
    Instrument(
        "parley.upstream.attempts",
        "counter",
        "{attempt}",
        "Attempts by what they were: first, retry (the same target), fallback (another one) or hedge (one beside it).",
        (*_TARGET, semconv.PARLEY_ATTEMPT_KIND, semconv.ERROR_TYPE),
    ),
    Instrument(
        "parley.upstream.cost_nano_usd",
        "counter",
        "{nano_usd}",
        "What attempts cost, in billionths of a US dollar, where prices are known.",
        _TARGET,
    ),
    Instrument(
        "parley.upstream.queue.duration",
        "histogram",
        "s",
        "How long calls waited for a target that had to wait: for a place (bulkhead), for room in its limits (limits).",
        (*_TARGET, semconv.PARLEY_QUEUE),
        _SECONDS,
    ),
    Instrument(
        "parley.limits.calls",
        "counter",
        "{call}",
        "Calls that have limits, and what came of it: admitted, refused (by whose limit, of what), unavailable.",
        (semconv.PARLEY_LIMITS_RESULT, semconv.PARLEY_LIMITS_OWNER, semconv.PARLEY_LIMITS_OF),
    ),
    Instrument(
        "parley.event_loop.delay",
        "histogram",
        "s",
        "How much later than asked for the event loop came back, looked at ten times a second.",
        (),
        _DELAYS,
    ),
    Instrument(
        "parley.caller.calls",
        "counter",
        "{call}",
        "Calls by who made them; with `telemetry.by_caller` only, as all of `parley.caller`.",
        (semconv.PARLEY_CALLER, semconv.RPC_STATUS_CODE),
    ),
    Instrument(
        "parley.caller.tokens",
        "counter",
        "{token}",
        "Tokens of their attempts.",
        (semconv.PARLEY_CALLER, semconv.TOKEN_TYPE),
    ),
    Instrument(
        "parley.caller.cost_nano_usd",
        "counter",
        "{nano_usd}",
        "What these cost, in billionths of a US dollar.",
        (semconv.PARLEY_CALLER,),
    ),
)
