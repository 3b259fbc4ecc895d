"""What the errors of Ollama mean."""

from __future__ import annotations

import json

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
    OperationUnsupported,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
)
from tests.dialects.ollama_wire import DIALECT, TARGET


def error(status: int, words: str, **headers: str) -> GatewayError:
    return DIALECT.error(status, headers, json.dumps({"error": words}).encode(), TARGET)


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "invalid character 'x' looking for beginning of value", InvalidRequest),
        (400, "the input length exceeds the context length", ContextLengthExceeded),
        (400, "the prompt is longer than the context length currently available", ContextLengthExceeded),
        (400, "prompt (9001 tokens) exceeds the available context size (4096 tokens)", ContextLengthExceeded),
        (400, '"llama3:latest" does not support thinking', UnsupportedParameter),
        (400, 'think value "max" is not supported for this model', UnsupportedParameter),
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", UnsupportedParameter),
        (400, "this model is missing data required for image input", UnsupportedParameter),
        (400, '"nomic-embed-text" does not support chat', OperationUnsupported),
        (500, "this model does not support embeddings", OperationUnsupported),
        (401, "unauthorized", CredentialsRejected),
        (403, "ollama cloud is disabled", CredentialsRejected),
        (404, "model 'qwen9' not found", ModelNotFound),
        (404, 'model "qwen9" not found, try pulling it first', ModelNotFound),
        (408, "timeout", AttemptTimeout),
        (413, "http: request body too large", RequestTooLarge),
        (422, "cannot", InvalidRequest),
        (429, "too many concurrent requests", RateLimited),
        (429, "you have reached your weekly usage limit, upgrade for higher limits", QuotaExhausted),
        (499, "request canceled", Unavailable),
        (500, "llama runner process has terminated: exit status 2", Unavailable),
        (502, "upstream unreachable", Unavailable),
        (503, "server busy, please try again.  maximum pending requests exceeded", Overloaded),
        (504, "gateway timeout", AttemptTimeout),
    ],
)
def test_table(status: int, words: str, kind: type[GatewayError]) -> None:
    found = error(status, words)
    assert type(found) is kind
    said = found.provider_error
    assert said is not None
    assert (said.provider, said.model, said.http_status, said.message) == (
        "ollama",
        "qwen3:4b",
        status,
        " ".join(words.split()),
    )


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("the input length exceeds the context length", "messages"),
        ("x does not support thinking", "reasoning"),
        ("x does not support tools", "tools"),
    ],
)
def test_the_field_at_fault_is_named(words: str, field: str) -> None:
    assert [violation.field for violation in error(400, words).violations] == [field]


def test_a_model_that_does_not_fit_into_memory_will_not_fit_in_a_moment() -> None:
    found = error(500, "model requires more system memory (5.6 GiB) than is available (3.1 GiB)")
    assert type(found) is Unavailable
    assert not found.retryable
    assert found.falls_back


def test_retry_after_is_read_where_trying_again_makes_sense() -> None:
    assert error(503, "server busy", **{"retry-after": "7"}).retry_after == 7
    assert error(400, "bad", **{"retry-after": "7"}).retry_after is None


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"404 page not found", OperationUnsupported),
        (502, b"<html>Bad Gateway</html>", Unavailable),
        (503, b"", Overloaded),
        (500, b'{"error":{"message":"model \'x\' not found","type":"api_error"}}', ModelNotFound),
        (400, b"[1,2]", InvalidRequest),
        (500, b'{"error":null}', Unavailable),
    ],
)
def test_other_bodies(status: int, body: bytes, kind: type[GatewayError]) -> None:
    assert type(DIALECT.error(status, {}, body, TARGET)) is kind


def test_credentials_in_the_words_are_hidden() -> None:
    found = error(401, "invalid key Bearer sk-abcdefghijklmnopqrstuvwxyz0123456789")
    assert found.provider_error is not None
    assert "abcdefghij" not in f"{found!r} {found.provider_error} {found.facts}"


@given(st.integers(400, 599), st.binary(max_size=80), st.sampled_from(["", "7", "soon", "\x00"]))
def test_never_raises(status: int, body: bytes, stated: str) -> None:
    assert isinstance(DIALECT.error(status, {"retry-after": stated}, body, TARGET), GatewayError)
