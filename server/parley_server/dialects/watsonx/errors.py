"""What watsonx.ai says when it does not answer: `{"errors": [{"code", "message"}], "trace", "status_code"}`."""

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
    OperationUnsupported,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import retry_after
from parley_server.dialects.refusals import by_status, refusal

_BY_CODE: dict[str, type[GatewayError]] = {
    "authentication_token_expired": CredentialsRejected,
    "authentication_token_not_valid": CredentialsRejected,
    "authorization_rejected": CredentialsRejected,
    "user_authorization_failed": CredentialsRejected,
    "no_associated_service_instance_error": CredentialsRejected,
    "model_not_supported": ModelNotFound,
    "model_not_found": ModelNotFound,
    "deployment_not_found": ModelNotFound,
    "model_no_support_for_function": OperationUnsupported,
    "token_quota_reached": QuotaExhausted,
    "rate_limit_reached_requests": RateLimited,
    "downstream_request_failed": Unavailable,
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
    520: Unavailable,
}
_TOO_LONG = re.compile(
    r"max(?:imum)? (?:sequence|context|tokens)|tokens? limit|context (?:length|window)|too many tokens", re.IGNORECASE
)
_WORD = 128  # characters of a code or an ID that are kept


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    found = _read(status, said if isinstance(said, dict) else {}, body, target)
    if found.retryable:
        found.retry_after = retry_after(headers)
    return found


def error_inside(said: Mapping[str, Any], target: Target) -> GatewayError | None:
    """What an error means that came with status 200, as a body or in a stream; it says which status it should have.

    None: `said` is no error.
    """
    if not isinstance(said.get("errors"), list) or not said["errors"]:
        return None
    status = said.get("status_code")
    return _read(status if isinstance(status, int) and 400 <= status < 600 else 500, said, b"", target)


def _read(status: int, said: Mapping[str, Any], body: bytes, target: Target) -> GatewayError:
    code = words = ""
    match said.get("errors"):
        case [{**first}, *_]:
            code, words = _text(first.get("code")), _text(first.get("message"))
        case _:  # a gateway before it: {"errorMessage": …}, {"message": …} or no JSON at all
            words = _text(said.get("errorMessage")) or _text(said.get("message"))
            if not words and not body.lstrip().startswith(b"<"):
                words = body[:8192].decode("utf-8", "replace")
    found = _BY_CODE.get(code) or by_status(status, _BY_STATUS)
    if found is InvalidRequest and _TOO_LONG.search(words):
        found = ContextLengthExceeded
    return refusal(found, target, status, words, code=code, request_id=_text(said.get("trace")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
