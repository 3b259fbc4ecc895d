"""What the Messages API says when it does not answer: https://docs.anthropic.com/en/api/errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
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
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects import hints
from parley_server.dialects.refusals import by_status, refusal

_BY_CODE: dict[str, type[GatewayError]] = {
    "enforced_spend_limit_reached": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "ramp_limit_exceeded": RateLimited,
}
_BY_TYPE: dict[str, type[GatewayError]] = {
    "invalid_request_error": InvalidRequest,
    "authentication_error": CredentialsRejected,
    "billing_error": QuotaExhausted,
    "permission_error": CredentialsRejected,
    "not_found_error": ModelNotFound,
    "conflict_error": InvalidRequest,
    "request_too_large": RequestTooLarge,
    "rate_limit_error": RateLimited,
    "api_error": Unavailable,
    "timeout_error": AttemptTimeout,
    "overloaded_error": Overloaded,
    "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp, which serves this API too
}
_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    503: Overloaded,
    504: AttemptTimeout,
    529: Overloaded,
}

# The API has no code for these; it says all of them as invalid_request_error.
_TOO_LONG = re.compile(r"prompt is too long: (\d+) tokens > (\d+) maximum")
_TOO_LONG_TOGETHER = re.compile(r"input length and `?max_tokens`? exceed context limit: (\d+) \+ (\d+) > (\d+)")
_NO_CREDIT = re.compile(r"credit balance is too low|reached your specified .{0,40}usage limits")

_WORD = 128  # characters of a type, a code or an ID that are kept: a whole status has to stay small
_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None  # the proxy in front of the API answers in other words
    found = _read(status, said, target)
    match headers.get("x-should-retry"):
        case "true":
            found.retryable = True
        case "false":
            found.retryable = False
    if found.retryable:
        found.retry_after = _retry_after(headers)
    return found


def error_inside(event: Mapping[str, Any], target: Target) -> GatewayError:
    """What an `error` event inside a stream means: the same as the same body with a status would."""
    found = _read(200, event, target)
    if isinstance(found, CredentialsRejected) and found.provider_error is not None:
        found.for_model = found.provider_error.type == "permission_error"  # which has status 403
    return found


def _read(status: int, said: Any, target: Target) -> GatewayError:
    kind = code = words = request_id = ""
    match said:
        case {"error": {**fields}, **rest}:
            kind, words, request_id = _text(fields, "type"), _text(fields, "message"), _text(rest, "request_id")
            match fields.get("details"):
                case {"error_code": str(code)}:
                    pass
    found = _BY_CODE.get(code) or _BY_TYPE.get(kind) or by_status(status, _BY_STATUS)
    facts: dict[str, str] = {}
    if found is InvalidRequest:
        found, facts = _by_words(words)
    return refusal(found, target, status, words, type=kind, code=code, request_id=request_id, facts=facts)


def _text(fields: Mapping[Any, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _by_words(words: str) -> tuple[type[GatewayError], dict[str, str]]:
    if match := _TOO_LONG.search(words):
        return ContextLengthExceeded, {"requestedTokens": match[1], "limitTokens": match[2]}
    if match := _TOO_LONG_TOGETHER.search(words):
        return ContextLengthExceeded, {"requestedTokens": str(int(match[1]) + int(match[2])), "limitTokens": match[3]}
    return (QuotaExhausted if _NO_CREDIT.search(words) else InvalidRequest), {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: as stated, or until the last of the limits that have nothing left is reset."""
    stated = hints.retry_after(headers)
    if stated is not None:
        return stated
    names = [f"anthropic-ratelimit-{limit}" for limit in _LIMITS]
    waits = [
        _until(headers.get(f"{name}-reset", ""), headers.get("date", ""))
        for name in names
        if headers.get(f"{name}-remaining") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _until(then: str, now: str) -> float | None:
    """Seconds from an HTTP date to an RFC 3339 time."""
    try:
        return max((datetime.fromisoformat(then) - parsedate_to_datetime(now)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # not such times, or one without a zone
        return None
