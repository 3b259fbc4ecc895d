"""What AWS says when it does not answer: an exception by name, in a header, a body or a frame of a stream."""

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
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects import hints
from parley_server.dialects.framing.eventstream import Head
from parley_server.dialects.refusals import by_status, refusal

_BY_NAME: dict[str, type[GatewayError]] = {
    "AccessDeniedException": CredentialsRejected,
    "ExpiredTokenException": CredentialsRejected,
    "IncompleteSignatureException": CredentialsRejected,
    "InvalidSignatureException": CredentialsRejected,
    "MissingAuthenticationTokenException": CredentialsRejected,
    "NotAuthorizedException": CredentialsRejected,
    "OptInRequired": CredentialsRejected,
    "SignatureDoesNotMatchException": CredentialsRejected,
    "UnrecognizedClientException": CredentialsRejected,
    "ValidationException": InvalidRequest,
    "ConflictException": InvalidRequest,
    "SerializationException": InvalidRequest,
    "ResourceNotFoundException": ModelNotFound,
    "UnknownOperationException": InvalidRequest,
    "ThrottlingException": RateLimited,
    "TooManyRequestsException": RateLimited,
    "RequestLimitExceededException": RateLimited,
    "ServiceQuotaExceededException": QuotaExhausted,
    "RequestEntityTooLargeException": RequestTooLarge,
    "ModelNotReadyException": Unavailable,  # it is being loaded: a moment later it answers
    "ModelTimeoutException": AttemptTimeout,
    "ModelErrorException": Unavailable,
    "ModelStreamErrorException": Unavailable,
    "InternalServerException": Unavailable,
    "InternalFailureException": Unavailable,
    "ServiceUnavailableException": Overloaded,
    # SageMaker, whose names have no suffix of their own
    "ValidationError": InvalidRequest,
    "ModelError": Unavailable,
    "ModelStreamError": Unavailable,
    "InternalFailure": Unavailable,
    "InternalStreamFailure": Unavailable,
    "InternalDependencyException": Unavailable,
    "ServiceUnavailable": Overloaded,
}
_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    424: Unavailable,
    429: RateLimited,
    503: Overloaded,
    504: AttemptTimeout,
}

# AWS says all of these as ValidationException (or ValidationError), so the words are what is left.
_TOO_LONG = re.compile(
    r"too long for requested model|input is too long|prompt is too long|too many (input|total) tokens"
    r"|exceeds? the (maximum|model's) (number of tokens|context|input)|maximum context length|context window",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model identifier is invalid|^endpoint .* not found", re.IGNORECASE)
_WORD = 128  # characters of a name or an ID that are kept: a whole status has to stay small


def error(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
    """What an answer with a status of 400 or more means. Never raises."""
    said = _object(body)
    name = exception_name(headers, said)
    found = _read(status, name, said, target)
    request_id = headers.get("x-amzn-requestid", "")
    if found.provider_error is not None:
        found.provider_error.request_id = hints.provider_text(request_id)[:_WORD]
    if found.retryable:
        found.retry_after = hints.retry_after(headers)
    return found


def error_inside(head: Head, payload: bytes, target: Target) -> GatewayError:
    """What an exception or error inside a stream means: the same as the same exception with a status would."""
    said = _object(payload) if head.kind == "exception" else {"message": payload.decode()}
    name = head.name[:1].upper() + head.name[1:]  # a member's name: throttlingException
    return _read(200, name, said, target)


def is_aws(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether AWS itself says it, rather than the server of the model behind it."""
    if "x-amzn-errortype" in headers:
        return True
    said = _object(body)
    return "__type" in said or isinstance(said.get("message", said.get("Message")), str)


def original(body: bytes) -> tuple[int, bytes] | None:
    """Status and body of the answer of a container on SageMaker, where AWS passes on that it refused a request."""
    match _object(body):
        case {"OriginalStatusCode": int(status), "OriginalMessage": str(text)} if 400 <= status < 600 and text:
            return status, text.encode()
    return None


def exception_name(headers: Mapping[str, str], said: Mapping[str, Any]) -> str:
    """The bare name: of "ValidationException:http://…" or "com.amazon…#ValidationException" what both have."""
    stated = headers.get("x-amzn-errortype") or said.get("__type") or said.get("code") or ""
    return stated.partition(":")[0].rpartition("#")[2].strip() if isinstance(stated, str) else ""


def _read(status: int, name: str, said: Mapping[str, Any], target: Target) -> GatewayError:
    words = _text(said, "message") or _text(said, "Message")
    found = _BY_NAME.get(name) or _BY_NAME.get(f"{name}Exception") or by_status(status, _BY_STATUS)
    if name.startswith("Model"):
        original = said.get("originalStatusCode", said.get("OriginalStatusCode"))
        words = _text(said, "originalMessage") or _text(said, "OriginalMessage") or words
        if isinstance(original, int) and original in (400, 413, 422, 429, 503):
            found = by_status(original, _BY_STATUS)
    if found is InvalidRequest:
        found = _by_words(words)
    told = words or name or f"status {status}"
    return refusal(found, target, status, told, type=name, code=_text(said, "ErrorCode"))


def _by_words(words: str) -> type[GatewayError]:
    if _TOO_LONG.search(words):
        return ContextLengthExceeded
    return ModelNotFound if _NO_MODEL.search(words) else InvalidRequest


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}  # a proxy in front answers in other words
    return value if isinstance(value, dict) else {}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
