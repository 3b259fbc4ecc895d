"""What a refusal in OpenAI's form means: by its code, else its type, else its status; words are the last resort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    PromptBlocked,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    Violation,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import provider_text, retry_after
from parley_server.dialects.openai_chat.codes import (
    BAD_KEY,
    BLOCKED,
    BUSINESS,
    BY_STATUS,
    BY_WORD,
    CLOUDFLARE,
    FIELDS,
    LIMIT,
    NO_MODEL,
    NO_MONEY,
    NOT_THE_WINDOW,
    REQUESTED,
    TOO_LONG,
)
from parley_server.dialects.refusals import refusal

_LONGEST_LOADING = 3600.0  # seconds; more is no time to wait for a model


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider said, whatever the shape it said it in."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The error object, for what only some servers say."""
    enveloped: bool = False
    """It came in Cloudflare's envelope of `success` and `errors`."""


def error(
    status: int, headers: Mapping[str, str], body: bytes, target: Target, *, too_long_status: int = 0
) -> GatewayError:
    """What a status of 400 or more means. Header names are in lower case. Never raises.

    `too_long_status`: one that says that the prompt does not fit the window, whatever it says elsewhere.
    """
    said = _heard(body)
    found = _named(_classify(status, said, too_long_status), status, said, target)
    found.retry_after = retry_after(headers)
    if found.provider_error is not None:
        found.provider_error.request_id = headers.get("x-request-id", "")[:128]
    match headers.get("x-should-retry"):
        case "true":
            found.retryable = True
        case "false":
            found.retryable = False
    match said.detail.get("estimated_time"):  # Hugging Face, while a model loads
        case int() | float() as seconds if found.retry_after is None and 0 < seconds < _LONGEST_LOADING:
            found.retry_after = float(seconds)
    if not found.retryable:
        found.retry_after = None
    return found


def said_inside(answer: Mapping[str, Any], target: Target) -> GatewayError:
    """What an error object inside a 200, or inside a stream, means. Its code is the status where it is a number."""
    said = _of_object(answer)
    status = int(said.code) if said.code.isdecimal() and 400 <= int(said.code) <= 599 else 500
    return _named(_classify(status, said), 200, said, target)


def _classify(status: int, said: Said, too_long_status: int = 0) -> type[GatewayError]:
    meta = said.detail.get("metadata")
    words = (said.code, str(meta.get("error_type") or "") if isinstance(meta, dict) else "", said.type)
    found = _by_number(said) or next((BY_WORD[word] for word in words if word in BY_WORD), None)
    if found in (InvalidRequest, None) and status == too_long_status:
        return ContextLengthExceeded
    if found is InvalidRequest or found is None:
        found = BY_STATUS.get(status) or found or (InvalidRequest if status < 500 else Unavailable)
    if found in (InvalidRequest, RequestTooLarge) and said.code not in NOT_THE_WINDOW and TOO_LONG.search(said.message):
        return ContextLengthExceeded
    if said.code == "invalid_prompt":  # OpenAI: its policies forbid it; OpenRouter has the word as a kind, for nonsense
        return PromptBlocked
    if found is InvalidRequest and BAD_KEY.search(said.message):  # xAI answers 400, as in the next line
        return CredentialsRejected
    if found is InvalidRequest and NO_MODEL.match(said.message):
        return ModelNotFound
    if found in (CredentialsRejected, RateLimited) and status != 401 and NO_MONEY.search(said.message):
        return QuotaExhausted
    if found is CredentialsRejected and status == 403 and BLOCKED.search(said.message + _raw(meta)):  # xAI
        return PromptBlocked
    if found is CredentialsRejected and isinstance(meta, dict) and "flagged_input" in meta:  # OpenRouter's moderation
        return PromptBlocked
    return found


def _by_number(said: Said) -> type[GatewayError] | None:
    """What a numeric code means to the servers that have such codes of their own, which their shapes give away."""
    if not said.code.isdecimal():
        return None
    if said.enveloped:
        return CLOUDFLARE.get(int(said.code))
    return BUSINESS.get(said.code) if isinstance(said.detail.get("code"), str) and not said.type else None


def _raw(meta: Any) -> str:
    """What the server behind OpenRouter said, which is told as text."""
    return str(meta.get("raw") or "")[:8192] if isinstance(meta, dict) else ""


def _named(found: type[GatewayError], status: int, said: Said, target: Target) -> GatewayError:
    facts = {}
    violations = []
    if said.param:
        facts["param"] = provider_text(said.param)[:128]
    if issubclass(found, InvalidRequest) and said.param in FIELDS:
        violations.append(Violation(FIELDS[said.param], "refused by the provider", "PROVIDER_REFUSED"))
    if found is PromptBlocked and (categories := _categories(said)):
        facts["categories"] = categories
    if found is ContextLengthExceeded:
        facts |= _lengths(said)
    return refusal(
        found, target, status, said.message, type=said.type, code=said.code, facts=facts, violations=violations
    )


def _categories(said: Said) -> str:
    """What Azure's filter found in the prompt, by its own names: "hate,jailbreak"."""
    inner = said.detail.get("innererror") or said.detail.get("inner_error")
    results = inner.get("content_filter_result") if isinstance(inner, dict) else None
    if not isinstance(results, dict):
        return ""
    found = [name for name, result in results.items() if isinstance(result, dict) and result.get("filtered")]
    return provider_text(",".join(sorted(found)))[:128]


def _lengths(said: Said) -> dict[str, str]:
    limit, requested = LIMIT.search(said.message), REQUESTED.search(said.message)
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
            kind = _word(value.get("type")) or _word(value.get("error_type"))
            return Said(message=message, code=_word(value.get("code")), type=kind, detail=value)
        case {"errors": [dict() as inner, *_]}:
            return replace(_of_fields(inner), enveloped="success" in value)
        case _:
            return _of_fields(value)


def _of_fields(value: Mapping[str, Any]) -> Said:
    message = value.get("message") or value.get("detail") or ""
    return Said(
        message=message if isinstance(message, str) else orjson.dumps(message).decode(),
        type=_word(value.get("type")) or _word(value.get("error_type")),
        code=_word(value.get("code")) or _word(value.get("error_code")),
        param=_word(value.get("param")),
        detail=value,
    )


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""
