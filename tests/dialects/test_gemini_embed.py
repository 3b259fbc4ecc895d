"""Embeddings of the Gemini API and of Google Cloud."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import Overloaded, ProtocolError, RateLimited, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.gemini import GeminiEmbed, VertexEmbed

GEMINI, VERTEX = GeminiEmbed(), VertexEmbed()
TARGET = Target("gemini", "gemini-embedding-001")
FLOATS, PACKED = v1.EMBEDDING_ENCODING_FLOAT, v1.EMBEDDING_ENCODING_FLOAT32_BYTES


def asked(*texts: str, **fields: Any) -> v1.EmbedRequest:
    """A request to embed some texts."""
    return v1.EmbedRequest(inputs=[v1.EmbedInput(text=text) for text in texts], **fields)


def sent(dialect: GeminiEmbed | VertexEmbed, target: Target, request: v1.EmbedRequest) -> tuple[str, Any]:
    """Path and body of the call."""
    call = dialect.encode(request, target)
    return call.path, json.loads(call.body)


def one(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}, **fields}


def test_one_input_goes_alone_and_several_together() -> None:
    assert sent(GEMINI, TARGET, asked("a")) == ("/models/gemini-embedding-001:embedContent", one("a"))
    path, body = sent(GEMINI, TARGET, asked("a", "b", dimensions=768))
    assert path == "/models/gemini-embedding-001:batchEmbedContents"
    assert body == {"requests": [one("a", outputDimensionality=768), one("b", outputDimensionality=768)]}
    assert GEMINI.batch_limit(TARGET) == 100


def test_options_go_into_every_request() -> None:
    options = {"gemini": '{"taskType":"RETRIEVAL_QUERY","model":"x","content":null}'}
    _, body = sent(GEMINI, TARGET, asked("a", "b", provider_options_json=options))
    assert body == {"requests": [one("a", taskType="RETRIEVAL_QUERY"), one("b", taskType="RETRIEVAL_QUERY")]}


def test_predict_on_google_cloud() -> None:
    target = Target("vertex", "text-embedding-005")
    options = {"vertex": '{"task_type":"RETRIEVAL_QUERY","parameters":{"autoTruncate":false},"content":"x"}'}
    path, body = sent(VERTEX, target, asked("a", "b", dimensions=256, provider_options_json=options))
    assert path == "/publishers/google/models/text-embedding-005:predict"
    assert body == {
        "instances": [
            {"content": "a", "task_type": "RETRIEVAL_QUERY"},
            {"content": "b", "task_type": "RETRIEVAL_QUERY"},
        ],
        "parameters": {"outputDimensionality": 256, "autoTruncate": False},
    }
    assert sent(VERTEX, target, asked("a"))[1] == {"instances": [{"content": "a"}]}


def test_newer_models_on_google_cloud_embed_one_content() -> None:
    target = Target("vertex", "gemini-embedding-2")
    options = {"vertex": '{"embedContentConfig":{"autoTruncate":false}}'}
    path, body = sent(VERTEX, target, asked("a", dimensions=256, provider_options_json=options))
    assert path == "/publishers/google/models/gemini-embedding-2:embedContent"
    assert body == {
        "content": {"parts": [{"text": "a"}]},
        "embedContentConfig": {"outputDimensionality": 256, "autoTruncate": False},
    }


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("text-embedding-005", 250),
        ("text-multilingual-embedding-002", 250),
        ("gemini-embedding-001", 1),
        ("gemini-embedding-2", 1),
        ("publishers/intfloat/models/multilingual-e5-large-instruct-maas", 1),
    ],
)
def test_how_many_inputs_a_call_takes(model: str, limit: int) -> None:
    assert VERTEX.batch_limit(Target("vertex", model)) == limit


@pytest.mark.parametrize("dialect", [GEMINI, VERTEX])
def test_wishes_that_cannot_be_met(dialect: GeminiEmbed | VertexEmbed) -> None:
    request = asked("a", end_user_id="u", routing=v1.RoutingOptions(service_tier="flex"))
    fields = [warning.field for warning in dialect.encode(request, TARGET).warnings]
    assert fields == ["end_user_id", "routing.service_tier"]
    tokens = v1.EmbedRequest(inputs=[v1.EmbedInput(tokens=v1.TokenIds(ids=[1]))])
    with pytest.raises(UnsupportedParameter) as refused:
        dialect.encode(tokens, TARGET)
    assert refused.value.violations[0].field == "inputs[0].tokens"


PREDICTIONS = {
    "predictions": [
        {"embeddings": {"values": [1, 2.5], "statistics": {"token_count": 3, "truncated": False}}},
        {"embeddings": {"values": [0, -1], "statistics": {"token_count": 4.0}}},
    ]
}


@pytest.mark.parametrize(
    ("answer", "vectors", "count"),
    [
        ({"embedding": {"values": [1, 2.5]}}, [[1, 2.5]], None),
        ({"embeddings": [{"values": [1, 2.5]}, {"values": [0, -1]}]}, [[1, 2.5], [0, -1]], None),
        ({"embedding": {"values": [1, 2.5]}, "usageMetadata": {"promptTokenCount": 4}}, [[1, 2.5]], 4),
        (PREDICTIONS, [[1, 2.5], [0, -1]], 7),
    ],
)
def test_vectors(answer: dict[str, Any], vectors: list[list[float]], count: int | None) -> None:
    body = json.dumps(answer).encode()
    floats, packed = GEMINI.decode(body, TARGET, FLOATS), VERTEX.decode(body, TARGET, PACKED)
    assert [list(one.floats.values) for one in floats.embeddings] == vectors
    assert [list(struct.unpack(f"<{one.dimensions}f", one.packed)) for one in packed.embeddings] == vectors
    assert [(one.index, one.dimensions) for one in floats.embeddings] == [(n, 2) for n in range(len(vectors))]
    assert floats.usage.HasField("input_tokens") == (count is not None)
    assert floats.usage.input_tokens == (count or 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"embedding":{}}', b'{"embeddings":[{"values":[]}]}', b'{"predictions":[{"embeddings":[]}]}'],
)
def test_what_is_no_embedding(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        GEMINI.decode(body, TARGET, FLOATS)


def test_errors() -> None:
    body = b'{"error":{"code":503,"status":"UNAVAILABLE","message":"x"}}'
    with pytest.raises(Overloaded):
        GEMINI.decode(body, TARGET, FLOATS)
    for dialect in (GEMINI, VERTEX):
        assert type(dialect.error(429, {}, b"", TARGET)) is RateLimited
