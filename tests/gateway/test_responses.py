"""The gateway in front of OpenAI's two chat APIs: which one a request goes to, and that a conversation stays there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.fold import Fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import named_events, openai_answer
from tests.upstream import Exchange, Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS = [v1.Tool(function=v1.FunctionTool(name="get_weather", parameters_json_schema='{"type":"object"}'))]
HARD = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH, visibility=v1.ReasoningOptions.VISIBILITY_SUMMARY)
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Look."}],
    "encrypted_content": "gAAAA",
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}
SPEECH = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It rains.", "annotations": []}],
}


def whole(*output: Any, status: str = "completed") -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "model": "gpt-5.4-2026-03-05", "status": status, "error": None}
    return head | {"output": list(output), "usage": USAGE if status == "completed" else None}


def spoken(*output: dict[str, Any]) -> bytes:
    """A stream of the items."""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": whole(status="in_progress")}]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        begun = item | {name: empty for name, empty in (("arguments", ""), ("content", [])) if name in item}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        match item["type"]:
            case "reasoning":
                kind = "response.reasoning_summary_text.delta"
                events.append({"type": kind, "summary_index": 0, "delta": item["summary"][0]["text"], **place})
            case "function_call":
                kind = "response.function_call_arguments.delta"
                halves = item["arguments"][:5], item["arguments"][5:]
                events += [{"type": kind, "delta": half, **place} for half in halves]
            case "message":
                kind = "response.output_text.delta"
                events += [{"type": kind, "content_index": 0, "delta": word, **place} for word in ("It ", "rains.")]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole(*output)})
    return named_events(*({**event, "sequence_number": number} for number, event in enumerate(events)))


async def openai(exchange: Exchange) -> None:
    """Calls a tool once, and then knows; by either API, as OpenAI has it."""
    path, body = exchange.request.path, exchange.request.json if exchange.request.method == "POST" else {}
    if path.endswith("/models"):
        await exchange.answer(200, {"object": "list", "data": []})
    elif path.endswith("/chat/completions"):
        if body.get("tools") and body.get("reasoning_effort", "none") != "none":
            problem = "Function tools with reasoning_effort are not supported for this model in /v1/chat/completions."
            await exchange.answer(400, {"error": {"message": problem, "type": "invalid_request_error"}})
        else:
            await exchange.answer(200, openai_answer("by chat completions"))
    elif body["model"] == "down":
        events = [{"type": "response.created", "response": whole(status="in_progress")}]
        events.append({"type": "error", "code": "server_error", "message": "no luck"})
        await exchange.stream(named_events(*events))
    else:
        knows = any(item.get("type") == "function_call_output" for item in body["input"])
        output = (SPEECH,) if knows else (THOUGHT, CALL)
        if body.get("stream"):
            await exchange.stream(spoken(*output))
        else:
            await exchange.answer(200, whole(*output))


@dataclass
class Scene:
    server: Gateway
    upstream: Upstream

    def last(self) -> tuple[str, Any]:
        """Path and body of the last request."""
        request = [request for request in self.upstream.requests if request.method == "POST"][-1]
        return request.path, request.json


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    async with scripted(openai) as upstream:
        here = {"kind": "openai", "base_url": f"{upstream.base_url}/v1", "api_key": "env:KEY"}
        providers = {
            "openai": here,
            "chatty": here | {"api": "chat"},
            "responsive": here | {"api": "responses"},
        }
        async with gateway(config(providers=providers), folder, {"KEY": "sk-test-0123456789"}) as server:
            yield Scene(server, upstream)


async def told(scene: Scene, request: v1.StreamChatRequest) -> v1.ChatResponse:
    fold = Fold()
    async for event in scene.server.stub.StreamChat(request):
        fold.feed(event)
    assert fold.complete
    return fold.response()


async def test_tools_and_reasoning_stream_by_the_responses_api_and_go_on_there(scene: Scene) -> None:
    request = stream("openai/gpt-5.4", "Weather in Oslo?", tools=TOOLS, reasoning=HARD)
    first = await told(scene, request)
    path, body = scene.last()
    assert path == "/v1/responses"
    assert (body["store"], body["stream"], body["include"]) == (False, True, ["reasoning.encrypted_content"])
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert body["tools"][0]["strict"] is False
    assert [part.WhichOneof("kind") for part in first.message.parts] == ["reasoning", "tool_call"]
    assert first.message.parts[0].reasoning.text == "Look."
    assert first.message.parts[1].tool_call.arguments_json == '{"city":"Oslo"}'
    assert (first.finish_reason, first.usage.reasoning_output_tokens) == (v1.FINISH_REASON_TOOL_CALL, 2)
    assert (first.route.provider, first.route.model) == ("openai", "gpt-5.4-2026-03-05")
    assert not first.warnings

    request.request.messages.append(first.message)
    result = v1.ToolResult(tool_call_id="call_1", parts=[v1.Part(text="rain")])
    request.request.messages.add(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    second = await told(scene, request)
    assert [part.text for part in second.message.parts] == ["It rains."]
    path, body = scene.last()
    assert path == "/v1/responses"
    assert body["input"][1] == THOUGHT
    assert [item["type"] for item in body["input"]] == ["message", "reasoning", "function_call", "function_call_output"]
    assert not second.warnings


async def test_a_whole_answer_says_the_same_as_a_stream(scene: Scene) -> None:
    whole_answer = await scene.server.stub.Chat(ask("openai/gpt-5.4", tools=TOOLS, reasoning=HARD))
    streamed = await told(scene, stream("openai/gpt-5.4", tools=TOOLS, reasoning=HARD))
    assert whole_answer.message == streamed.message
    assert whole_answer.usage == streamed.usage


@pytest.mark.parametrize(
    ("model", "wishes", "path"),
    [
        ("openai/gpt-5.4", {}, "/v1/chat/completions"),
        ("openai/gpt-5.4", {"tools": TOOLS}, "/v1/chat/completions"),
        ("openai/gpt-5.4", {"tools": TOOLS, "reasoning": HARD}, "/v1/responses"),
        ("openai/gpt-5.5-pro", {}, "/v1/responses"),
        ("responsive/gpt-4.1", {}, "/v1/responses"),
        ("chatty/gpt-5.5-pro", {}, "/v1/chat/completions"),
    ],
)
async def test_where_requests_go(scene: Scene, model: str, wishes: dict[str, Any], path: str) -> None:
    await scene.server.stub.Chat(ask(model, **wishes))
    assert scene.last()[0] == path


async def test_who_insists_on_chat_completions_gets_their_refusal(scene: Scene) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await scene.server.stub.Chat(ask("chatty/gpt-5.4", tools=TOOLS, reasoning=HARD))
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_failure_before_any_content_is_a_status(scene: Scene) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await told(scene, stream("responsive/down"))
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    assert json.loads([r for r in scene.upstream.requests if r.method == "POST"][-1].body)["model"] == "down"
