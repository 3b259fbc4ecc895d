"""What Ollama says when it does not answer: `{"error": "words"}`. It has no codes, so the words have to do."""

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
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
    Violation,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import provider_text, retry_after
from parley_server.dialects.refusals import by_status, refusal

# In the order they are tried. The second member is the class, the third the field that is at fault, if one is.
_BY_WORDS: tuple[tuple[re.Pattern[str], type[GatewayError], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind, field)
    for words, kind, field in (
        (r"exceeds? the (?:available |maximum )?context|longer than the context", ContextLengthExceeded, "messages"),
        (r"does not support thinking|think value .* is not supported", UnsupportedParameter, "reasoning"),
        (r"does not support tools", UnsupportedParameter, "tools"),
        (r"does not support (?:vision|image|audio)|missing data required for image", UnsupportedParameter, "messages"),
        (r"does not support (?:chat|generate|completion|embed)", OperationUnsupported, "model"),
        (r"model .*not found|try pulling it first", ModelNotFound, ""),
        (r"usage limit", QuotaExhausted, ""),
        (r"server busy|maximum pending requests", Overloaded, ""),
    )
)
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
_REASONS: dict[type[GatewayError], str] = {
    ContextLengthExceeded: "CONTEXT_LENGTH_EXCEEDED",
    UnsupportedParameter: "UNSUPPORTED_PARAMETER",
    OperationUnsupported: "OPERATION_UNSUPPORTED",
}
_TOO_LITTLE_MEMORY = re.compile(r"requires more system memory|unable to load model|out of memory", re.IGNORECASE)


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    found = _read(status, said if isinstance(said, dict) else None, body, target)
    if found.retryable:
        found.retry_after = retry_after(headers)
    return found


def error_inside(line: Mapping[str, Any], target: Target) -> GatewayError:
    """What an error means that came with status 200, as a body or as a line of a stream."""
    return _read(200, line, b"", target)


def _read(status: int, said: Mapping[str, Any] | None, body: bytes, target: Target) -> GatewayError:
    match said:
        case {"error": str(words)} | {"error": {"message": str(words)}}:
            found, field = _by_words(words) or (by_status(status, _BY_STATUS), "")
        case _:  # not Ollama: a proxy before it, or a server that lacks the endpoint
            words = body[:8192].decode("utf-8", "replace").strip()
            words = "" if words.startswith("<") else words  # HTML of a proxy tells nobody anything
            found, field = (OperationUnsupported if status == 404 else by_status(status, _BY_STATUS)), ""
    violations = [Violation(field, provider_text(words), _REASONS.get(found, ""))] if field else []
    problem = refusal(found, target, status, words, violations=violations)
    if found is Unavailable and _TOO_LITTLE_MEMORY.search(words):
        problem.retryable = False
    return problem


def _by_words(words: str) -> tuple[type[GatewayError], str] | None:
    return next(((kind, field) for pattern, kind, field in _BY_WORDS if pattern.search(words)), None)
