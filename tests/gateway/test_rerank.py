"""Rerank through the whole pipeline: answers, refusals, retries, fallbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

import parley
from parley import v1
from parley_server.transports.mock import read_captured
from tests.gateway.process import Gateway, config, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENTS = ["dogs bark", "a cat sleeps", "the cat sleeps well and long on its mat"]
MODELS: dict[str, Any] = {
    "flaky": {"errors": [{"status": 503}, {"status": 429, "retry_after": 0.01}]},
    "down": {"errors": [{"status": 503}], "repeat_errors": True},
    "slow": {"first_token_delay": 5},
    "cut": {"errors": [{"cut_after": 1}]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = config(providers={"mock": {"models": MODELS, "capture": str(folder / "sent.jsonl")}})
    async with gateway(settings, folder) as server:
        yield server


def ask(model: str = "mock/rerank", **fields: Any) -> v1.RerankRequest:
    return v1.RerankRequest(**{"model": model, "query": "where a cat sleeps", "documents": DOCUMENTS, **fields})


async def refused(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any], list[str]]:
    """Code, reason, trailers, paths of the fields at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata())
    info, bad = details.ErrorInfo(), details.BadRequest()
    for detail in Status.FromString(trailers["grpc-status-details-bin"]).details:
        assert detail.Unpack(info) or detail.Unpack(bad) or detail.type_url
    return caught.value.code(), info.reason, trailers, [violation.field for violation in bad.field_violations]


async def test_documents_come_back_ranked_with_everything_around_it(running: Gateway) -> None:
    call = running.stub.Rerank(ask(top_n=2), metadata=(("x-request-id", "mine-1"),))
    response = await call
    assert [result.index for result in response.results] == [1, 2]
    assert response.results[0].score > response.results[1].score > 0
    assert response.id.startswith("resp_")
    assert (response.model, response.route.provider, response.route.model) == ("mock/rerank", "mock", "rerank")
    assert response.usage.input_tokens == response.usage.total_tokens > 0
    assert response.usage.source == v1.Usage.SOURCE_PROVIDER
    assert len(response.route.attempts) == 1
    assert response.route.total_duration.ToNanoseconds() > 0
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine-1"
    sent = list(read_captured(running.folder / "sent.jsonl"))[-1]
    assert sent.path == "/v1/rerank"
    assert (sent.body["query"], sent.body["documents"], sent.body["top_n"]) == ("where a cat sleeps", DOCUMENTS, 2)
    assert "routing" not in sent.body


async def test_all_documents_are_ranked_unless_fewer_are_wanted(running: Gateway) -> None:
    response = await running.stub.Rerank(ask())
    assert sorted(result.index for result in response.results) == [0, 1, 2]
    assert response.results[-1].score == 0


async def test_the_sdk_gives_the_documents_themselves(running: Gateway) -> None:
    async with parley.AsyncClient(running.address, token="") as client:
        ranking = await client.rerank("mock/rerank", "where a cat sleeps", DOCUMENTS, top_n=1)
        assert [(one.index, one.document) for one in ranking] == [(1, DOCUMENTS[1])]
        listed = [model.id async for model in client.models(operation="rerank")]
        assert "mock/rerank" in listed
        info = await client.info()
        assert "rerank" in info.features
        assert (await client.model("mock/rerank")).operations == ["rerank"]


async def test_failures_are_retried_unseen(running: Gateway) -> None:
    response = await running.stub.Rerank(ask("mock/flaky"))
    assert len(response.results) == 3
    codes = [attempt.status.code for attempt in response.route.attempts]
    assert codes == [grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], 0]


async def test_half_an_answer_is_none(running: Gateway) -> None:
    response = await running.stub.Rerank(ask("mock/cut"))
    assert len(response.route.attempts) == 2


async def test_a_fallback_ranks_what_the_first_could_not(running: Gateway) -> None:
    routing = v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="mock/rerank")])
    response = await running.stub.Rerank(ask("mock/down", routing=routing))
    assert (response.model, response.route.model) == ("mock/down", "rerank")
    assert [attempt.model for attempt in response.route.attempts] == ["down", "down", "down", "rerank"]
    assert [result.index for result in response.results] == [1, 2, 0]


async def test_without_a_fallback_the_outage_is_told(running: Gateway) -> None:
    code, reason, trailers, _ = await refused(running.stub.Rerank(ask("mock/down")))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_OVERLOADED")
    assert trailers["x-parley-attempts"] == "3"
    assert trailers["grpc-retry-pushback-ms"] == "-1"


async def test_the_deadline_holds(running: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.Rerank(ask("mock/slow"), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("fields", "path"), [({"query": ""}, "query"), ({"documents": ["a", ""]}, "documents[1]"), ({"top_n": 0}, "top_n")]
)
async def test_a_request_without_sense_is_refused_at_the_door(running: Gateway, fields: Any, path: str) -> None:
    code, reason, _, fields_at_fault = await refused(running.stub.Rerank(ask(**fields)))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert fields_at_fault == [path]


async def test_a_model_that_does_not_rerank_says_so(running: Gateway) -> None:
    code, reason, _, _ = await refused(running.stub.Rerank(ask("mock/embed")))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OPERATION_UNSUPPORTED")


async def test_a_wish_that_is_not_met_is_a_warning_or_a_refusal(running: Gateway) -> None:
    response = await running.stub.Rerank(ask(max_tokens_per_document=100))
    assert [(w.code, w.field) for w in response.warnings] == [("UNSUPPORTED_PARAMETER", "max_tokens_per_document")]
    strict = ask(max_tokens_per_document=100, unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR)
    code, reason, _, fields = await refused(running.stub.Rerank(strict))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_PARAMETER")
    assert fields == ["max_tokens_per_document"]


async def test_options_reach_the_provider_and_cannot_change_what_is_ranked(running: Gateway) -> None:
    options = {"mock": '{"truncate": true, "documents": ["other"], "query": "other", "model": "other"}'}
    await running.stub.Rerank(ask(provider_options_json=options))
    sent = list(read_captured(running.folder / "sent.jsonl"))[-1].body
    assert (sent["truncate"], sent["documents"], sent["model"]) == (True, DOCUMENTS, "rerank")
