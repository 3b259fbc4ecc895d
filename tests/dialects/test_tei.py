"""Text Embeddings Inference, in its native form."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.tei import TEIEmbed, TEIRerank

TARGET = Target("tei", "bge-small")
FLOATS, BYTES = v1.EMBEDDING_ENCODING_FLOAT, v1.EMBEDDING_ENCODING_FLOAT32_BYTES


def texts(*words: str) -> list[v1.EmbedInput]:
    return [v1.EmbedInput(text=word) for word in words]


def test_embedding_request() -> None:
    request = v1.EmbedRequest(
        inputs=texts("a", "b"),
        dimensions=8,
        provider_options_json={"tei": '{"normalize": false, "truncate": true, "inputs": []}'},
    )
    call = TEIEmbed().encode(request, TARGET)
    assert (call.path, call.warnings) == ("/embed", ())
    assert json.loads(call.body) == {"inputs": ["a", "b"], "dimensions": 8, "normalize": False, "truncate": True}


def test_tokens() -> None:
    tokens = [v1.EmbedInput(tokens=v1.TokenIds(ids=ids)) for ids in ([1, 2], [3])]
    assert json.loads(TEIEmbed().encode(v1.EmbedRequest(inputs=tokens), TARGET).body)["inputs"] == [[1, 2], [3]]
    with pytest.raises(UnsupportedParameter):
        TEIEmbed().encode(v1.EmbedRequest(inputs=[*tokens, *texts("a")]), TARGET)


def test_wishes_that_cannot_be_met() -> None:
    request = v1.EmbedRequest(inputs=texts("a"), end_user_id="u", routing=v1.RoutingOptions(service_tier="flex"))
    warnings = TEIEmbed().encode(request, TARGET).warnings
    assert [warning.field for warning in warnings] == ["end_user_id", "routing.service_tier"]


def test_batches_are_as_large_as_the_server_takes() -> None:
    assert TEIEmbed().batch_limit(TARGET) == 32
    assert TEIEmbed(batch_limit=256).batch_limit(TARGET) == 256


def test_vectors() -> None:
    answer = json.dumps([[0.5, -1.0], [0, 1]]).encode()
    floats = TEIEmbed().decode(answer, TARGET, FLOATS)
    assert [list(one.floats.values) for one in floats.embeddings] == [[0.5, -1.0], [0.0, 1.0]]
    assert [(one.index, one.dimensions) for one in floats.embeddings] == [(0, 2), (1, 2)]
    packed = TEIEmbed().decode(answer, TARGET, BYTES)
    assert [one.packed for one in packed.embeddings] == [struct.pack("<2f", 0.5, -1), struct.pack("<2f", 0, 1)]
    assert not packed.HasField("usage")


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'["a"]', b"[[null]]", b"[[[1]]]", b"<html>"])
def test_what_are_no_vectors(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        TEIEmbed().decode(answer, TARGET, FLOATS)


def test_reranking() -> None:
    request = v1.RerankRequest(query="q", documents=["a", "b"], top_n=1, max_tokens_per_document=9)
    call = TEIRerank().encode(request, TARGET)
    assert (call.path, json.loads(call.body)) == ("/rerank", {"query": "q", "texts": ["a", "b"]})
    assert [warning.field for warning in call.warnings] == ["max_tokens_per_document"]
    response = TEIRerank().decode(b'[{"index":0,"score":0.1},{"index":1,"score":0.9,"text":"b"}]', TARGET)
    assert [(result.index, round(result.score, 3)) for result in response.results] == [(1, 0.9), (0, 0.1)]


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b"[{}]", b'[{"index":0}]', b'[{"index":0,"score":"NaN"}]'])
def test_what_is_no_ranking(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        TEIRerank().decode(answer, TARGET)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (413, {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}, RequestTooLarge),
        (413, {"error": "`inputs` must have less than 512 tokens. Given: 600", "error_type": "Validation"}, None),
        (422, {"error": "`inputs` must have less than 512 tokens.", "error_type": "Tokenizer"}, ContextLengthExceeded),
        (422, {"error": "bad", "error_type": "Tokenizer"}, InvalidRequest),
        (400, {"error": "empty", "error_type": "Empty"}, InvalidRequest),
        (424, {"error": "inference failed", "error_type": "Backend"}, Unavailable),
        (429, {"error": "Model is overloaded", "error_type": "Overloaded"}, Overloaded),
        (429, {"message": "busy", "code": 429, "error_type": "overloaded"}, Overloaded),
        (503, {"error": "unhealthy", "error_type": "Unhealthy"}, Unavailable),
        (503, "<html>", Overloaded),
        (500, [], Unavailable),
    ],
)
def test_errors(status: int, body: Any, expected: type[GatewayError] | None) -> None:
    error = TEIEmbed().error(status, {"retry-after": "2"}, json.dumps(body).encode(), TARGET)
    assert type(error) is (expected or ContextLengthExceeded)
    assert error.provider_error is not None
    assert error.provider_error.http_status == status
    assert error.retry_after == (2 if error.retryable else None)
