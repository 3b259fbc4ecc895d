"""Every name that the gateway gives to telemetry, once.

RPC names follow OpenTelemetry's release-candidate conventions, `gen_ai.*` those of its GenAI repository, which are in
development: names still move, so they stand nowhere else. Names of our own begin with `parley.`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from parley import v1

SERVICE: Final = "parley.v1.GatewayService"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
"""Always "grpc"."""
RPC_METHOD: Final = "rpc.method"
"""Such as "parley.v1.GatewayService/Chat"."""
RPC_STATUS_CODE: Final = "rpc.response.status_code"
"""Name of the gRPC status code, such as "OK" or "DEADLINE_EXCEEDED"."""
ERROR_TYPE: Final = "error.type"
"""Reason of the `ErrorInfo`; missing where all went well."""
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

OPERATION_NAME: Final = "gen_ai.operation.name"
"""What is asked for: "chat", "embeddings" or "rerank"."""
PROVIDER_NAME: Final = "gen_ai.provider.name"
"""OpenTelemetry's name of the provider, such as "openai" or "aws.bedrock"."""
OUTPUT_TYPE: Final = "gen_ai.output.type"

REQUEST_MODEL: Final = "gen_ai.request.model"
"""The provider's name of the model; of metrics, "_OTHER" where nobody lists it and no route names it."""
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"

RESPONSE_ID: Final = "gen_ai.response.id"
"""The provider's ID; ours is `parley.response.id`."""
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the start of the attempt to its first content; streams only."""

TOKEN_TYPE: Final = "gen_ai.token.type"
"""Of metrics: "input" or "output"."""

USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

PARLEY_REQUEST_ID: Final = "parley.request.id"
"""The caller's `x-request-id`, or one of ours."""
PARLEY_RESPONSE_ID: Final = "parley.response.id"
"""Our ID of the answer: `id`, and what a stream is resumed by."""
PARLEY_CALLER: Final = "parley.caller"
"""Name of the caller, where callers have keys."""
PARLEY_TENANT: Final = "parley.tenant"
"""Whose data caches may share."""
PARLEY_MODEL: Final = "parley.request.model"
"""Model as the caller named it."""
PARLEY_PROVIDER: Final = "parley.provider"
"""Short name of the provider: that which answered, or the one of the attempt."""
PARLEY_ATTEMPT: Final = "parley.attempt"
"""Number of the attempt within the call, from 1."""
PARLEY_ATTEMPT_KIND: Final = "parley.attempt.kind"
"""Of metrics: "first", "retry", "fallback" or "hedge"."""
PARLEY_ATTEMPTS: Final = "parley.attempts"
"""Attempts that the call took."""
PARLEY_ROUTE: Final = "parley.route"
"""Name of the route that was asked for, if it is one; on the call and on its attempts."""
PARLEY_STRATEGY: Final = "parley.strategy"
"""How the targets were put in order, where there were several: "ordered", "weighted", "latency", …"""
PARLEY_CACHE: Final = "parley.cache"
"""What the cache of answers had to do with the call: "hit", "miss", "semantic_hit", "bypass" or "coalesced"."""
PARLEY_CACHE_KEY: Final = "parley.cache.key"
"""Key of the answer in the cache, where it is there."""
PARLEY_CACHE_RESULT: Final = "parley.cache.result"
"""Of metrics: "memory_hit", "shared_hit", "semantic_hit", "coalesced" or "miss"."""
PARLEY_CACHE_EVENT: Final = "parley.cache.event"
"""Of metrics: "stale_hit", "write", "refused_write", "eviction", "corrupt" or "store_failure"."""
PARLEY_COST: Final = "parley.cost_nano_usd"
"""Cost in billionths of a US dollar, where known: of the attempt, and on the call of all of them."""
PARLEY_QUEUE: Final = "parley.queue"
"""Of metrics: what is waited for, "bulkhead" or "limits"."""
PARLEY_LIMITS_RESULT: Final = "parley.limits.result"
"""Of metrics: "admitted", "refused" or "unavailable"."""
PARLEY_LIMITS_OWNER: Final = "parley.limits.owner"
"""Of metrics: whose limit had no room, "caller", "tenant" or "all"; never a name."""
PARLEY_LIMITS_OF: Final = "parley.limits.of"
"""Of metrics: "requests", "tokens" or "concurrency"."""
PARLEY_USAGE_ESTIMATED: Final = "parley.usage.estimated"
"""Of metrics: "true" where the provider did not count the tokens."""
PARLEY_RATE_LIMIT: Final = "parley.rate_limit."
"""Prefix: then the resource, over how long the limit holds where that is known, and limit, remaining or reset (s)."""
PARLEY_METADATA: Final = "parley.metadata."
"""Prefix of the caller's `metadata`."""

OTHER: Final = "_OTHER"
"""In place of a model that nobody lists and no route names: what callers make up is no attribute of a metric."""

OPERATIONS: Final = MappingProxyType({"chat": "chat", "embed": "embeddings", "rerank": "rerank"})
"""`gen_ai.operation.name` of our operations."""

CACHE_STATUS: Final = MappingProxyType(
    {
        number: name.removeprefix("STATUS_").lower()
        for name, number in v1.CacheInfo.Status.items()
        if number != v1.CacheInfo.STATUS_UNSPECIFIED
    }
)
"""Our word for an outcome of the cache."""

FINISH_REASONS: Final = MappingProxyType(
    {
        v1.FINISH_REASON_STOP: "stop",
        v1.FINISH_REASON_LENGTH: "length",
        v1.FINISH_REASON_TOOL_CALL: "tool_call",
        v1.FINISH_REASON_CONTENT_FILTER: "content_filter",
        v1.FINISH_REASON_REFUSAL: "content_filter",
        v1.FINISH_REASON_PAUSE: "stop",
        v1.FINISH_REASON_COMPACTION: "compaction",
        v1.FINISH_REASON_CONTEXT_WINDOW: "length",
        v1.FINISH_REASON_MALFORMED_OUTPUT: "error",
        v1.FINISH_REASON_ERROR: "error",
    }
)
"""OpenTelemetry's word for a finish reason."""
