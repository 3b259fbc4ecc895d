"""What Google says when it does not answer: `google.rpc.Status` as JSON, https://google.aip.dev/193."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

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
)
from parley_server.core.target import Target
from parley_server.dialects import hints
from parley_server.dialects.refusals import refusal

_BY_REASON: dict[str, type[GatewayError]] = {
    "API_KEY_INVALID": CredentialsRejected,
    "API_KEY_EXPIRED": CredentialsRejected,
    "BILLING_DISABLED": QuotaExhausted,
}
"""Reasons of `google.rpc.ErrorInfo` that say more than the status."""
_BY_WORD: dict[str, type[GatewayError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "FAILED_PRECONDITION": CredentialsRejected,  # billing is off, or the free tier is not offered in the country
    "UNAUTHENTICATED": CredentialsRejected,
    "PERMISSION_DENIED": CredentialsRejected,
    "NOT_FOUND": ModelNotFound,
    "RESOURCE_EXHAUSTED": RateLimited,
    "INTERNAL": Unavailable,
    "UNKNOWN": Unavailable,
    "ABORTED": Unavailable,
    "CANCELLED": Unavailable,  # by the server: when we cancel, nobody reads the answer
    "UNAVAILABLE": Overloaded,
    "DEADLINE_EXCEEDED": AttemptTimeout,
}
_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    499: Unavailable,
    503: Overloaded,
    504: AttemptTimeout,
}

# The API has no code for this one; it is an INVALID_ARGUMENT like any other.
_TOO_LONG = re.compile(
    r"input token count \(?(\d*)\)? ?exceeds the maximum number of(?: input)? tokens allowed \(?(\d*)|"
    r"exceeds the maximum (?:context|input) (?:length|window)",
    re.IGNORECASE,
)
_KEY_INVALID = re.compile(r"API key (?:not valid|expired)", re.IGNORECASE)

_WORD = 128  # characters of a type, a code or an ID that are kept: a whole status has to stay small


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None  # the proxy in front of the API answers in HTML
    found = _read(status, said, target)
    if found.retryable:
        stated = hints.retry_after(headers)
        found.retry_after = found.retry_after if stated is None else stated
    return found


def error_inside(said: Any, target: Target) -> GatewayError:
    """What an error inside an answer with status 200 means: the same as the same body with its code would."""
    return _read(200, said, target)


def is_google_error(body: bytes) -> bool:
    """Whether `body` is an error in Google's words, and not in those of another vendor whom it serves."""
    try:
        return _text(_fields(orjson.loads(body)), "status") in _BY_WORD
    except orjson.JSONDecodeError:
        return False


def blocked(feedback: Mapping[str, Any], target: Target) -> GatewayError:
    """The prompt was blocked: the API answers 200, without a candidate."""
    reason = str(feedback.get("blockReason") or "")
    words = feedback.get("blockReasonMessage")
    told = words if isinstance(words, str) else f"the prompt was blocked: {reason}"
    facts = {"category": hints.provider_text(reason)[:_WORD]}
    return refusal(PromptBlocked, target, 200, told, code=reason, facts=facts)


def _read(status: int, said: Any, target: Target) -> GatewayError:
    fields = _fields(said)
    word, words, code = _text(fields, "status"), _text(fields, "message"), fields.get("code")
    details = [detail for detail in _list(fields, "details") if isinstance(detail, dict)]
    reason = next(_values(details, "ErrorInfo", "reason"), "")
    by_code = _BY_STATUS.get(code if status < 400 and isinstance(code, int) else status)
    found = _BY_REASON.get(reason) or _BY_WORD.get(word) or by_code or _by_range(status, code)
    facts: dict[str, str] = {}
    if found is InvalidRequest:
        found, facts = _by_words(words)
    elif found is RateLimited and _is_out_of_quota(details):
        found = QuotaExhausted
    told = reason or (str(code) if code else "")
    answer = refusal(found, target, status, words, type=word, code=told, facts=facts)
    if answer.retryable:
        answer.retry_after = hints.go_duration(next(_values(details, "RetryInfo", "retryDelay"), ""))
    return answer


def _fields(said: Any) -> Mapping[str, Any]:
    """The error object of a body, which some endpoints wrap in a list."""
    match said:
        case {"error": dict(fields)} | [{"error": dict(fields)}, *_]:
            return fields
    return {}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


def _values(details: list[dict[str, Any]], kind: str, name: str) -> Iterator[str]:
    """The texts at `name` of the details of one kind."""
    for detail in details:
        if _text(detail, "@type").endswith(f"google.rpc.{kind}") and _text(detail, name):
            yield detail[name]


def _by_range(status: int, code: Any) -> type[GatewayError]:
    number = code if status < 400 and isinstance(code, int) else status
    return InvalidRequest if 400 <= number < 500 else Unavailable


def _by_words(words: str) -> tuple[type[GatewayError], dict[str, str]]:
    if match := _TOO_LONG.search(words):
        facts = {"requestedTokens": match[1] or "", "limitTokens": match[2] or ""}
        return ContextLengthExceeded, {name: number for name, number in facts.items() if number}
    return (CredentialsRejected if _KEY_INVALID.search(words) else InvalidRequest), {}


def _is_out_of_quota(details: list[dict[str, Any]]) -> bool:
    """Whether a quota that only a new day, or money, fills again is used up: one by the day, or one of nothing."""
    for detail in details:
        if not _text(detail, "@type").endswith("google.rpc.QuotaFailure"):
            continue
        for violation in _list(detail, "violations"):
            match violation:
                case {"quotaId": str(name)} if "PerDay" in name:
                    return True
                case {"quotaValue": "0" | 0}:
                    return True
    return False
