"""What Cohere says when it does not answer: `{"message": "words"}`. The status is its only code."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    OperationUnsupported,
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

_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    498: PromptBlocked,
    499: Unavailable,
    501: OperationUnsupported,
    503: Overloaded,
    504: AttemptTimeout,
}
_SENTENCES: dict[type[GatewayError], str] = {
    InvalidRequest: "found the request invalid",
    OperationUnsupported: "does not do this operation with the model",
    ContextLengthExceeded: "says that the prompt does not fit the context window",
    RequestTooLarge: "found the request too large",
    CredentialsRejected: "rejected the gateway's credentials",
    PromptBlocked: "blocked the prompt",
    QuotaExhausted: "has no quota left for this account",
    ModelNotFound: "does not have the model",
    RateLimited: "limits the rate of requests",
    AttemptTimeout: "timed out",
    Overloaded: "is overloaded",
    Unavailable: "failed",
}

# One status stands for several things; only the words tell them apart.
_TOO_LONG = re.compile(r"too many tokens|context (?:length|window|size)|prompt is too long", re.IGNORECASE)
_BAD_TOKEN = re.compile(r"\b(?:invalid|expired)\b.{0,20}\btoken|api (?:key|token)", re.IGNORECASE)
_NO_QUOTA = re.compile(r"api calls ?/ ?month|monthly|billing limit|spend(?:ing)? limit|budget", re.IGNORECASE)

_INSIDE: dict[str, type[GatewayError]] = {"TIMEOUT": AttemptTimeout}


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    match said:
        case {"message": str(words)}:
            pass
        case _:  # not Cohere: a proxy before it
            words = body[:8192].decode("utf-8", "replace").strip()
            words = "" if words.startswith("<") else words
    found = _made(_classified(status, words), status, words, target)
    if isinstance(said, dict) and isinstance(said.get("id"), str) and found.provider_error is not None:
        found.provider_error.request_id = provider_text(said["id"])[:128]
    if found.retryable:
        found.retry_after = retry_after(headers)
    return found


def error_inside(said: Mapping[str, Any], target: Target) -> GatewayError:
    """What it means that an answer with status 200 ends in an error: `said` has `error` and perhaps `error_type`."""
    words, kind = said.get("error") or "", said.get("error_type") or ""
    if not isinstance(words, str):
        words = ""
    found = _INSIDE.get(said.get("finish_reason") or "") or _by_words(words) or Unavailable
    problem = _made(found, 200, words, target)
    if isinstance(kind, str) and problem.provider_error is not None:
        problem.provider_error.type = provider_text(kind)[:128]
    return problem


def _classified(status: int, words: str) -> type[GatewayError]:
    match status:
        case 400 | 413 | 422 if found := _by_words(words):
            return found
        case 429 if _NO_QUOTA.search(words):  # the monthly cap of trial keys: waiting for a minute does not help
            return QuotaExhausted
        case 498 if _BAD_TOKEN.search(words):
            return CredentialsRejected
    return _BY_STATUS.get(status) or (InvalidRequest if 400 <= status < 500 else Unavailable)


def _by_words(words: str) -> type[GatewayError] | None:
    return ContextLengthExceeded if _TOO_LONG.search(words) else None


def _made(found: type[GatewayError], status: int, words: str, target: Target) -> GatewayError:
    too_long = Violation("messages", "does not fit the context window", "CONTEXT_LENGTH_EXCEEDED")
    return found(
        f"{target.provider} {_SENTENCES[found]}",
        violations=[too_long] if found is ContextLengthExceeded else (),
        provider_error=v1.ProviderError(
            provider=target.provider, model=target.model, http_status=status, message=provider_text(words)
        ),
    )
