"""Embeddings, ranking, models and refusals of watsonx.ai."""

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
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.watsonx import Scope, WatsonxEmbed, WatsonxModels, WatsonxRerank

SCOPE = Scope("2024-10-08", project_id="p-1")
TARGET, DEPLOYED = Target("watsonx", "ibm/slate"), Target("watsonx", "deployment/d-1")
EMBED, RERANK, MODELS = WatsonxEmbed(SCOPE), WatsonxRerank(SCOPE), WatsonxModels(SCOPE)


class TestEmbeddings:
    def test_calls(self) -> None:
        request = v1.EmbedRequest(inputs=[v1.EmbedInput(text="a"), v1.EmbedInput(text="b")])
        request.provider_options_json["watsonx"] = '{"parameters":{"truncate_input_tokens":9},"inputs":[]}'
        call = EMBED.encode(request, TARGET)
        assert call.path == "/ml/v1/text/embeddings?version=2024-10-08"
        assert json.loads(call.body) == {
            "model_id": "ibm/slate",
            "project_id": "p-1",
            "inputs": ["a", "b"],
            "parameters": {"truncate_input_tokens": 9},
        }
        deployed = EMBED.encode(request, DEPLOYED)
        assert deployed.path == "/ml/v1/deployments/d-1/text/embeddings?version=2024-10-08"
        assert EMBED.batch_limit(TARGET) == 1000

    def test_wishes_that_cannot_be_met(self) -> None:
        request = v1.EmbedRequest(inputs=[v1.EmbedInput(text="a")], end_user_id="u", dimensions=5)
        request.routing.service_tier = "flex"
        fields = [warning.field for warning in EMBED.encode(request, TARGET).warnings]
        assert fields == ["dimensions", "end_user_id", "routing.service_tier"]
        request.inputs.add(tokens=v1.TokenIds(ids=[1]))
        with pytest.raises(UnsupportedParameter):
            EMBED.encode(request, TARGET)

    def test_answers(self) -> None:
        rows = [[1, 2.5], [0.1, 3]]
        said = {"model_id": "ibm/slate", "results": [{"embedding": row} for row in rows], "input_token_count": 4}
        body = json.dumps(said).encode()
        floats = EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT)
        packed = EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
        for index, row in enumerate(rows):
            assert array("f", floats.embeddings[index].floats.values) == array("f", row)
            assert array("f", packed.embeddings[index].packed) == array("f", row)
        assert floats.usage == v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=4, total_tokens=4)

    @pytest.mark.parametrize("body", [b"{}", b'{"results":[7]}', b'{"results":[{"embedding":[]}]}', b"x"])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            EMBED.decode(body, TARGET, v1.EMBEDDING_ENCODING_FLOAT)


class TestRanking:
    def test_calls(self) -> None:
        request = v1.RerankRequest(query="q", documents=["a", "b"], top_n=1, max_tokens_per_document=7)
        request.routing.service_tier = "flex"
        call = RERANK.encode(request, TARGET)
        assert call.path == "/ml/v1/text/rerank?version=2024-10-08"
        assert json.loads(call.body) == {
            "model_id": "ibm/slate",
            "project_id": "p-1",
            "query": "q",
            "inputs": [{"text": "a"}, {"text": "b"}],
            "parameters": {"return_options": {"top_n": 1}, "truncate_input_tokens": 7},
        }
        assert [warning.field for warning in call.warnings] == ["routing.service_tier"]
        plain = RERANK.encode(v1.RerankRequest(query="q", documents=["a"]), TARGET)
        assert "parameters" not in json.loads(plain.body)

    def test_answers_are_best_first(self) -> None:
        said = {"results": [{"index": 1, "score": -0.25}, {"index": 0, "score": 0.5}], "input_token_count": 7}
        response = RERANK.decode(json.dumps(said).encode(), TARGET)
        assert [(result.index, result.score) for result in response.results] == [(0, 0.5), (1, -0.25)]
        assert response.usage.input_tokens == 7

    @pytest.mark.parametrize("body", [b"{}", b'{"results":[{"index":0}]}', b'{"results":[7]}', b"x"])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            RERANK.decode(body, TARGET)


class TestModels:
    def test_pages(self) -> None:
        assert MODELS.encode().path == "/ml/v1/foundation_model_specs?version=2024-10-08&limit=200"
        assert MODELS.encode("a b").path.endswith("&limit=200&start=a+b")
        page = {"resources": [], "next": {"href": "https://x.example/ml/v1/foundation_model_specs?start=g%3D&limit=2"}}
        assert MODELS.decode(json.dumps(page).encode(), "watsonx") == ([], "g=")
        assert MODELS.decode(b'{"resources":[],"next":null}', "watsonx") == ([], "")

    def test_models(self) -> None:
        rows: list[dict[str, Any]] = [
            {
                "model_id": "meta/llama",
                "label": "llama",
                "functions": [{"id": "text_chat"}, {"id": "image_chat"}, {"id": "text_generation"}],
                "tasks": [{"id": "function_calling"}],
                "model_limits": {"max_sequence_length": 131072, "max_output_tokens": 8192},
                "lifecycle": [
                    {"id": "available", "start_date": "2024-09-25"},
                    {"id": "deprecated", "start_date": "2025-11-07", "current_state": True},
                    {"id": "withdrawn", "start_date": "2026-02-04"},
                ],
            },
            {
                "model_id": "ibm/slate",
                "functions": [{"id": "embedding"}],
                "model_limits": {"max_sequence_length": 512, "embedding_dimension": 768},
            },
            {"model_id": "x/ranker", "functions": [{"id": "rerank"}]},
            {"model_id": "ibm/ttm", "functions": [{"id": "time_series_forecast"}]},
        ]
        (chat, embed, rank), _ = MODELS.decode(json.dumps({"resources": rows}).encode(), "w")
        assert (chat.id, chat.display_name, list(chat.operations)) == ("w/meta/llama", "llama", ["chat"])
        assert list(chat.capabilities) == ["tools"]
        assert list(chat.input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_IMAGE]
        assert (chat.limits.context_tokens, chat.limits.max_output_tokens) == (131072, 8192)
        assert chat.state == v1.Model.STATE_DEPRECATED
        assert chat.deprecate_time.ToJsonString() == "2025-11-07T00:00:00Z"
        assert chat.shutdown_time.ToJsonString() == "2026-02-04T00:00:00Z"
        assert (embed.limits.embedding_dimensions, embed.limits.max_embed_inputs) == (768, 1000)
        assert (list(rank.operations), rank.state) == (["rerank"], v1.Model.STATE_ACTIVE)

    @pytest.mark.parametrize(
        "body",
        [
            b"x",
            b"{}",
            b'{"resources":[7]}',
            b'{"resources":[{}]}',
            b'{"resources":[{"model_id":"m","lifecycle":[{"id":"withdrawn","start_date":"soon"}]}]}',
        ],
    )
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            MODELS.decode(body, "watsonx")


REFUSALS: list[tuple[int, str, str, type[GatewayError]]] = [
    (400, "invalid_request_entity", "missing field", InvalidRequest),
    (
        400,
        "invalid_input_argument",
        "the number of input tokens 9 cannot exceed the tokens limit",
        ContextLengthExceeded,
    ),
    (400, "model_no_support_for_function", "no chat", OperationUnsupported),
    (401, "authentication_token_expired", "expired", CredentialsRejected),
    (401, "", "?", CredentialsRejected),
    (403, "authorization_rejected", "not your project", CredentialsRejected),
    (403, "token_quota_reached", "enough", QuotaExhausted),
    (404, "model_not_supported", "no such model", ModelNotFound),
    (404, "", "?", ModelNotFound),
    (413, "", "?", RequestTooLarge),
    (429, "rate_limit_reached_requests", "slower", RateLimited),
    (500, "downstream_request_failed", "?", Unavailable),
    (503, "", "?", Overloaded),
    (504, "", "?", AttemptTimeout),
    (520, "", "?", Unavailable),
]


class TestRefusals:
    @pytest.mark.parametrize(("status", "code", "words", "expected"), REFUSALS)
    def test_classes(self, status: int, code: str, words: str, expected: type[GatewayError]) -> None:
        said = {"errors": [{"code": code, "message": words}], "trace": "t-1", "status_code": status}
        for dialect in (EMBED, RERANK, MODELS):
            found = dialect.error(status, {"retry-after": "2"}, json.dumps(said).encode(), TARGET)
            assert type(found) is expected
            assert found.retry_after == (2 if found.retryable else None)
            kept = found.provider_error
            assert kept is not None
            assert (kept.code, kept.message, kept.request_id, kept.http_status) == (code, words, "t-1", status)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", ""),
            (b"<html>", ""),
            (b"plain", "plain"),
            (b'{"errors":[]}', '{"errors":[]}'),
            (b'{"errors":[7]}', '{"errors":[7]}'),
            (b'{"errorMessage":"no"}', "no"),
            (b'{"message":"no"}', "no"),
        ],
    )
    def test_what_is_said_may_be_anything(self, body: bytes, words: str) -> None:
        found = EMBED.error(502, {}, body, TARGET)
        assert type(found) is Unavailable
        assert found.provider_error is not None
        assert found.provider_error.message == words
