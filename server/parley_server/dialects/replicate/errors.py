"""What Replicate says when it does not answer: problems after RFC 7807, and predictions that fail."""

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
from parley_server.dialects.refusals import by_status, refusal

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
}
_BY_CODE: dict[str, type[GatewayError]] = {
    "E003": Overloaded,  # too much demand
    "E005": PromptBlocked,  # flagged as sensitive
    "E6716": AttemptTimeout,  # did not start in time
}
"""Codes that begin the error of a prediction; the others mean that the model or its machine broke down."""
_BY_WORDS: tuple[tuple[re.Pattern[str], type[GatewayError]], ...] = (
    (re.compile(r"flagged as sensitive|content policy|safety (?:filter|system)", re.IGNORECASE), PromptBlocked),
    (
        re.compile(r"context (?:length|window)|maximum (?:input|prompt|context)|prompt (?:length|is too long)", re.I),
        ContextLengthExceeded,
    ),
    (re.compile(r"high demand|service is (?:temporarily )?(?:unavailable|overloaded)", re.IGNORECASE), Overloaded),
)
_CODE = re.compile(r"\(?\b(E\d{3,4})\b")
_INPUT = re.compile(r"^(?:body\.)?input\.")


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        said = {}
    title, detail, kind = _text(said.get("title")), _text(said.get("detail")), _text(said.get("type"))
    found = by_status(status, _BY_STATUS)
    if found is InvalidRequest:
        found = _by_words(detail) or InvalidRequest
    words = detail or title
    problem = refusal(
        found, target, status, words, type=kind or title, violations=_violations(said.get("invalid_fields"))
    )
    if problem.retryable:
        problem.retry_after = retry_after(headers)
        if problem.retry_after is None and headers.get("ratelimit-remaining") == "0":
            problem.retry_after = retry_after({"retry-after": headers.get("ratelimit-reset", "")})
    return problem


def failed(said: Mapping[str, Any], target: Target) -> GatewayError:
    """What it means that a prediction has come to a bad end."""
    status = said["status"]
    words = _text(said.get("error"))
    if status != "failed":  # canceled or aborted, not by us
        problem = refusal(Unavailable, target, 200, words or f"the prediction was {status}")
        problem.retryable = False
        return problem
    return _failure(words, target)


def error_inside(data: bytes, target: Target) -> GatewayError:
    """What an `error` event in a stream means: the same as the prediction that it is about."""
    text = data.decode("utf-8", "replace")
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        said = None
    return _failure(_text(said.get("detail")) or text if isinstance(said, dict) else text, target)


def _failure(words: str, target: Target) -> GatewayError:
    code = found[1] if (found := _CODE.match(words)) else ""
    return refusal(_BY_CODE.get(code) or _by_words(words) or Unavailable, target, 200, words, code=code)


def _by_words(words: str) -> type[GatewayError] | None:
    return next((kind for pattern, kind in _BY_WORDS if pattern.search(words)), None)


def _violations(fields: Any) -> list[Violation]:
    """The inputs at fault, by the names that the model has for them."""
    found = []
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict):
            name = _INPUT.sub("", _text(field.get("field")))
            description = _text(field.get("description")) or "is not valid"
            found.append(Violation(f"input.{name}"[:128], provider_text(description), "INVALID_VALUE"))
    return found[:20]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
