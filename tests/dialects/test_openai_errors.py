"""What a refusal of OpenAI, or of a server like it, means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from parley_server.dialects.openai_chat import OpenAIChat

TARGET = Target("openai", "gpt-4o")


def said(status: int, body: Any, **headers: str) -> GatewayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OpenAIChat().error(status, named, raw, TARGET)


def openai(code: str | None = None, type: str = "invalid_request_error", message: str = "m") -> Any:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, openai("unsupported_parameter"), InvalidRequest),
        (400, openai("context_length_exceeded"), ContextLengthExceeded),
        (400, openai("content_policy_violation"), PromptBlocked),
        (400, openai("string_above_max_length", message="string too long; context length"), InvalidRequest),
        (401, openai("invalid_api_key"), CredentialsRejected),
        (403, openai("unsupported_country_region_territory"), CredentialsRejected),
        (403, openai("model_not_found"), ModelNotFound),
        (404, openai("model_not_found"), ModelNotFound),
        (404, openai(None), ModelNotFound),
        (408, b"", AttemptTimeout),
        (413, b"", RequestTooLarge),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, InvalidRequest),
        (429, openai("rate_limit_exceeded", "requests"), RateLimited),
        (429, openai("insufficient_quota", "insufficient_quota"), QuotaExhausted),
        (429, openai(None, "insufficient_quota"), QuotaExhausted),
        (500, openai(None, "server_error"), Unavailable),
        (502, b"<html><body>Bad gateway</body></html>", Unavailable),
        (503, openai("server_is_overloaded", "service_unavailable_error"), Overloaded),
        (504, b"", AttemptTimeout),
        (529, b"", Overloaded),
    ],
)
def test_classes(status: int, body: Any, expected: type[GatewayError]) -> None:
    assert type(said(status, body)) is expected


@pytest.mark.parametrize(
    ("status", "body", "expected", "message"),
    [
        (402, {"error": "Insufficient credits"}, QuotaExhausted, "Insufficient credits"),
        (400, {"code": "x", "error": "Incorrect API key provided: xx"}, CredentialsRejected, None),
        (498, {"error": {"message": "m", "code": "capacity_exceeded"}}, Overloaded, "m"),
        (400, {"message": "m", "type": "invalid_request_error", "code": "wrong_api_format"}, InvalidRequest, "m"),
        (
            400,
            {"success": False, "errors": [{"code": 5007, "message": "no such model"}]},
            ModelNotFound,
            "no such model",
        ),
        (404, {"detail": "Not Found"}, ModelNotFound, "Not Found"),
        (400, [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], InvalidRequest, "m"),
        (400, {"error": ["m", "n"]}, InvalidRequest, "m"),
        (401, {"error": "Unauthorized"}, CredentialsRejected, "Unauthorized"),
        (500, b"upstream exploded", Unavailable, "upstream exploded"),
        (500, b'"words"', Unavailable, "words"),
        (500, b"null", Unavailable, ""),
        (403, {"error": {"code": 403, "message": "m", "metadata": {"flagged_input": "x"}}}, PromptBlocked, "m"),
        (
            400,
            {"error": {"code": 400, "message": "m", "metadata": {"error_type": "context_length_exceeded"}}},
            ContextLengthExceeded,
            "m",
        ),
        (429, {"error": {"message": "m", "type": "budget_exceeded", "code": "429"}}, QuotaExhausted, "m"),
    ],
)
def test_shapes_of_other_servers(status: int, body: Any, expected: type[GatewayError], message: str | None) -> None:
    error = said(status, body)
    assert type(error) is expected
    assert error.provider_error is not None
    assert message is None or error.provider_error.message == message


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (
            openai(
                "context_length_exceeded",
                message="maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            ),
            {"limitTokens": "8192", "requestedTokens": "9000"},
        ),
        (
            {
                "error": {
                    "code": 400,
                    "message": "request (4000 tokens) exceeds the available context size (512 tokens)",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 4000,
                    "n_ctx": 512,
                }
            },
            {"limitTokens": "512", "requestedTokens": "4000"},
        ),
        (
            openai(message="Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)"),
            {"limitTokens": "8192", "requestedTokens": "9000"},
        ),
        (
            openai(message="maximum context length is 100 tokens and your request has 200 input tokens"),
            {"limitTokens": "100"},
        ),
    ],
)
def test_prompt_that_does_not_fit(body: Any, facts: dict[str, str]) -> None:
    error = said(400, body)
    assert type(error) is ContextLengthExceeded
    assert error.facts == facts


def test_what_the_provider_said_is_kept_without_credentials() -> None:
    error = said(
        401, openai("invalid_api_key", message=f"Incorrect API key: sk-abcdef123456. {'x ' * 400}"), x_request_id="r1"
    )
    kept = error.provider_error
    assert kept is not None
    assert (kept.provider, kept.model, kept.http_status, kept.type, kept.code, kept.request_id) == (
        "openai",
        "gpt-4o",
        401,
        "invalid_request_error",
        "invalid_api_key",
        "r1",
    )
    assert "sk-abc" not in kept.message
    assert len(kept.message.encode()) <= 512
    assert error.message == "openai rejected the gateway's credentials"  # no words of others in ours


def test_field_at_fault_in_our_words() -> None:
    body = {
        "error": {"message": "m", "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}
    }
    error = said(400, body)
    assert error.violations == (Violation("sampling.temperature", "refused by the provider", "PROVIDER_REFUSED"),)
    assert error.facts["param"] == "temperature"


def test_waiting() -> None:
    assert said(429, openai("rate_limit_exceeded"), retry_after_ms="250").retry_after == 0.25
    assert said(503, b"", retry_after="3").retry_after == 3
    assert said(400, openai(), retry_after="3").retry_after is None
    assert said(429, openai("insufficient_quota"), retry_after="3").retry_after is None


def test_the_provider_has_the_last_word_on_retries() -> None:
    assert not said(500, b"", x_should_retry="false").retryable
    assert said(409, openai(), x_should_retry="true").retryable
    assert not said(409, openai()).retryable
    assert Unavailable("").retryable  # the class is untouched


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "message", "detail", "type", "code", "param", "metadata"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    st.integers(400, 599),
    st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date", "x-should-retry"]), st.text(max_size=9)),
)
def test_never_raises(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = OpenAIChat().error(status, headers, body, TARGET)
    assert error.provider_error is not None
    assert error.provider_error.http_status == status
