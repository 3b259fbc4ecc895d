"""Embeddings, ranking, models and refusals of Cohere."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    OperationUnsupported,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.cohere import CohereEmbed, CohereModels, CohereRerank
from tests.dialects.cohere_wire import DIALECT

TARGET = Target("cohere", "embed-v4.0")
EMBED, RERANK, MODELS = CohereEmbed(), CohereRerank(), CohereModels()


class TestEmbeddings:
    def test_calls(self) -> None:
        inputs = [v1.EmbedInput(text="a"), v1.EmbedInput(text="b")]
        call = EMBED.encode(v1.EmbedRequest(inputs=inputs, dimensions=256), TARGET)
        assert (call.path, call.warnings) == ("/v2/embed", ())
        assert json.loads(call.body) == {
            "model": "embed-v4.0",
            "texts": ["a", "b"],
            "input_type": "search_document",
            "embedding_types": ["float"],
            "output_dimension": 256,
        }

    def test_what_the_vectors_are_for_can_be_said(self) -> None:
        options = {"cohere": '{"input_type":"search_query","truncate":"END","embedding_types":["int8"],"texts":[]}'}
        request = v1.EmbedRequest(inputs=[v1.EmbedInput(text="a")], provider_options_json=options)
        body = json.loads(EMBED.encode(request, TARGET).body)
        assert (body["input_type"], body["truncate"]) == ("search_query", "END")
        assert (body["embedding_types"], body["texts"]) == (["float"], ["a"])

    def test_wishes_that_cannot_be_met(self) -> None:
        request = v1.EmbedRequest(inputs=[v1.EmbedInput(text="a")], end_user_id="u")
        request.routing.service_tier = "flex"
        warnings = EMBED.encode(request, TARGET).warnings
        assert [warning.field for warning in warnings] == ["end_user_id", "routing.service_tier"]
        request.inputs.add(tokens=v1.TokenIds(ids=[1]))
        with pytest.raises(UnsupportedParameter) as caught:
            EMBED.encode(request, TARGET)
        assert caught.value.violations[0].field == "inputs[1].tokens"

    def test_answers(self) -> None:
        said = {
            "id": "e-1",
            "embeddings": {"float": [[1, 2.5], [0.1, 3]]},
            "meta": {"billed_units": {"input_tokens": 4.0}},
        }
        body = json.dumps(said).encode()
        floats = EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT)
        packed = EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
        for index, row in enumerate([[1, 2.5], [0.1, 3]]):
            assert array("f", floats.embeddings[index].floats.values) == array("f", row)
            assert array("f", packed.embeddings[index].packed) == array("f", row)
            assert (packed.embeddings[index].index, packed.embeddings[index].dimensions) == (index, 2)
        assert floats.usage == v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=4, total_tokens=4)
        assert floats.route.provider_response_id == "e-1"
        assert EMBED.batch_limit(TARGET) == 96

    def test_nothing_counted(self) -> None:
        assert not EMBED.decode(
            b'{"embeddings":{"float":[[1]]},"meta":null}', TARGET, v1.EMBEDDING_ENCODING_FLOAT
        ).HasField("usage")

    @pytest.mark.parametrize(
        "body",
        [b"{}", b'{"embeddings":[[1]]}', b'{"embeddings":{"int8":[[1]]}}', b'{"embeddings":{"float":[[]]}}', b"x"],
    )
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT)


class TestRanking:
    def test_calls(self) -> None:
        request = v1.RerankRequest(query="q", documents=["a", "b"], top_n=1, max_tokens_per_document=7)
        request.provider_options_json["cohere"] = '{"priority":3,"documents":[]}'
        call = RERANK.encode(request, Target("cohere", "rerank-v3.5"))
        assert call.path == "/v2/rerank"
        assert json.loads(call.body) == {
            "model": "rerank-v3.5",
            "query": "q",
            "documents": ["a", "b"],
            "top_n": 1,
            "max_tokens_per_doc": 7,
            "priority": 3,
        }

    def test_answers_are_best_first(self) -> None:
        said = {
            "id": "r-1",
            "results": [{"index": 1, "relevance_score": 0.25}, {"index": 0, "relevance_score": 0.5}],
            "meta": {"billed_units": {"search_units": 1.0}},
        }
        response = RERANK.decode(json.dumps(said).encode(), TARGET)
        assert [(result.index, result.score) for result in response.results] == [(0, 0.5), (1, 0.25)]
        assert dict(response.usage.server_tool_calls) == {"search": 1}

    @pytest.mark.parametrize("body", [b"{}", b'{"results":[{"index":0}]}', b'{"results":[7]}', b"x"])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            RERANK.decode(body, TARGET)


class TestModels:
    def test_pages(self) -> None:
        assert MODELS.encode().path == "/v1/models?page_size=1000"
        assert MODELS.encode("a b").path == "/v1/models?page_size=1000&page_token=a+b"
        assert MODELS.decode(b'{"models":[],"next_page_token":"t"}', "cohere") == ([], "t")

    def test_models(self) -> None:
        rows: list[dict[str, Any]] = [
            {
                "name": "command-a",
                "endpoints": ["chat", "generate"],
                "context_length": 288000.0,
                "features": ["tools", "json_schema", "vision", "reasoning", "safety_modes"],
            },
            {"name": "embed-v4.0", "endpoints": ["embed"], "context_length": 128000, "is_deprecated": True},
            {"name": "sorter", "endpoints": ["classify"]},
            {"name": "mystery"},
        ]
        models, cursor = MODELS.decode(json.dumps({"models": rows}).encode(), "co")
        assert cursor == ""
        chat, embed, mystery = models
        assert (chat.id, chat.provider_model) == ("co/command-a", "command-a")
        assert list(chat.operations) == ["chat"]
        assert list(chat.capabilities) == ["tools", "json-schema", "reasoning"]
        assert list(chat.input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_IMAGE]
        assert chat.limits.context_tokens == 288000
        assert (embed.state, embed.limits.max_embed_inputs) == (v1.Model.STATE_DEPRECATED, 96)
        assert mystery.operations == []

    @pytest.mark.parametrize("body", [b"{}", b'{"models":[7]}', b'{"models":[{"endpoints":["chat"]}]}', b"x"])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            MODELS.decode(body, "cohere")


REFUSALS: list[tuple[int, str, type[GatewayError]]] = [
    (400, "invalid request: stream must be a boolean", InvalidRequest),
    (400, "too many tokens: size limit exceeded by 9 tokens", ContextLengthExceeded),
    (422, "no valid tools", InvalidRequest),
    (401, "invalid api token", CredentialsRejected),
    (402, "billing limit reached", QuotaExhausted),
    (403, "not allowed", CredentialsRejected),
    (404, "model 'x' was removed", ModelNotFound),
    (429, "You are using a Trial key, which is limited to 20 API calls / minute", RateLimited),
    (429, "You are using a Trial key, which is limited to 1000 API calls / month", QuotaExhausted),
    (498, "blocked input", PromptBlocked),
    (498, "invalid token", CredentialsRejected),
    (499, "client closed request", Unavailable),
    (500, "internal server error", Unavailable),
    (501, "not implemented", OperationUnsupported),
    (503, "overloaded", Overloaded),
    (504, "timeout", AttemptTimeout),
]


class TestRefusals:
    @pytest.mark.parametrize(("status", "words", "expected"), REFUSALS)
    def test_classes(self, status: int, words: str, expected: type[GatewayError]) -> None:
        body = json.dumps({"id": "x-1", "message": words}).encode()
        for dialect in (DIALECT, EMBED, RERANK, MODELS):
            found = dialect.error(status, {"retry-after": "7"}, body, TARGET)
            assert type(found) is expected
            assert found.retry_after == (7 if found.retryable else None)
            said = found.provider_error
            assert said is not None
            assert (said.http_status, said.message, said.request_id) == (status, words, "x-1")

    @pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'{"message":7}', b'"x"', b"\xff"])
    def test_what_is_said_may_be_anything(self, body: bytes) -> None:
        assert type(DIALECT.error(502, {}, body, TARGET)) is Unavailable
