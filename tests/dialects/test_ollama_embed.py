"""Embeddings of Ollama."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import ModelNotFound, ProtocolError, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaEmbed

DIALECT = OllamaEmbed()
TARGET = Target("ollama", "all-minilm")
FLOAT, PACKED = v1.EMBEDDING_ENCODING_FLOAT, v1.EMBEDDING_ENCODING_FLOAT32_BYTES


def asked(*texts: str, **fields: Any) -> v1.EmbedRequest:
    return v1.EmbedRequest(inputs=[v1.EmbedInput(text=text) for text in texts], **fields)


def answer(rows: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "all-minilm", "embeddings": rows, "total_duration": 1, **fields}).encode()


def test_request() -> None:
    request = asked("a", "b", dimensions=64, provider_options_json={"ollama": '{"truncate":false,"input":"x"}'})
    call = DIALECT.encode(request, TARGET)
    assert (call.method, call.path, call.warnings) == ("POST", "/api/embed", ())
    assert json.loads(call.body) == {"model": "all-minilm", "input": ["a", "b"], "dimensions": 64, "truncate": False}


def test_wishes_that_are_left_out() -> None:
    call = DIALECT.encode(asked("a", end_user_id="u", routing=v1.RoutingOptions(service_tier="flex")), TARGET)
    assert {warning.field for warning in call.warnings} == {"end_user_id", "routing.service_tier"}


def test_tokens_are_refused_since_no_input_can_be_left_out() -> None:
    request = asked("a")
    request.inputs.add(tokens=v1.TokenIds(ids=[1, 2]))
    with pytest.raises(UnsupportedParameter) as refused:
        DIALECT.encode(request, TARGET)
    assert [violation.field for violation in refused.value.violations] == ["inputs[1].tokens"]


@pytest.mark.parametrize("encoding", [FLOAT, PACKED, v1.EMBEDDING_ENCODING_UNSPECIFIED])
def test_vectors_in_the_asked_encoding(encoding: v1.EmbeddingEncoding.ValueType) -> None:
    rows = [[0.1, -0.25, 3.0], [1e-9, 0, -1]]
    response = DIALECT.decode(answer(rows, prompt_eval_count=9), TARGET, encoding)
    for index, (embedding, row) in enumerate(zip(response.embeddings, rows, strict=True)):
        assert (embedding.index, embedding.dimensions) == (index, 3)
        if encoding == PACKED:
            assert array("f", embedding.packed).tolist() == array("f", row).tolist()
        else:
            assert list(embedding.floats.values) == array("f", row).tolist()
    assert response.usage == v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=9, total_tokens=9)
    assert response.route.model == "all-minilm"


def test_without_counts_there_is_no_usage() -> None:
    assert not DIALECT.decode(answer([[1.0]]), TARGET, FLOAT).HasField("usage")


@pytest.mark.parametrize("rows", [None, [[]], [["a"]], [[None]], [7], "text", [{}]])
def test_nonsense(rows: Any) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decode(answer(rows), TARGET, FLOAT)


def test_errors() -> None:
    body = b'{"error":"model \'x\' not found"}'
    assert type(DIALECT.error(404, {}, body, TARGET)) is ModelNotFound
    with pytest.raises(ModelNotFound):
        DIALECT.decode(body, TARGET, FLOAT)
