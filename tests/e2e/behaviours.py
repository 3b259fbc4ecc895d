"""What holds whatever server answers: each function asks the gateway for one thing and judges the answer."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import grpc
import jsonschema_rs
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from parley.fold import Fold
from tests.gateway.process import Gateway, ask, stream

WEATHER = v1.Tool(
    function=v1.FunctionTool(
        name="get_weather",
        description="The weather of a city.",
        parameters_json_schema=json.dumps(
            {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
            }
        ),
    )
)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "mood": {"enum": ["happy", "sad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}


WIDTH = 64
"""Dimensions of the tiny model, whose own file needs packages that only `make e2e` installs."""


def steadily(tokens: int, **fields: Any) -> v1.SamplingOptions:
    """The same answer every time, of at most so many tokens."""
    return v1.SamplingOptions(temperature=0, max_output_tokens=tokens, **fields)


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


async def folded(server: Gateway, request: v1.ChatRequest) -> tuple[v1.ChatResponse, list[v1.StreamChatResponse]]:
    """The response that the stream amounts to, and its events."""
    fold, events = Fold(), []
    async for event in server.stub.StreamChat(v1.StreamChatRequest(request=request)):
        events.append(event)
        fold.feed(event)
    assert fold.complete
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return fold.response(), events


async def chat_and_stream_say_the_same(server: Gateway, model: str) -> None:
    request = ask(model, "Hello", sampling=steadily(40))
    whole = await server.stub.Chat(request)
    assert "字" in text(whole), "what it says has characters of several bytes"
    assert whole.finish_reason == v1.FINISH_REASON_LENGTH
    assert whole.usage.output_tokens == 40
    assert whole.usage.input_tokens > 10
    assert whole.usage.total_tokens == whole.usage.input_tokens + 40
    assert whole.usage.source == v1.Usage.SOURCE_PROVIDER
    assert (whole.model, whole.route.provider) == (model, model.partition("/")[0])
    assert not whole.warnings
    arrived, _ = await folded(server, request)
    assert text(arrived) == text(whole)
    assert arrived.finish_reason == whole.finish_reason
    assert (arrived.usage.input_tokens, arrived.usage.output_tokens) == (whole.usage.input_tokens, 40)


async def stop_words_stop(server: Gateway, model: str) -> None:
    whole = await server.stub.Chat(ask(model, "Hello", sampling=steadily(40)))
    word = text(whole)[12:15]
    cut = await server.stub.Chat(ask(model, "Hello", sampling=steadily(40, stop_sequences=[word])))
    assert text(cut) == text(whole)[: text(whole).index(word)]
    assert cut.finish_reason == v1.FINISH_REASON_STOP
    assert cut.usage.output_tokens < 40


async def a_conversation_goes_on(server: Gateway, model: str) -> None:
    request = ask(model, "Hello", sampling=steadily(8))
    request.messages.insert(0, v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="You speak nonsense.")]))
    first = await server.stub.Chat(request)
    request.messages.append(first.message)
    request.messages.append(v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Go on")]))
    second = await server.stub.Chat(request)
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert text(second)


async def answers_follow_a_schema(server: Gateway, model: str) -> None:
    output = v1.OutputOptions(
        json_schema=v1.JsonSchemaFormat(name="person", json_schema=json.dumps(PERSON), strict=True)
    )
    request = ask(model, "Who?", output=output, sampling=steadily(400))
    whole = await server.stub.Chat(request)
    assert whole.finish_reason == v1.FINISH_REASON_STOP
    jsonschema_rs.validate(PERSON, json.loads(text(whole)))
    arrived, _ = await folded(server, request)
    jsonschema_rs.validate(PERSON, json.loads(text(arrived)))


async def tools_are_called_and_their_results_heard(server: Gateway, model: str, *, streaming: bool) -> None:
    request = ask(model, "What is the weather?", tools=[WEATHER], sampling=steadily(400))
    response = (await folded(server, request))[0] if streaming else await server.stub.Chat(request)
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
    [call] = [part.tool_call for part in response.message.parts if part.HasField("tool_call")]
    assert call.name == "get_weather"
    assert call.id
    jsonschema_rs.validate(json.loads(WEATHER.function.parameters_json_schema), json.loads(call.arguments_json))
    request.messages.append(response.message)
    result = v1.ToolResult(tool_call_id=call.id, parts=[v1.Part(text="rain, 8 °C")])
    request.messages.append(v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)]))
    request.sampling.CopyFrom(steadily(8))
    final = (await folded(server, request))[0] if streaming else await server.stub.Chat(request)
    assert text(final)
    assert final.finish_reason == v1.FINISH_REASON_LENGTH
    assert final.usage.input_tokens > response.usage.input_tokens


async def embeddings_are_vectors_of_length_one(server: Gateway, model: str) -> None:
    words = ["a cat", "two cats", "漢字 🙂", *(f"word {number}" for number in range(30))]
    inputs = [v1.EmbedInput(text=word) for word in words]
    floats = await server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs))
    encoding = v1.EMBEDDING_ENCODING_FLOAT32_BYTES
    packed = await server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs, encoding=encoding))
    assert [one.index for one in floats.embeddings] == list(range(len(words)))
    for one, other in zip(floats.embeddings, packed.embeddings, strict=True):
        assert one.dimensions == other.dimensions == len(one.floats.values) == WIDTH
        assert struct.unpack(f"<{WIDTH}f", other.packed) == pytest.approx(tuple(one.floats.values), abs=1e-5)
        assert math.hypot(*one.floats.values) == pytest.approx(1, abs=1e-4)
    alone = await server.stub.Embed(v1.EmbedRequest(model=model, inputs=[inputs[2]]))
    assert tuple(alone.embeddings[0].floats.values) == pytest.approx(
        tuple(floats.embeddings[2].floats.values), abs=1e-3
    )
    assert floats.usage.input_tokens > len(words)


async def refusal(call: Any) -> tuple[grpc.StatusCode, details.ErrorInfo]:
    """Code and reason of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    info = details.ErrorInfo()
    status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[0].Unpack(info)
    return caught.value.code(), info


async def too_long_a_prompt_is_refused(server: Gateway, model: str, *, tokens: int) -> None:
    prompt = "la la " * tokens
    for call in (server.stub.Chat(ask(model, prompt)), server.stub.StreamChat(stream(model, prompt))):
        code, info = await refusal(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert info.reason == "CONTEXT_LENGTH_EXCEEDED"
