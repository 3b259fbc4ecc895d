"""What callers get from a running gateway: answers, streams, vectors, models, through the whole pipeline."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.fold import Fold
from parley_server.transports.mock import read_captured
from tests.gateway.process import Gateway, ask, config, gateway, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")
MODELS: dict[str, Any] = {
    "haiku": {"reply": "old pond / frog leaps in / water's sound", "chunking": "words"},
    "thinker": {"reasoning": "let me see", "reply": "42"},
    "weather": {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}], "reply": "It rains."},
    "flaky": {"errors": [{"status": 503}, {"status": 429, "retry_after": 0.01}], "reply": "third time lucky"},
    "down": {"errors": [{"status": 503}], "repeat_errors": True},
    "big": {"size": 10 * 1024 * 1024},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = config(providers={"mock": {"models": MODELS, "capture": str(folder / "sent.jsonl")}})
    async with gateway(settings, folder) as server:
        yield server


async def test_chat_answers_with_everything_around_it(running: Gateway) -> None:
    call = running.stub.Chat(ask("mock/echo", "hello there"), metadata=(("x-request-id", "mine-1"),))
    response = await call
    assert response.message.role == v1.ROLE_ASSISTANT
    assert [part.text for part in response.message.parts] == ["hello there"]
    assert response.id.startswith("resp_")
    assert (response.model, response.route.provider, response.route.model) == ("mock/echo", "mock", "echo")
    assert response.finish_reason == v1.FINISH_REASON_STOP
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert len(response.route.attempts) == 1
    assert response.create_time.seconds > 1_700_000_000
    trailers = dict(await call.trailing_metadata())
    assert trailers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("model", ["mock/haiku", "mock/thinker", "mock/weather"])
async def test_a_folded_stream_is_what_chat_returns(running: Gateway, model: str) -> None:
    tools = [v1.Tool(function=v1.FunctionTool(name="get_weather", parameters_json_schema='{"type":"object"}'))]
    whole = await running.stub.Chat(ask(model, tools=tools))
    fold, sequences = Fold(), []
    async for event in running.stub.StreamChat(stream(model, tools=tools)):
        sequences.append(event.sequence)
        fold.feed(event)
    assert fold.complete
    assert sequences == list(range(1, len(sequences) + 1))
    folded = fold.response()
    assert [p.WhichOneof("kind") for p in folded.message.parts] == [p.WhichOneof("kind") for p in whole.message.parts]
    assert folded.finish_reason == whole.finish_reason
    for part, other in zip(folded.message.parts, whole.message.parts, strict=True):
        assert (part.text, part.reasoning.text, part.tool_call.arguments_json) == (
            other.text,
            other.reasoning.text,
            other.tool_call.arguments_json,
        )
    assert folded.usage.total_tokens == whole.usage.total_tokens


async def test_a_tool_loop_ends_with_text(running: Gateway) -> None:
    tools = [v1.Tool(function=v1.FunctionTool(name="get_weather"))]
    first = await running.stub.Chat(ask("mock/weather", tools=tools))
    assert first.finish_reason == v1.FINISH_REASON_TOOL_CALL
    call = first.message.parts[-1].tool_call
    result = v1.ToolResult(tool_call_id=call.id, parts=[v1.Part(text="rain")])
    second = ask("mock/weather", tools=tools)
    second.messages.append(first.message)
    second.messages.append(v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)]))
    answer = await running.stub.Chat(second)
    assert answer.finish_reason == v1.FINISH_REASON_STOP
    assert answer.message.parts[-1].text


async def test_failed_attempts_are_retried_and_told(running: Gateway) -> None:
    response = await running.stub.Chat(ask("mock/flaky"))
    assert response.message.parts[0].text == "third time lucky"
    assert [attempt.status.code for attempt in response.route.attempts] == [
        grpc.StatusCode.UNAVAILABLE.value[0],
        grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
        0,
    ]


@pytest.mark.parametrize("streaming", [False, True])
async def test_fallback_answers_when_the_first_model_does_not(running: Gateway, streaming: bool) -> None:
    routing = v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="mock/haiku")], max_attempts=2)
    if streaming:
        fold = Fold()
        async for event in running.stub.StreamChat(stream("mock/down", routing=routing)):
            fold.feed(event)
        response = fold.response()
    else:
        response = await running.stub.Chat(ask("mock/down", routing=routing))
    assert response.message.parts[0].text.startswith("old pond")
    assert [attempt.model for attempt in response.route.attempts] == ["down", "haiku"]
    assert response.model == "mock/down"


async def test_wishes_that_cannot_be_met_warn_or_refuse(running: Gateway) -> None:
    wish = ask("mock/echo", output=v1.OutputOptions(verbosity="low"))
    response = await running.stub.Chat(wish)
    assert [(w.code, w.field) for w in response.warnings] == [("UNSUPPORTED_PARAMETER", "output.verbosity")]
    wish.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.Chat(wish)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_newer_field_is_not_dropped_silently(running: Gateway) -> None:
    newer = v1.ChatRequest.FromString(ask("mock/echo").SerializeToString() + bytes([0xFA, 0x7F, 0x01, 0x78]))
    response = await running.stub.Chat(newer)
    assert [warning.code for warning in response.warnings] == ["UNKNOWN_FIELD"]


async def test_embeddings_in_both_encodings_are_the_same_vectors(running: Gateway) -> None:
    inputs = [v1.EmbedInput(text=text) for text in ("a cat", "the cat", "quantum chromodynamics")]
    floats = await running.stub.Embed(v1.EmbedRequest(model="mock/embed", inputs=inputs, dimensions=64))
    packed = await running.stub.Embed(
        v1.EmbedRequest(model="mock/embed", inputs=inputs, dimensions=64, encoding=v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    )
    assert [e.index for e in floats.embeddings] == [0, 1, 2]
    for one, other in zip(floats.embeddings, packed.embeddings, strict=True):
        assert one.dimensions == other.dimensions == len(one.floats.values) == 64
        assert list(one.floats.values) == list(struct.unpack("<64f", other.packed))
    assert floats.usage.input_tokens > 0


async def test_models_are_listed_and_found(running: Gateway) -> None:
    listed = await running.stub.ListModels(v1.ListModelsRequest(provider="mock"))
    ids = [model.id for model in listed.models]
    assert ids == sorted(ids)
    assert {"mock/echo", "mock/haiku"} <= set(ids)
    one = await running.stub.GetModel(v1.GetModelRequest(model="haiku"))
    assert one.model.id == "mock/haiku"


async def test_the_server_describes_itself(running: Gateway) -> None:
    info = await running.stub.GetServerInfo(v1.GetServerInfoRequest())
    assert list(info.providers) == ["mock"]
    assert "stream-chat" in info.features
    assert len(info.schema_digest) == 64


async def test_the_request_reaches_the_provider_as_it_was_meant(running: Gateway) -> None:
    await running.stub.Chat(
        ask(
            "mock/echo",
            "hi",
            sampling=v1.SamplingOptions(temperature=0.7, max_output_tokens=5),
            provider_options_json={"mock": '{"store":true,"model":"other"}', "openai": '{"store":false}'},
        ),
        metadata=(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    )
    sent = list(read_captured(running.folder / "sent.jsonl"))[-1]
    assert sent.body["temperature"] == 0.7
    assert sent.body["store"] is True
    assert sent.body["model"] == "echo"
    assert not any("auth" in name for name in sent.headers)


async def test_a_ten_megabyte_answer_arrives_whole(running: Gateway) -> None:
    length, largest = 0, 0
    async for event in running.stub.StreamChat(stream("mock/big")):
        length += len(event.part_delta.text)
        largest = max(largest, event.ByteSize())
    assert length == 10 * 1024 * 1024
    assert largest <= 1024 * 1024
