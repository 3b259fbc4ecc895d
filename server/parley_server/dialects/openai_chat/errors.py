"""What a refusal in OpenAI's form means: by its code, else its type, else its status; words are the last resort."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptBlocked,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    Violation,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import provider_text, retry_after

_BY_WORD: dict[str, type[GatewayError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp
    "token_limit_exceeded": ContextLengthExceeded,
    "string_above_max_length": InvalidRequest,
    "insufficient_quota": QuotaExhausted,
    "credit_balance_exhausted": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "exceeded_current_quota_error": QuotaExhausted,  # Moonshot
    "payment_required": QuotaExhausted,
    "budget_exceeded": QuotaExhausted,  # LiteLLM
    "Arrearage": QuotaExhausted,  # DashScope
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "rate_limit_reached_error": RateLimited,
    "slow_down": RateLimited,
    "invalid_api_key": CredentialsRejected,
    "authentication_error": CredentialsRejected,
    "invalid_authentication_error": CredentialsRejected,
    "model_not_found": ModelNotFound,
    "ModelNotFound": ModelNotFound,
    "content_policy_violation": PromptBlocked,
    "content_filter": PromptBlocked,
    "moderation_blocked": PromptBlocked,
    "data_inspection_failed": PromptBlocked,
    "server_is_overloaded": Overloaded,
    "service_unavailable_error": Overloaded,
    "engine_overloaded_error": Overloaded,
    "overloaded_error": Overloaded,
    "capacity_exceeded": Overloaded,  # Groq
    "provider_overloaded": Overloaded,
    "payload_too_large": RequestTooLarge,
    "server_error": Unavailable,
    "internal_server_error": Unavailable,
    "InternalServerError": Unavailable,
    "invalid_request_error": InvalidRequest,
    "BadRequestError": InvalidRequest,
}
_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    498: Overloaded,
    503: Overloaded,
    504: AttemptTimeout,
    524: AttemptTimeout,
    529: Overloaded,
}
_TOO_LONG = re.compile(
    r"context (?:length|window|size)|maximum context|exceeded model token limit|(?:prompt|input) is too long"
    r"|too many tokens|range of input length",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"(?:incorrect|invalid) api key", re.IGNORECASE)
_LIMIT = re.compile(r"(?:context (?:length|window|size)(?: is| of)?|token limit:?) ?\(?(\d+)", re.IGNORECASE)
_REQUESTED = re.compile(r"(?:resulted in|requested:?(?: about)?|request \() ?(\d+)", re.IGNORECASE)
_FIELDS = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "max_tokens": "sampling.max_output_tokens",
    "max_completion_tokens": "sampling.max_output_tokens",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "logit_bias": "sampling.logit_bias",
    "logprobs": "sampling.top_logprobs",
    "top_logprobs": "sampling.top_logprobs",
    "stop": "sampling.stop_sequences",
    "seed": "sampling.seed",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "output.verbosity",
    "response_format": "output",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "tool_choice.parallel_tool_calls",
    "service_tier": "routing.service_tier",
    "dimensions": "dimensions",
}
"""Paths of ours that a body field at fault stands for. Messages and tools are numbered differently on the wire."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider said, whatever the shape it said it in."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The error object, for what only some servers say."""


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What a status of 400 or more means. Header names are in lower case. Never raises."""
    said = _heard(body)
    found = _named(_classify(status, said), status, said, target)
    found.retry_after = retry_after(headers)
    if found.provider_error is not None:
        found.provider_error.request_id = headers.get("x-request-id", "")[:128]
    match headers.get("x-should-retry"):
        case "true":
            found.retryable = True
        case "false":
            found.retryable = False
    if not found.retryable:
        found.retry_after = None
    return found


def said_inside(answer: Mapping[str, Any], target: Target) -> GatewayError:
    """What an error object inside a 200, or inside a stream, means. Its code is the status where it is a number."""
    said = _of_object(answer)
    status = int(said.code) if said.code.isdecimal() and 400 <= int(said.code) <= 599 else 500
    return _named(_classify(status, said), 200, said, target)


def _classify(status: int, said: Said) -> type[GatewayError]:
    meta = said.detail.get("metadata")
    words = (said.code, str(meta.get("error_type") or "") if isinstance(meta, dict) else "", said.type)
    found = next((_BY_WORD[word] for word in words if word in _BY_WORD), None)
    if found is InvalidRequest or found is None:
        found = _BY_STATUS.get(status) or found or (InvalidRequest if status < 500 else Unavailable)
    if found in (InvalidRequest, RequestTooLarge) and _TOO_LONG.search(said.message) and said.code not in _BY_WORD:
        return ContextLengthExceeded
    if found is InvalidRequest and _BAD_KEY.search(said.message):  # xAI answers 400
        return CredentialsRejected
    if found is CredentialsRejected and isinstance(meta, dict) and "flagged_input" in meta:  # OpenRouter's moderation
        return PromptBlocked
    return found


_SENTENCES: dict[type[GatewayError], str] = {
    AttemptTimeout: "timed out",
    ContextLengthExceeded: "says that the prompt does not fit the context window",
    CredentialsRejected: "rejected the gateway's credentials",
    InvalidRequest: "found the request invalid",
    ModelNotFound: "does not know the model",
    Overloaded: "is overloaded",
    PromptBlocked: "blocked the prompt",
    QuotaExhausted: "has no quota left for this account",
    RateLimited: "limits the rate of requests",
    RequestTooLarge: "found the request too large",
    Unavailable: "failed",
}


def _named(found: type[GatewayError], status: int, said: Said, target: Target) -> GatewayError:
    facts = {}
    violations = []
    if said.param:
        facts["param"] = provider_text(said.param)[:128]
    if issubclass(found, InvalidRequest) and said.param in _FIELDS:
        violations.append(Violation(_FIELDS[said.param], "refused by the provider", "PROVIDER_REFUSED"))
    if found is ContextLengthExceeded:
        facts |= _lengths(said)
        violations = [Violation("messages", "does not fit the context window", "CONTEXT_LENGTH_EXCEEDED")]
    return found(
        f"{target.provider} {_SENTENCES[found]}",
        facts=facts,
        violations=violations,
        provider_error=v1.ProviderError(
            provider=target.provider,
            model=target.model,
            http_status=status,
            type=provider_text(said.type)[:128],
            code=provider_text(said.code)[:128],
            message=provider_text(said.message),
        ),
    )


def _lengths(said: Said) -> dict[str, str]:
    limit, requested = _LIMIT.search(said.message), _REQUESTED.search(said.message)
    told = {
        "limitTokens": limit.group(1) if limit else said.detail.get("n_ctx"),
        "requestedTokens": requested.group(1) if requested else said.detail.get("n_prompt_tokens"),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _heard(body: bytes) -> Said:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:4096].decode("utf-8", "replace").strip()
        return Said() if text.startswith("<") else Said(message=text)  # HTML of a proxy tells nobody anything
    while isinstance(value, list) and value:
        value = value[0]
    match value:
        case dict():
            return _of_object(value)
        case str():
            return Said(message=value)
        case _:
            return Said()


def _of_object(value: Mapping[str, Any]) -> Said:
    """An error body of any of the shapes that the family uses."""
    match value:
        case {"error": dict() as inner}:
            return _of_fields(inner)
        case {"error": [dict() as inner, *_]}:
            return _of_fields(inner)
        case {"error": [str(message), *_]}:
            return Said(message=message)
        case {"error": str(message)}:
            return Said(message=message, code=_word(value.get("code")), type=_word(value.get("type")))
        case {"errors": [dict() as inner, *_]}:
            return _of_fields(inner)
        case _:
            return _of_fields(value)


def _of_fields(value: Mapping[str, Any]) -> Said:
    message = value.get("message") or value.get("detail") or ""
    return Said(
        message=message if isinstance(message, str) else orjson.dumps(message).decode(),
        type=_word(value.get("type")),
        code=_word(value.get("code")),
        param=_word(value.get("param")),
        detail=value,
    )


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""
