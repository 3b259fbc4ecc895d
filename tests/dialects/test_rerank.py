"""Reranking by `POST /rerank`, as most servers have it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import (
    GatewayError,
    OperationUnsupported,
    ProtocolError,
    RateLimited,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.rerank import Rerank, RerankQuirks

TARGET = Target("lab", "reranker-1")


def asked(**fields: Any) -> v1.RerankRequest:
    return v1.RerankRequest(query="what is a panda?", documents=["a bear", "a car"], **fields)


def body(request: v1.RerankRequest, quirks: RerankQuirks | None = None) -> Any:
    return json.loads(Rerank(quirks).encode(request, TARGET).body)


def decoded(answer: Any) -> v1.RerankResponse:
    return Rerank().decode(json.dumps(answer).encode(), TARGET)


def ranking(response: v1.RerankResponse) -> list[tuple[int, float]]:
    return [(result.index, result.score) for result in response.results]


def test_request() -> None:
    call = Rerank().encode(asked(top_n=1), TARGET)
    assert (call.path, call.method, call.warnings) == ("/rerank", "POST", ())
    assert json.loads(call.body) == {
        "model": "reranker-1",
        "query": "what is a panda?",
        "documents": ["a bear", "a car"],
        "top_n": 1,
    }


@pytest.mark.parametrize(
    ("quirks", "more"),
    [
        (RerankQuirks(), {"top_n": 2}),
        (RerankQuirks.together(), {"top_n": 2}),
        (RerankQuirks.jina(), {"top_n": 2, "return_documents": False}),
        (RerankQuirks.voyage(), {"top_k": 2}),
        (RerankQuirks.litellm(), {"top_n": 2, "max_tokens_per_doc": 512, "return_documents": False}),
        (RerankQuirks(top_field=""), {}),
    ],
)
def test_fields_of_different_servers(quirks: RerankQuirks, more: dict[str, Any]) -> None:
    said = body(asked(top_n=2, max_tokens_per_document=512), quirks)
    assert {name: said[name] for name in said if name not in ("model", "query", "documents")} == more


def test_a_limit_to_documents_that_cannot_be_set_is_said_aloud() -> None:
    (warning,) = Rerank().encode(asked(max_tokens_per_document=9), TARGET).warnings
    assert (warning.code, warning.field) == ("UNSUPPORTED_PARAMETER", "max_tokens_per_document")
    with pytest.raises(UnsupportedParameter):
        Rerank().encode(asked(max_tokens_per_document=9, unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR), TARGET)


def test_options_are_merged_but_not_over_what_is_ranked() -> None:
    options = {"lab": json.dumps({"truncation": False, "query": "mine", "documents": [], "model": "m"})}
    said = body(asked(provider_options_json=options))
    assert said["truncation"] is False
    assert (said["query"], said["model"], len(said["documents"])) == ("what is a panda?", "reranker-1", 2)


def test_path_of_another_server() -> None:
    assert Rerank(path="/v2/rerank").encode(asked(), TARGET).path == "/v2/rerank"


@pytest.mark.parametrize("listed", ["results", "data"])
@pytest.mark.parametrize("scored", ["relevance_score", "score"])
def test_answers_of_different_servers(listed: str, scored: str) -> None:
    rows = [{"index": 0, scored: -4.5, "document": {"text": "a bear"}}, {"index": 1, scored: 0.25}]
    response = decoded({"id": "r-1", "model": "reranker-1b", listed: rows})
    assert ranking(response) == [(1, 0.25), (0, -4.5)]
    assert (response.route.model, response.route.provider_response_id) == ("reranker-1b", "r-1")
    assert not response.HasField("usage")


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ({"usage": {"prompt_tokens": 55, "total_tokens": 55}}, 55),
        ({"usage": {"total_tokens": 12}}, 12),
        ({"usage": {"total_tokens": 17, "cost": 3.4e-7}}, 17),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}}, 9),
        ({"meta": {"tokens": {"input_tokens": 40}}}, 40),
        ({"meta": {"billed_units": {"total_tokens": 41, "search_units": 1}}}, 41),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({"usage": {"search_units": 1}}, None),
        ({"usage": None, "meta": None}, None),
        ({"usage": {"total_tokens": "many"}}, None),
    ],
)
def test_usage(told: dict[str, Any], tokens: int | None) -> None:
    usage = decoded({"results": [], **told}).usage
    if tokens is None:
        assert usage == v1.Usage()
    else:
        source = v1.Usage.SOURCE_PROVIDER
        assert usage == v1.Usage(source=source, input_tokens=tokens, total_tokens=tokens)


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=20), st.randoms())
def test_results_are_best_first(scores: list[float], chance: Any) -> None:
    rows = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    chance.shuffle(rows)
    finite = [row for row in rows if abs(row["relevance_score"]) < 1e30]
    found = ranking(decoded({"results": finite}))
    assert [score for _, score in found] == sorted((row["relevance_score"] for row in finite), reverse=True)
    assert {index for index, _ in found} == {row["index"] for row in finite}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"results": None},
        {"results": [{"relevance_score": 1}]},
        {"results": [{"index": 0}]},
        {"results": [{"index": 0, "relevance_score": None}]},
        {"results": [{"index": "0", "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": "high"}]},
        {"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]},
        {"results": 7},
        {"results": [7]},
    ],
)
def test_what_is_no_ranking(answer: Any) -> None:
    with pytest.raises(ProtocolError):
        decoded(answer)


def test_an_error_inside_a_200() -> None:
    with pytest.raises(RateLimited):
        decoded({"error": {"code": 429, "message": "slow down"}})


def test_errors() -> None:
    def said(status: int, answer: Any) -> GatewayError:
        return Rerank().error(status, {"retry-after": "3"}, json.dumps(answer).encode(), TARGET)

    limited = said(429, {"detail": "too fast"})
    assert (type(limited), limited.retry_after) == (RateLimited, 3)
    without = said(
        501, {"error": {"code": 501, "message": "Start it with `--reranking`", "type": "not_supported_error"}}
    )
    assert type(without) is OperationUnsupported
    assert without.provider_error is not None
    assert (without.provider_error.http_status, without.provider_error.type) == (501, "not_supported_error")
