"""Chat, Embed, models and the rest, by both clients, against a real server."""

from __future__ import annotations

import asyncio
import struct
import threading
from decimal import Decimal
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import parley
from parley import v1
from tests.clients.python.peer import Fail, Peer, Stall, said


def test_reads_as_promised(peer: Peer) -> None:
    peer.will(said("hello"))
    with parley.Client(peer.address) as c:
        assert c.chat("mock/echo", "hello").text == "hello"
    assert peer.requests[0] == v1.ChatRequest(model="mock/echo", messages=[parley.user("hello")])


async def test_async_reads_the_same(peer: Peer) -> None:
    peer.will(said("hello"))
    async with parley.AsyncClient(peer.address) as c:
        assert (await c.chat("mock/echo", "hello")).text == "hello"


def test_reply_shows_the_whole_answer(peer: Peer, client: Any) -> None:
    parts = [
        v1.Part(reasoning=v1.ReasoningPart(text="hmm")),
        v1.Part(text="It is "),
        v1.Part(text="sunny.", citations=[v1.Citation(uri="https://example.com")]),
        v1.Part(tool_call=v1.ToolCall(id="call_1", name="weather", arguments_json='{"city": "Oslo"}')),
        v1.Part(refusal=v1.RefusalPart(text="No more.")),
    ]
    response = v1.ChatResponse(
        id="resp_1",
        model="mock/echo",
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=parts),
        finish_reason=v1.FINISH_REASON_TOOL_CALL,
        usage=v1.Usage(input_tokens=3, output_tokens=4, cost=v1.Cost(total_nano_usd=1_234_567)),
        route=v1.RouteInfo(provider="mock", model="echo"),
        warnings=[v1.Warning(code="UNSUPPORTED_PARAMETER", message="no seed", field="sampling.seed")],
    )
    peer.will(response)
    reply = client.chat("mock/echo", "weather?")
    assert reply.text == "It is sunny."
    assert reply.reasoning == "hmm"
    assert reply.refusal == "No more."
    assert reply.tool_calls == [parley.ToolCall("call_1", "weather", '{"city": "Oslo"}')]
    assert reply.tool_calls[0].arguments == {"city": "Oslo"}
    assert [citation.uri for citation in reply.citations] == ["https://example.com"]
    assert reply.finish_reason == "tool_call"
    assert reply.finish_reason is parley.FinishReason.TOOL_CALL
    assert reply.cost == Decimal("0.001234567")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 4)
    assert (reply.id, reply.model, reply.route.provider) == ("resp_1", "mock/echo", "mock")
    assert reply.warnings[0].field == "sampling.seed"
    assert reply.raw == response
    assert repr(reply) == "<Reply 'It is sunny.', tool_calls=['weather'], tool_call>"


def test_a_conversation_goes_on_from_a_reply(peer: Peer, client: Any) -> None:
    peer.will(said("Hello Ada."))
    peer.will(said("You are Ada."))
    first = client.chat("mock/echo", [parley.system("Be brief."), "I am Ada."])
    client.chat("mock/echo", [parley.system("Be brief."), "I am Ada.", first, "Who am I?"])
    roles = [message.role for message in peer.requests[1].messages]
    assert roles == [v1.ROLE_SYSTEM, v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_USER]
    assert peer.requests[1].messages[2] == first.message


def test_unknown_cost_is_none_and_unknown_finish_reason_is_unspecified(peer: Peer, client: Any) -> None:
    response = said("x")
    response.finish_reason = 99  # type: ignore[assignment]  # a newer server's
    peer.will(response)
    reply = client.chat("m", "x")
    assert reply.cost is None
    assert reply.finish_reason == "unspecified"


def test_embeddings_come_packed_and_read_as_floats(peer: Peer, client: Any) -> None:
    vectors = [[0.5, -1.25, 3.0], [1.0, 2.0, -0.125]]
    packed = [
        v1.Embedding(index=i, packed=struct.pack("<3f", *vector), dimensions=3) for i, vector in enumerate(vectors)
    ]
    peer.will(v1.EmbedResponse(model="m", embeddings=packed, usage=v1.Usage(input_tokens=2)))
    embeddings = client.embed("m", ["a", "b"])
    assert peer.requests[0].encoding == v1.EMBEDDING_ENCODING_FLOAT32_BYTES
    assert [one.text for one in peer.requests[0].inputs] == ["a", "b"]
    assert embeddings.vectors == vectors
    assert len(embeddings) == 2
    assert embeddings.dimensions == 3
    assert memoryview(embeddings[1]).format == "f"
    assert [list(one) for one in embeddings[0:2]] == vectors
    assert [list(one) for one in embeddings] == vectors
    assert embeddings.usage.input_tokens == 2
    with pytest.raises(IndexError):
        embeddings[2]


def test_embeddings_as_repeated_floats_read_the_same(peer: Peer, client: Any) -> None:
    one = v1.Embedding(floats=v1.FloatVector(values=[0.5, 1.5]), dimensions=2)
    peer.will(v1.EmbedResponse(embeddings=[one]))
    assert client.embed("m", "a").vectors == [[0.5, 1.5]]


def ranking(*indexes: int) -> v1.RerankResponse:
    """The answer that puts the documents in this order."""
    results = [v1.RerankResult(index=index, score=0.9 - place / 4) for place, index in enumerate(indexes)]
    return v1.RerankResponse(id="resp_1", model="m", results=results, usage=v1.Usage(input_tokens=5))


def test_a_ranking_is_documents_best_first(peer: Peer, client: Any) -> None:
    peer.will(ranking(2, 0))
    found = client.rerank("m", "q", ["a", "b", "c"], top_n=2, max_tokens_per_document=100)
    sent = v1.RerankRequest(model="m", query="q", documents=["a", "b", "c"], top_n=2, max_tokens_per_document=100)
    assert peer.requests == [sent]
    assert list(found) == [parley.Ranked(2, 0.9, "c"), parley.Ranked(0, 0.65, "a")]
    assert (found[0].index, found[0].score, found[0].document) == (2, 0.9, "c")
    assert found.documents == ["c", "a"]
    assert found[:1] == [found[0]]
    assert (len(found), found.usage.input_tokens, found.id) == (2, 5, "resp_1")
    assert repr(found) == "<Ranking of 2, best 2 (0.9)>"
    assert not found.warnings


def test_rerank_takes_a_ready_request_and_the_common_arguments(peer: Peer, client: Any) -> None:
    peer.will(ranking())
    ready = v1.RerankRequest(model="m", query="q", documents=["a"], top_n=1)
    found = client.rerank(
        request=ready,
        fallbacks=["n"],
        metadata={"team": "search"},
        provider_options={"cohere": {"priority": 1}},
        unsupported="error",
    )
    [sent] = peer.requests
    assert (sent.model, sent.query, list(sent.documents), sent.top_n) == ("m", "q", ["a"], 1)
    assert [target.model for target in sent.routing.fallbacks] == ["n"]
    assert dict(sent.metadata) == {"team": "search"}
    assert dict(sent.provider_options_json) == {"cohere": '{"priority": 1}'}
    assert sent.unsupported_policy == v1.UNSUPPORTED_POLICY_ERROR
    assert (list(found), repr(found)) == ([], "<Ranking of 0>")


@pytest.mark.parametrize("wrong", [{"end_user_id": "u"}, {"temperature": 1}])
def test_rerank_refuses_what_means_nothing(client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="unknown argument"):
        client.rerank("m", "q", ["a"], **wrong)


def test_one_text_is_no_list_of_documents(client: Any) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        client.rerank("m", "q", "abc")


@pytest.mark.parametrize("index", [-1, 1])
def test_a_ranking_of_a_document_that_was_not_sent_is_an_error(peer: Peer, client: Any, index: int) -> None:
    peer.will(ranking(index))
    with pytest.raises(parley.ProtocolError):
        client.rerank("m", "q", ["a"])


def test_embed_takes_token_ids_and_dimensions(peer: Peer, client: Any) -> None:
    peer.will(v1.EmbedResponse())
    client.embed("m", [[1, 2], [3]], dimensions=256)
    request = peer.requests[0]
    assert [list(one.tokens.ids) for one in request.inputs] == [[1, 2], [3]]
    assert request.dimensions == 256


def test_models_reads_page_after_page(peer: Peer, client: Any) -> None:
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="a"), v1.Model(id="b")], next_page_token="t1"))
    peer.will(v1.ListModelsResponse(next_page_token="t2"))  # pages may be empty
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="c")]))
    found = client.models(provider="mock", operation="chat", capabilities=["tools"], page_size=2)
    assert [model.id for model in found] == ["a", "b", "c"]
    assert [request.page_token for request in peer.requests] == ["", "t1", "t2"]
    assert all((r.provider, r.operation, r.page_size) == ("mock", "chat", 2) for r in peer.requests)
    assert list(peer.requests[2].capabilities) == ["tools"]


def test_models_fetches_no_page_that_nobody_reads(peer: Peer, client: Any) -> None:
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="a")], next_page_token="t1"))
    for model in client.models():
        assert model.id == "a"
        break
    assert len(peer.requests) == 1


def test_pages_that_go_round_in_a_circle_end_with_an_error(peer: Peer, client: Any) -> None:
    for _ in range(2):
        peer.will(v1.ListModelsResponse(models=[v1.Model(id="a")], next_page_token="t"))
    with pytest.raises(parley.ProtocolError, match="again and again"):
        list(client.models())


def test_model_and_info(peer: Peer, client: Any) -> None:
    peer.will(v1.GetModelResponse(model=v1.Model(id="mock/echo", provider="mock")))
    peer.will(v1.GetServerInfoResponse(version="0.1.0", providers=["mock"]))
    assert client.model("mock/echo").provider == "mock"
    assert client.info().providers == ["mock"]


def test_health_tells_apart_well_unwell_and_unknown(peer: Peer, client: Any) -> None:
    assert client.health() is parley.Health.SERVING
    peer.set_health(serving=False)
    assert client.health() == "not_serving"
    with pytest.raises(parley.GatewayError) as caught:
        client.health("no.such.Service")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_headers_token_and_user_agent_travel(peer: Peer) -> None:
    peer.will(said("x"))
    headers: dict[str, str | bytes] = {"X-Request-Id": "req-1", "blob-bin": b"\x00\xff"}
    with parley.Client(peer.address, token="s3cret", headers={"x-team": "a"}) as c:
        c.chat("m", "x", headers=headers)
        assert "s3cret" not in repr(c)
        assert "s3cret" not in repr(c._dial)
    arrived = peer.metadata[0]
    assert arrived["authorization"] == "Bearer s3cret"
    assert arrived["x-team"] == "a"
    assert arrived["x-request-id"] == "req-1"
    assert arrived["blob-bin"] == b"\x00\xff"
    assert str(arrived["user-agent"]).startswith("parley-python/")


def test_address_and_token_come_from_the_environment(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ADDRESS", peer.address)
    monkeypatch.setenv("PARLEY_TOKEN", "from-env")
    peer.will(said("x"))
    with parley.Client() as c:
        assert c.address == peer.address
        c.chat("m", "x")
    assert peer.metadata[0]["authorization"] == "Bearer from-env"


def test_the_current_trace_travels(peer: Peer, client: Any) -> None:
    tracer = TracerProvider().get_tracer("test")
    peer.will(said("x"))
    peer.will(said("y"))
    with tracer.start_as_current_span("outer") as span:
        client.chat("m", "x")
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
    client.chat("m", "y")
    assert str(peer.metadata[0]["traceparent"]).split("-")[1] == trace_id
    assert "traceparent" not in peer.metadata[1]


def test_stub_is_within_reach(peer: Peer) -> None:
    peer.will(v1.GetServerInfoResponse(version="9"))
    with parley.Client(peer.address) as c:
        assert c.stub.GetServerInfo(v1.GetServerInfoRequest()).version == "9"


def test_timeout_ends_the_call_at_the_server_too(peer: Peer, client: Any) -> None:
    peer.will(Stall())
    with pytest.raises(parley.DeadlineExceeded, match="timeout was over") as caught:
        client.chat("m", "x", timeout=0.1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not caught.value.retryable
    assert peer.cancelled.wait(5)


async def test_cancelling_the_task_cancels_the_call(peer: Peer) -> None:
    peer.will(Stall())
    async with parley.AsyncClient(peer.address) as c:
        task = asyncio.create_task(c.chat("m", "x"))
        assert await asyncio.to_thread(peer.stalled.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.cancelled.wait, 5)


async def test_closing_the_client_ends_its_calls_with_a_typed_error(peer: Peer) -> None:
    peer.will(Stall())
    c = parley.AsyncClient(peer.address)
    task = asyncio.create_task(c.chat("m", "x"))
    assert await asyncio.to_thread(peer.stalled.wait, 5)
    await c.close()
    with pytest.raises(parley.Cancelled):
        await task


def test_closing_the_client_in_another_thread_ends_its_calls(peer: Peer) -> None:
    peer.will(Stall())
    c = parley.Client(peer.address)

    def close() -> None:
        peer.stalled.wait(5)
        c.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(parley.Cancelled):
        c.chat("m", "x")
    thread.join()


def test_a_closed_client_says_so(peer: Peer, client: Any) -> None:
    client.close()
    client.close()  # twice does no harm
    with pytest.raises(RuntimeError, match="closed"):
        client.chat("m", "x")


def test_an_async_client_may_be_made_before_the_loop_runs(peer: Peer) -> None:
    peer.will(said("x"))
    client = parley.AsyncClient(peer.address)

    async def main() -> str:
        async with client:
            return (await client.chat("m", "x")).text

    assert asyncio.run(main()) == "x"


def test_twenty_mebibytes_pass_both_ways(peer: Peer) -> None:
    big = Peer()
    big.start(options=[("grpc.max_receive_message_length", 32 * 2**20)])
    try:
        text = "x" * (20 * 2**20)
        big.will(said(text))
        with parley.Client(big.address) as c:
            assert len(c.chat("m", text).text) == len(text)
    finally:
        big.stop()


def test_a_message_over_the_limit_is_a_typed_error(peer: Peer, client: Any) -> None:
    with pytest.raises(parley.MessageTooLarge, match="larger than max") as caught:
        client.chat("m", "x" * (5 * 2**20))  # this peer has gRPC's default limit of 4 MiB
    assert not caught.value.retryable


def test_large_requests_are_retried(client: Any, peer: Peer) -> None:
    peer.will(Fail(grpc.StatusCode.UNAVAILABLE, "going away", "SHUTTING_DOWN"))
    peer.will(said("again"))
    assert client.chat("m", "x" * (2 * 2**20)).text == "again"
    assert len(peer.requests) == 2


def test_what_the_gateway_gave_up_on_is_not_retried(peer: Peer, client: Any) -> None:
    peer.will(
        Fail(
            grpc.StatusCode.UNAVAILABLE,
            "overloaded",
            "PROVIDER_OVERLOADED",
            trailers=(("grpc-retry-pushback-ms", "-1"),),
        )
    )
    with pytest.raises(parley.Overloaded):
        client.chat("m", "x")
    assert len(peer.requests) == 1
