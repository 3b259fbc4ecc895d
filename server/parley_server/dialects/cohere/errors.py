"""What Cohere says when it does not answer: `{"message": "words"}`. The status is its only code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    ModelNotFound,
    OperationUnsupported,
    Overloaded,
    PromptBlocked,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import provider_text, retry_after
from parley_server.dialects.refusals import by_status, refusal

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
    found = refusal(_classified(status, words), target, status, words)
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
    return refusal(found, target, 200, words, type=kind if isinstance(kind, str) else "")


def _classified(status: int, words: str) -> type[GatewayError]:
    match status:
        case 400 | 413 | 422 if found := _by_words(words):
            return found
        case 429 if _NO_QUOTA.search(words):  # the monthly cap of trial keys: waiting for a minute does not help
            return QuotaExhausted
        case 498 if _BAD_TOKEN.search(words):
            return CredentialsRejected
    return by_status(status, _BY_STATUS)


def _by_words(words: str) -> type[GatewayError] | None:
    return ContextLengthExceeded if _TOO_LONG.search(words) else None
