"""What AWS says when it does not answer: by exception, then by status, then by words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley_server.core import errors
from tests.dialects.bedrock_wire import CLAUDE, DIALECT


def said(status: int, body: Any, **headers: str) -> errors.GatewayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.error(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, CLAUDE)


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (403, "AccessDeniedException", errors.CredentialsRejected),
        (403, "UnrecognizedClientException", errors.CredentialsRejected),
        (403, "ExpiredTokenException", errors.CredentialsRejected),
        (403, "InvalidSignatureException", errors.CredentialsRejected),
        (400, "ValidationException", errors.InvalidRequest),
        (404, "ResourceNotFoundException", errors.ModelNotFound),
        (429, "ThrottlingException", errors.RateLimited),
        (400, "ThrottlingException", errors.RateLimited),
        (400, "ServiceQuotaExceededException", errors.QuotaExhausted),
        (429, "ModelNotReadyException", errors.Unavailable),
        (408, "ModelTimeoutException", errors.AttemptTimeout),
        (424, "ModelErrorException", errors.Unavailable),
        (500, "InternalServerException", errors.Unavailable),
        (503, "ServiceUnavailableException", errors.Overloaded),
        (400, "ValidationError", errors.InvalidRequest),
        (530, "InternalDependencyException", errors.Unavailable),
        (400, "SomethingNew", errors.InvalidRequest),
        (413, "", errors.RequestTooLarge),
        (401, "", errors.CredentialsRejected),
        (404, "", errors.ModelNotFound),
        (504, "", errors.AttemptTimeout),
        (502, "", errors.Unavailable),
    ],
)
def test_exceptions_by_header_or_body(status: int, name: str, expected: type[errors.GatewayError]) -> None:
    by_header = said(status, {"message": "words"}, x_amzn_errortype=f"{name}:http://internal.amazon.com/")
    by_body = said(status, {"__type": f"com.amazon.coral.service#{name}", "Message": "words"})
    for found in (by_header, by_body):
        assert type(found) is expected
        assert found.provider_error is not None
        assert (found.provider_error.type, found.provider_error.message) == (name, "words")
        assert found.provider_error.http_status == status


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Input is too long for requested model.", errors.ContextLengthExceeded),
        ("prompt is too long: 207000 tokens > 200000 maximum", errors.ContextLengthExceeded),
        ("This model's maximum context length is 8192 tokens", errors.ContextLengthExceeded),
        ("The provided model identifier is invalid.", errors.ModelNotFound),
        ("Malformed input request", errors.InvalidRequest),
    ],
)
def test_words_tell_apart_what_has_one_name(words: str, expected: type[errors.GatewayError]) -> None:
    found = said(400, {"message": words}, x_amzn_errortype="ValidationException")
    assert type(found) is expected


def test_models_pass_on_what_they_said() -> None:
    fields = {"message": "failed", "originalStatusCode": 429, "originalMessage": "slow down"}
    found = said(424, fields, x_amzn_errortype="ModelErrorException")
    assert type(found) is errors.RateLimited
    assert found.provider_error is not None
    assert found.provider_error.message == "slow down"


def test_what_else_is_kept() -> None:
    found = said(
        429, {"message": "slow"}, x_amzn_errortype="ThrottlingException", x_amzn_requestid="id-1", retry_after="7"
    )
    assert found.retry_after == 7.0
    assert found.provider_error is not None
    assert found.provider_error.request_id == "id-1"
    assert found.provider_error.provider == "bedrock"
    assert said(400, {"message": "no"}, retry_after="7").retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b'{"message": 1}', b"\xff\xfe"])
def test_bodies_of_any_kind_are_survived(body: bytes) -> None:
    assert type(said(503, body)) is errors.Overloaded
