"""OpenAI's embeddings."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, RateLimited, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.openai_embed import EmbedQuirks, OpenAIEmbed

TARGET = Target("openai", "text-embedding-3-small")


def text_inputs(*words: str) -> list[v1.EmbedInput]:
    return [v1.EmbedInput(text=word) for word in words]


def body(request: v1.EmbedRequest, dialect: OpenAIEmbed | None = None) -> Any:
    return json.loads((dialect or OpenAIEmbed()).encode(request, TARGET).body)


def packed(*values: float) -> str:
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def answered(*rows: dict[str, Any], **rest: Any) -> bytes:
    return json.dumps({"object": "list", "data": rows, "model": "m", **rest}).encode()


def test_request() -> None:
    request = v1.EmbedRequest(inputs=text_inputs("a", "b"), dimensions=8, end_user_id="u")
    call = OpenAIEmbed().encode(request, TARGET)
    assert (call.path, call.warnings) == ("/embeddings", ())
    assert json.loads(call.body) == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
    }


def test_tokens() -> None:
    inputs = [v1.EmbedInput(tokens=v1.TokenIds(ids=ids)) for ids in ([1, 2], [3])]
    assert body(v1.EmbedRequest(inputs=inputs))["input"] == [[1, 2], [3]]
    with pytest.raises(UnsupportedParameter):
        body(v1.EmbedRequest(inputs=[*inputs, *text_inputs("a")]))


def test_servers_that_refuse_the_encoding_and_the_user() -> None:
    dialect = OpenAIEmbed(EmbedQuirks(batch_limit=10, encoding_format="", end_user_field=""))
    assert dialect.batch_limit(TARGET) == 10
    call = dialect.encode(v1.EmbedRequest(inputs=text_inputs("a"), end_user_id="u"), TARGET)
    assert json.loads(call.body) == {"model": "text-embedding-3-small", "input": ["a"]}
    assert [warning.field for warning in call.warnings] == ["end_user_id"]


def test_options_cannot_change_model_and_input() -> None:
    options = {"openai": '{"model":"x","input":[],"truncate":"END"}'}
    assert body(v1.EmbedRequest(inputs=text_inputs("a"), provider_options_json=options)) == {
        "model": "text-embedding-3-small",
        "input": ["a"],
        "encoding_format": "base64",
        "truncate": "END",
    }


@pytest.mark.parametrize("said", [[0.5, -1.0], packed(0.5, -1.0)])
def test_both_forms_come_out_in_both_encodings(said: Any) -> None:
    answer = answered({"index": 0, "embedding": said}, usage={"prompt_tokens": 4, "total_tokens": 4})
    floats = OpenAIEmbed().decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT)
    assert floats == v1.EmbedResponse(
        embeddings=[v1.Embedding(index=0, floats=v1.FloatVector(values=[0.5, -1.0]), dimensions=2)],
        usage=v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=4, total_tokens=4),
        route=v1.RouteInfo(model="m"),
    )
    raw = OpenAIEmbed().decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    assert raw.embeddings[0] == v1.Embedding(index=0, packed=struct.pack("<2f", 0.5, -1.0), dimensions=2)


def test_rows_are_put_in_order() -> None:
    answer = answered({"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0]})
    found = OpenAIEmbed().decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT).embeddings
    assert [(row.index, row.floats.values[0]) for row in found] == [(0, 0), (1, 1)]


def test_usage_that_is_not_reported_is_unset() -> None:
    response = OpenAIEmbed().decode(answered({"index": 0, "embedding": [0]}), TARGET, v1.EMBEDDING_ENCODING_FLOAT)
    assert not response.HasField("usage")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ProtocolError),
        (b"{}", ProtocolError),
        (b'{"data": 7}', ProtocolError),
        (answered({"index": 1, "embedding": [0]}), ProtocolError),
        (answered({"index": 0, "embedding": [0]}, {"index": 0, "embedding": [0]}), ProtocolError),
        (answered({"embedding": [0]}), ProtocolError),
        (answered({"index": 0}), ProtocolError),
        (answered({"index": 0, "embedding": []}), ProtocolError),
        (answered({"index": 0, "embedding": ["a"]}), ProtocolError),
        (answered({"index": 0, "embedding": "AAA="}), ProtocolError),
        (answered({"index": 0, "embedding": "%"}), ProtocolError),
        (b'{"error": {"message": "m", "code": 429}}', RateLimited),
    ],
)
def test_what_is_no_answer(answer: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        OpenAIEmbed().decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT)
    assert type(raised.value) is error


def test_errors_are_those_of_the_family() -> None:
    assert type(OpenAIEmbed().error(429, {}, b"{}", TARGET)) is RateLimited


# ------------------------------------------------------------------------------------------------------- other servers


@pytest.mark.parametrize(
    ("quirks", "limit", "said"),
    [
        (EmbedQuirks(), 2048, {"encoding_format": "base64", "dimensions": 8, "user": "u"}),
        (EmbedQuirks.plain(), None, {}),
        (EmbedQuirks.dashscope(), 10, {"dimensions": 8}),
        (EmbedQuirks.databricks(), 150, {}),
        (EmbedQuirks.mistral(), 32, {"encoding_format": "base64", "output_dimension": 8}),
        (EmbedQuirks.nim(), None, {"encoding_format": "base64", "dimensions": 8, "user": "u"}),
        (EmbedQuirks.perplexity(), 512, {"encoding_format": "base64_int8", "dimensions": 8}),
        (EmbedQuirks.voyage(), 1000, {"encoding_format": "base64", "output_dimension": 8}),
    ],
)
def test_requests_of_other_servers(quirks: EmbedQuirks, limit: int | None, said: dict[str, Any]) -> None:
    dialect = OpenAIEmbed(quirks)
    request = v1.EmbedRequest(inputs=text_inputs("a"), dimensions=8, end_user_id="u")
    call = dialect.encode(request, TARGET)
    assert dialect.batch_limit(TARGET) == limit
    assert json.loads(call.body) == {"model": TARGET.model, "input": ["a"], **said}
    sent = {"end_user_id" if name == "user" else "dimensions" for name in said if name != "encoding_format"}
    assert {warning.field for warning in call.warnings} == {"dimensions", "end_user_id"} - sent


def test_what_is_told_by_options_only() -> None:
    options = {"openai": json.dumps({"input_type": "query", "truncate": "END", "encoding_format": None})}
    said = body(v1.EmbedRequest(inputs=text_inputs("a"), provider_options_json=options), OpenAIEmbed(EmbedQuirks.nim()))
    assert said == {"model": TARGET.model, "input": ["a"], "input_type": "query", "truncate": "END"}


def test_servers_that_take_no_tokens() -> None:
    inputs = [v1.EmbedInput(tokens=v1.TokenIds(ids=[1, 2]))]
    with pytest.raises(UnsupportedParameter, match="not tokens"):
        OpenAIEmbed(EmbedQuirks.voyage()).encode(v1.EmbedRequest(inputs=inputs), TARGET)


def test_another_path() -> None:
    assert OpenAIEmbed(path="/embed").encode(v1.EmbedRequest(inputs=text_inputs("a")), TARGET).path == "/embed"


def test_whole_numbers_of_one_byte() -> None:
    dialect = OpenAIEmbed(EmbedQuirks.perplexity())
    answer = answered({"index": 0, "embedding": b64encode(struct.pack("<4b", -128, 0, 1, 127)).decode()})
    (found,) = dialect.decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT).embeddings
    assert (list(found.floats.values), found.dimensions) == ([-128, 0, 1, 127], 4)
    (raw,) = dialect.decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT32_BYTES).embeddings
    assert raw.packed == struct.pack("<4f", -128, 0, 1, 127)
    numbers = answered({"index": 0, "embedding": [0.5, 1.5]})
    (plain,) = dialect.decode(numbers, TARGET, v1.EMBEDDING_ENCODING_FLOAT).embeddings
    assert list(plain.floats.values) == [0.5, 1.5]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"total_tokens": 12}, 12), ({"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}, 3), (None, None)],
)
def test_usage_is_all_input(usage: dict[str, int] | None, tokens: int | None) -> None:
    answer = answered({"index": 0, "embedding": [1.0]}, usage=usage)
    response = OpenAIEmbed(EmbedQuirks.voyage()).decode(answer, TARGET, v1.EMBEDDING_ENCODING_FLOAT)
    if tokens is None:
        assert not response.HasField("usage")
    else:
        source = v1.Usage.SOURCE_PROVIDER
        assert response.usage == v1.Usage(source=source, input_tokens=tokens, total_tokens=tokens)
