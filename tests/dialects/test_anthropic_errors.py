"""What the Messages API says when it does not answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core import errors
from parley_server.core.errors import GatewayError
from tests.dialects.anthropic_wire import DIALECT, TARGET


def error_of(status: int, kind: str = "", message: str = "no", *, code: str = "", **headers: str) -> GatewayError:
    said: dict[str, Any] = {"type": kind, "message": message}
    if code:
        said["details"] = {"error_code": code}
    body = {"type": "error", "error": said, "request_id": "req_1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return DIALECT.error(status, named, json.dumps(body).encode(), TARGET)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", errors.InvalidRequest),
        (401, "authentication_error", errors.CredentialsRejected),
        (402, "billing_error", errors.QuotaExhausted),
        (403, "permission_error", errors.CredentialsRejected),
        (404, "not_found_error", errors.ModelNotFound),
        (409, "conflict_error", errors.InvalidRequest),
        (413, "request_too_large", errors.RequestTooLarge),
        (429, "rate_limit_error", errors.RateLimited),
        (500, "api_error", errors.Unavailable),
        (504, "timeout_error", errors.AttemptTimeout),
        (529, "overloaded_error", errors.Overloaded),
        (400, "not_yet_invented", errors.InvalidRequest),
        (500, "not_yet_invented", errors.Unavailable),
        (503, "", errors.Overloaded),
    ],
)
def test_classes(status: int, kind: str, expected: type[GatewayError]) -> None:
    found = error_of(status, kind)
    assert type(found) is expected
    assert found.provider_error is not None
    said = found.provider_error
    assert (said.http_status, said.type, said.message, said.request_id) == (status, kind, "no", "req_1")
    assert (said.provider, said.model) == (TARGET.provider, TARGET.model)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("enforced_spend_limit_reached", errors.QuotaExhausted),
        ("contract_spend_limit_reached", errors.QuotaExhausted),
        ("linked_organization_spend_limit_reached", errors.QuotaExhausted),
        ("ramp_limit_exceeded", errors.RateLimited),
        ("not_yet_invented", errors.RateLimited),
    ],
)
def test_the_code_says_more_than_the_type(code: str, expected: type[GatewayError]) -> None:
    found = error_of(429, "rate_limit_error", code=code)
    assert type(found) is expected
    assert found.provider_error is not None
    assert found.provider_error.code == code


@pytest.mark.parametrize(
    ("words", "requested", "limit"),
    [
        ("prompt is too long: 3333404 tokens > 200000 maximum", "3333404", "200000"),
        ("input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000, decrease …", "207192", "200000"),
    ],
)
def test_too_long_a_prompt_says_by_how_much(words: str, requested: str, limit: str) -> None:
    found = error_of(400, "invalid_request_error", words)
    assert type(found) is errors.ContextLengthExceeded
    assert found.facts == {"requestedTokens": requested, "limitTokens": limit}
    assert [violation.field for violation in found.violations] == ["messages"]


@pytest.mark.parametrize(
    "words",
    [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ],
)
def test_an_empty_account_is_not_the_callers_fault(words: str) -> None:
    assert type(error_of(400, "invalid_request_error", words)) is errors.QuotaExhausted


def test_when_to_come_back() -> None:
    assert error_of(429, "rate_limit_error", retry_after="36").retry_after == 36
    assert error_of(429, "rate_limit_error").retry_after is None
    assert error_of(400, "invalid_request_error", retry_after="36").retry_after is None, "waiting does not help"


def test_when_to_come_back_by_the_limits_that_have_nothing_left() -> None:
    headers = {
        "date": "Fri, 20 Nov 2026 12:00:00 GMT",
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-requests-reset": "2026-11-20T13:00:00Z",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2026-11-20T12:00:07Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-20T12:00:30+00:00",
    }
    assert DIALECT.error(429, headers, b"", TARGET).retry_after == 30
    assert DIALECT.error(429, {**headers, "date": "?"}, b"", TARGET).retry_after is None
    assert DIALECT.error(429, {**headers, "date": "Fri, 20 Nov 2026 13:00:00 GMT"}, b"", TARGET).retry_after == 0


def test_the_provider_knows_whether_to_try_again() -> None:
    assert error_of(409, "conflict_error", x_should_retry="true").retryable
    assert not error_of(529, "overloaded_error", x_should_retry="false").retryable
    assert error_of(529, "overloaded_error").retryable


def test_the_message_is_ours_and_keys_are_not_repeated() -> None:
    found = error_of(401, "authentication_error", "invalid x-api-key: sk-ant-REDACTED")
    assert "sk-ant" not in found.message
    assert found.provider_error is not None
    assert "sk-ant" not in found.provider_error.message


BODIES = ["", "<html>413</html>", "null", "[]", '"x"', '{"error": null}', '{"error": {"type": 5, "details": []}}', "{"]


@pytest.mark.parametrize("body", BODIES)
def test_a_proxy_in_front_answers_in_other_words(body: str) -> None:
    found = DIALECT.error(413, {}, body.encode(), TARGET)
    assert type(found) is errors.RequestTooLarge


@given(
    st.integers(400, 599),
    st.dictionaries(st.sampled_from(["retry-after", "date", "x-should-retry"]), st.text()),
    st.binary(),
)
def test_never_raises(status: int, headers: dict[str, str], body: bytes) -> None:
    assert isinstance(DIALECT.error(status, headers, body, TARGET), GatewayError)
