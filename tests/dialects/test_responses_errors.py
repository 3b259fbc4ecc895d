"""What refusals of the Responses API mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.dialects.responses_wire import OPENAI, created, delta, ended, event, events, response

XAI = Target("xai", "grok-4.5")


def refused(status: int, body: Any, target: Target = OPENAI) -> GatewayError:
    return OpenAIResponses().error(status, {}, json.dumps(body).encode(), target)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, ContextLengthExceeded),
        (400, {"code": "model_not_found", "type": "invalid_request_error", "param": "model"}, ModelNotFound),
        (400, {"code": "invalid_prompt", "type": "invalid_request_error"}, PromptBlocked),
        (400, {"code": "unsupported_value", "type": "invalid_request_error"}, InvalidRequest),
        (400, {"code": "invalid_image_url", "type": "invalid_request_error"}, InvalidRequest),
        (401, {"code": "invalid_api_key", "type": "invalid_request_error"}, CredentialsRejected),
        (403, {"code": "data_residency_mismatch"}, CredentialsRejected),
        (429, {"code": "rate_limit_exceeded"}, RateLimited),
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, QuotaExhausted),
        (503, {"code": "server_is_overloaded"}, Overloaded),
        (500, {"code": "server_error"}, Unavailable),
    ],
)
def test_openai(status: int, error: dict[str, Any], expected: type[GatewayError]) -> None:
    found = refused(status, {"error": {"message": "words", **error}})
    assert type(found) is expected
    assert found.provider_error is not None
    assert (found.provider_error.message, found.provider_error.code) == ("words", error.get("code", ""))


@pytest.mark.parametrize(
    ("param", "field"),
    [
        ("reasoning.effort", "reasoning.effort"),
        ("max_output_tokens", "sampling.max_output_tokens"),
        ("text.format", "output"),
        ("text.format.schema", "output.json_schema.json_schema"),
    ],
)
def test_the_field_at_fault(param: str, field: str) -> None:
    error = refused(400, {"error": {"message": "m", "code": "unsupported_value", "param": param}})
    assert [violation.field for violation in error.violations] == [field]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"code": "invalid-argument", "error": "Incorrect API key provided."}, CredentialsRejected),
        (400, {"code": "invalid-argument", "error": "Model not found: grok-none"}, ModelNotFound),
        (400, {"code": "invalid-argument", "error": "Bad schema"}, InvalidRequest),
        (429, {"code": "resource-exhausted", "error": "Too many requests"}, RateLimited),
    ],
)
def test_flat_bodies_of_xai(status: int, body: dict[str, Any], expected: type[GatewayError]) -> None:
    found = refused(status, body, XAI)
    assert type(found) is expected
    assert found.provider_error is not None
    assert (found.provider_error.message, found.provider_error.code) == (body["error"], body["code"])


def test_when_to_come_back() -> None:
    headers = {"retry-after-ms": "1500", "x-request-id": "r"}
    error = OpenAIResponses().error(429, headers, b'{"error":{"code":"rate_limit_exceeded"}}', OPENAI)
    assert error.retry_after == 1.5
    assert error.provider_error is not None
    assert error.provider_error.request_id == "r"


# ------------------------------------------------------------------------------------------------------ inside a stream


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (event("error", code="rate_limit_exceeded", message="m", param=None), RateLimited),
        (
            event("error", error={"type": "invalid_request_error", "code": "context_length_exceeded"}),
            ContextLengthExceeded,
        ),
        (event("error", error={"type": "insufficient_quota", "message": "m"}), QuotaExhausted),
        (event("error", code=None, message="m"), Unavailable),
        (b'{"error":{"code":502,"message":"m"}}', Unavailable),
        (ended(response(status="failed", error={"code": "server_error", "message": "m"})), Unavailable),
        (ended(response(status="failed", error={"code": "invalid_prompt", "message": "m"})), PromptBlocked),
        (ended(response(status="failed", error={"code": "image_too_small", "message": "m"})), InvalidRequest),
        (ended(response(status="failed")), Unavailable),
    ],
)
@pytest.mark.parametrize("before", [[], [created()], [created(), delta("Hel")]])
def test_errors(before: list[bytes], frame: bytes, expected: type[GatewayError]) -> None:
    with pytest.raises(expected) as failure:
        events([*before, frame])
    assert type(failure.value) is expected
    assert failure.value.provider_error is not None
    assert failure.value.provider_error.http_status in (200, 0)


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b'"x"',
        b"3",
        event("response.output_text.delta", delta=3, output_index=0),
        event("response.output_text.delta", delta="x"),
        event("response.output_item.done", output_index=0, item={}),
        event("response.output_item.added", output_index=0),
        event("response.completed"),
    ],
)
def test_nonsense(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        events([created(), frame], quirks=ResponsesQuirks.compatible())
