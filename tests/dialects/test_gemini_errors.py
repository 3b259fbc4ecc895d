"""Refusals in Google's form, and in none."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
from parley_server.dialects.gemini import is_google_error
from tests.dialects.gemini_wire import DIALECT, TARGET


def refused(code: int, status: str = "", message: str = "no", *details: Any, **headers: str) -> GatewayError:
    """What a refusal becomes."""
    fields = {"code": code, "message": message, "status": status, "details": list(details)}
    return DIALECT.error(code, headers, json.dumps({"error": fields}).encode(), TARGET)


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def quota(**violation: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def again_in(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("code", "status", "found"),
    [
        (400, "INVALID_ARGUMENT", InvalidRequest),
        (400, "FAILED_PRECONDITION", CredentialsRejected),
        (401, "UNAUTHENTICATED", CredentialsRejected),
        (402, "", QuotaExhausted),
        (403, "PERMISSION_DENIED", CredentialsRejected),
        (404, "NOT_FOUND", ModelNotFound),
        (413, "", RequestTooLarge),
        (418, "", InvalidRequest),
        (429, "RESOURCE_EXHAUSTED", RateLimited),
        (499, "CANCELLED", Unavailable),
        (500, "INTERNAL", Unavailable),
        (502, "", Unavailable),
        (503, "UNAVAILABLE", Overloaded),
        (504, "DEADLINE_EXCEEDED", AttemptTimeout),
    ],
)
def test_classes(code: int, status: str, found: type[GatewayError]) -> None:
    error = refused(code, status)
    assert type(error) is found
    said = error.provider_error
    assert said is not None
    assert (said.http_status, said.type, said.message, said.provider) == (code, status, "no", "gemini")


def test_a_bad_key_is_an_invalid_argument_here() -> None:
    error = refused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid one.", info("API_KEY_INVALID"))
    assert type(error) is CredentialsRejected
    assert error.provider_error is not None
    assert error.provider_error.code == "API_KEY_INVALID"
    assert type(refused(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.")) is CredentialsRejected
    assert type(refused(403, "PERMISSION_DENIED", "x", info("BILLING_DISABLED"))) is QuotaExhausted


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            {"requestedTokens": "1200000", "limitTokens": "1048576"},
        ),
        (
            "The input token count exceeds the maximum number of tokens allowed 1048576.",
            {"limitTokens": "1048576"},
        ),
    ],
)
def test_prompts_that_are_too_long(words: str, facts: dict[str, str]) -> None:
    error = refused(400, "INVALID_ARGUMENT", words)
    assert type(error) is ContextLengthExceeded
    assert error.facts == facts
    assert [violation.field for violation in error.violations] == ["messages"]


def test_a_limit_by_the_minute_passes() -> None:
    minute = quota(quotaMetric="m", quotaId="GenerateRequestsPerMinutePerProjectPerModel-FreeTier", quotaValue="15")
    error = refused(429, "RESOURCE_EXHAUSTED", "Slow down.", minute, again_in("17.5s"))
    assert (type(error), error.retry_after, error.retryable) == (RateLimited, 17.5, True)
    assert refused(429, "RESOURCE_EXHAUSTED", "x", again_in("17s"), **{"retry-after": "3"}).retry_after == 3
    assert refused(503, "UNAVAILABLE", "x", again_in("2s")).retry_after == 2
    assert refused(400, "INVALID_ARGUMENT", "x", again_in("2s")).retry_after is None


@pytest.mark.parametrize(
    "violation",
    [
        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"},
        {"quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier", "quotaValue": "0"},
    ],
)
def test_a_limit_by_the_day_does_not(violation: dict[str, str]) -> None:
    error = refused(429, "RESOURCE_EXHAUSTED", "You exceeded your quota.", quota(**violation), again_in("17s"))
    assert (type(error), error.retry_after, error.retryable) == (QuotaExhausted, None, False)


def test_some_endpoints_wrap_it_in_a_list() -> None:
    body = json.dumps([{"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"}}]).encode()
    error = DIALECT.error(404, {}, body, TARGET)
    assert type(error) is ModelNotFound
    assert error.provider_error is not None
    assert error.provider_error.message == "gone"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b"null",
        b'{"error":"x"}',
        b'{"error":{"details":3,"message":[],"status":{},"code":"x"}}',
        b'{"error":{"details":[1,{"@type":3},{"@type":"google.rpc.QuotaFailure","violations":{}}]}}',
    ],
)
def test_other_bodies_go_by_the_status(body: bytes) -> None:
    assert type(DIALECT.error(429, {"retry-after": "5"}, body, TARGET)) is RateLimited
    assert type(DIALECT.error(502, {}, body, TARGET)) is Unavailable


def test_credentials_in_its_words_are_not_repeated() -> None:
    error = refused(403, "PERMISSION_DENIED", "Consumer AIzaSyA0123456789abcdefghijklmnopqrstuv is suspended")
    assert error.provider_error is not None
    assert "AIzaSy" not in error.provider_error.message


def test_whose_words_they_are() -> None:
    assert is_google_error(b'[{"error":{"code":404,"status":"NOT_FOUND","message":"x"}}]')
    assert not is_google_error(b'{"type":"error","error":{"type":"not_found_error","message":"x"}}')
    assert not is_google_error(b'{"error":{"code":"x","status":404}}')
    assert not is_google_error(b"<html>")
