"""The mock provider through everything that a real one goes through: card, dialect, framing, driver, reply."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Reply
from parley_server.core.target import Target
from parley_server.providers import mock as provider
from parley_server.providers.directory import list_models
from parley_server.providers.endpoint import ChatEndpoint, EmbedEndpoint, Wire
from parley_server.transports.mock import MockModel, MockTransport
from tests.providers.cards import made

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Lisbon", "Oslo"]}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


class Mock:
    """The provider with one model, `m`."""

    def __init__(self, **settings: Any) -> None:
        self.transport = MockTransport({"m": MockModel.model_validate(settings)}, sleep=self._no_sleep)
        self.card = replace(made(provider.KIND, "mock"), transport=self.transport)

    @staticmethod
    async def _no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    def _context(self, operation: Operation, streaming: bool) -> Context:
        return Context(operation=operation, streaming=streaming, request_id="r", response_id="resp_r")

    def _wire(self, model: str) -> Wire:
        return Wire(self.card, Target("mock", model), self.transport, connect_timeout=1)

    async def ask(self, request: v1.ChatRequest, *, streaming: bool, model: str = "m") -> Reply[v1.ChatResponse]:
        """The reply of the endpoint, once it is past the commit point."""
        return await ChatEndpoint(self._wire(model), self.card.choose_chat)(request, self._context("chat", streaming))

    async def chat(self, request: v1.ChatRequest, *, streaming: bool, model: str = "m") -> v1.ChatResponse:
        """The whole response; a stream is folded."""
        async with await self.ask(request, streaming=streaming, model=model) as reply:
            return await reply.response()

    async def embed(self, request: v1.EmbedRequest) -> v1.EmbedResponse:
        """The response to an embedding request."""
        assert self.card.embed is not None
        return await (
            await EmbedEndpoint(self._wire("m"), self.card.embed)(request, self._context("embed", False))
        ).response()


def request(*turns: str, **fields: Any) -> v1.ChatRequest:
    """A request whose turns are the user's and the assistant's in turn."""
    roles = (v1.ROLE_USER, v1.ROLE_ASSISTANT)
    messages = [
        v1.Message(role=roles[i % 2], parts=[v1.Part(text=turn)]) for i, turn in enumerate(turns or ("hello you",))
    ]
    return v1.ChatRequest(model="mock/m", messages=messages, **fields)


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def tool(name: str) -> v1.Tool:
    return v1.Tool(function=v1.FunctionTool(name=name, parameters_json_schema=json.dumps(SCHEMA)))


both = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])


@both
async def test_echo(streaming: bool) -> None:
    response = await Mock().chat(request("one", "two", "three 😀"), streaming=streaming)
    assert text(response) == "three 😀"
    assert response.message.role == v1.ROLE_ASSISTANT
    assert (response.finish_reason, response.native_finish_reason) == (v1.FINISH_REASON_STOP, "stop")
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (4, 2, 6)
    assert (response.route.provider, response.route.model) == ("mock", "m")
    assert response.route.provider_request_id == "req_mock_00000001"
    assert response.route.provider_response_id.startswith("chatcmpl-")


@both
async def test_reasoning_and_cached_tokens(streaming: bool) -> None:
    mock = Mock(reasoning="let me think", reply="done", cached_tokens=1)
    response = await mock.chat(request(), streaming=streaming)
    assert [part.WhichOneof("kind") for part in response.message.parts] == ["reasoning", "text"]
    assert response.message.parts[0].reasoning.text == "let me think"
    assert (response.usage.reasoning_output_tokens, response.usage.cache_read_input_tokens) == (3, 1)


@both
async def test_refusal(streaming: bool) -> None:
    response = await Mock(refusal="I will not do that.").chat(request(), streaming=streaming)
    assert [part.refusal.text for part in response.message.parts] == ["I will not do that."]
    assert response.finish_reason == v1.FINISH_REASON_REFUSAL


@both
async def test_token_limit_and_stop_sequence(streaming: bool) -> None:
    limited = request("a b c d", sampling=v1.SamplingOptions(max_output_tokens=2))
    response = await Mock().chat(limited, streaming=streaming)
    assert (text(response), response.finish_reason) == ("a b", v1.FINISH_REASON_LENGTH)
    stopped = request("a b c d", sampling=v1.SamplingOptions(stop_sequences=[" c"]))
    assert text(await Mock().chat(stopped, streaming=streaming)) == "a b"


@both
async def test_logprobs(streaming: bool) -> None:
    asked = request("one two", sampling=v1.SamplingOptions(top_logprobs=2))
    response = await Mock().chat(asked, streaming=streaming)
    assert [entry.token for entry in response.logprobs] == ["one", " two"]
    assert [len(entry.top_logprobs) for entry in response.logprobs] == [2, 2]


@both
async def test_a_tool_loop_ends(streaming: bool) -> None:
    mock = Mock(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}, {"name": "clock"}])
    asked = request(tools=[tool("weather"), tool("clock")])
    first = await mock.chat(asked, streaming=streaming)
    assert first.finish_reason == v1.FINISH_REASON_TOOL_CALL
    calls = [part.tool_call for part in first.message.parts]
    assert [call.name for call in calls] == ["weather", "clock"]
    assert json.loads(calls[0].arguments_json) == {"city": "Oslo", "days": 3}
    assert jsonschema_rs.is_valid(SCHEMA, json.loads(calls[1].arguments_json))

    asked.messages.append(first.message)
    results = [v1.ToolResult(tool_call_id=call.id, parts=[v1.Part(text=f"{call.name} ok")]) for call in calls]
    asked.messages.append(v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result) for result in results]))
    second = await mock.chat(asked, streaming=streaming)
    assert text(second) == "weather ok\nclock ok"
    assert second.finish_reason == v1.FINISH_REASON_STOP


@both
async def test_a_demanded_tool_is_called_by_any_model(streaming: bool) -> None:
    choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["clock"])
    response = await Mock().chat(
        request(tools=[tool("weather"), tool("clock")], tool_choice=choice), streaming=streaming
    )
    assert [part.tool_call.name for part in response.message.parts] == ["clock"]
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL


@both
async def test_structured_output(streaming: bool) -> None:
    wanted = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="trip", json_schema=json.dumps(SCHEMA), strict=True))
    answer = json.loads(text(await Mock().chat(request(output=wanted), streaming=streaming)))
    assert jsonschema_rs.is_valid(SCHEMA, answer)
    anything = request("JSON please", output=v1.OutputOptions(json_object=v1.JsonObjectFormat()))
    assert json.loads(text(await Mock().chat(anything, streaming=streaming))) == {"answer": "JSON please"}


@both
@pytest.mark.parametrize(
    ("error", "expected", "retry_after"),
    [
        ({"status": 429, "retry_after": 2}, RateLimited, 2),
        ({"status": 429, "retry_after": 0.25}, RateLimited, 0.25),
        ({"status": 429, "type": "insufficient_quota", "code": "insufficient_quota"}, QuotaExhausted, None),
        ({"status": 401}, CredentialsRejected, None),
        ({"status": 404}, ModelNotFound, None),
        ({"status": 400, "code": "context_length_exceeded"}, ContextLengthExceeded, None),
        ({"status": 500}, Unavailable, None),
        ({"status": 503}, Overloaded, None),
        ({"status": 502, "body": "<html>Bad gateway</html>"}, Unavailable, None),
        ({"cut_after": 0}, Unavailable, None),
        ({"cut_after": 1}, StreamInterrupted, None),
        ({"error_after": 0}, Unavailable, None),
        ({"error_after": 1, "type": "insufficient_quota", "code": "insufficient_quota"}, QuotaExhausted, None),
        ({"malformed_after": 1}, ProtocolError, None),
    ],
)
async def test_errors_before_content_are_raised_and_the_next_attempt_succeeds(
    streaming: bool, error: dict[str, Any], expected: type[GatewayError], retry_after: float | None
) -> None:
    mock = Mock(errors=[error])
    with pytest.raises(expected) as caught:
        await mock.ask(request(), streaming=streaming)
    assert type(caught.value) is expected
    assert caught.value.retry_after == retry_after
    assert mock.transport.open == 0
    assert text(await mock.chat(request(), streaming=streaming)) == "hello you"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [({"cut_after": 3}, StreamInterrupted), ({"error_after": 3}, Unavailable), ({"malformed_after": 3}, ProtocolError)],
)
async def test_faults_after_content_are_raised_while_reading(
    fault: dict[str, Any], expected: type[GatewayError]
) -> None:
    mock = Mock(**fault, token_delay=1)
    reply = await mock.ask(request("a b c d"), streaming=True)
    with pytest.raises(expected):
        async with reply:
            await reply.response()
    assert mock.transport.open == 0


@pytest.mark.parametrize(
    ("settings", "streaming"),
    [({"stall_after": n}, s) for n in (0, 1) for s in (False, True)] + [({"stall_after": 3}, True)],
)
async def test_cancelling_a_stalled_call_closes_it_at_once(settings: dict[str, Any], streaming: bool) -> None:
    mock = Mock(**settings)
    task = asyncio.create_task(mock.chat(request("a b c d"), streaming=streaming))
    for _ in range(20):
        await asyncio.sleep(0)
    assert mock.transport.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mock.transport.open == 0


async def test_closing_an_endless_reply_ends_it() -> None:
    mock = Mock(endless=True)
    batches = 0
    async with await mock.ask(request(), streaming=True) as reply:
        async for _ in reply:
            batches += 1
            if batches == 5:
                break
    assert mock.transport.open == 0


async def test_ten_megabytes_arrive_whole() -> None:
    size = 10 * 1024 * 1024
    response = await Mock(size=size).chat(request(), streaming=True)
    assert text(response) == "0123456789abcde " * (size // 16)


@pytest.mark.parametrize(
    "encoding", [v1.EMBEDDING_ENCODING_FLOAT, v1.EMBEDDING_ENCODING_FLOAT32_BYTES], ids=["floats", "bytes"]
)
async def test_embeddings(encoding: v1.EmbeddingEncoding.ValueType) -> None:
    inputs = [v1.EmbedInput(text="a text"), v1.EmbedInput(text="another")]
    response = await Mock().embed(v1.EmbedRequest(model="mock/m", inputs=inputs, dimensions=64, encoding=encoding))
    assert [(made.index, made.dimensions) for made in response.embeddings] == [(0, 64), (1, 64)]
    assert response.usage.input_tokens == 3


async def test_embeddings_of_tokens() -> None:
    inputs = [v1.EmbedInput(tokens=v1.TokenIds(ids=[1, 2, 3]))]
    response = await Mock().embed(v1.EmbedRequest(model="mock/m", inputs=inputs))
    assert response.embeddings[0].dimensions == 256


async def test_listing() -> None:
    mock = Mock()
    models = await list_models(mock.card, mock.transport)
    assert {model.id for model in models} == {"mock/echo", "mock/embed", "mock/rerank", "mock/m"}


@both
async def test_unknown_model(streaming: bool) -> None:
    with pytest.raises(ModelNotFound):
        await Mock().chat(request(), streaming=streaming, model="gone")


@both
async def test_what_the_server_refuses_names_the_field(streaming: bool) -> None:
    impossible = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="x", json_schema='{"not": {}}'))
    with pytest.raises(InvalidRequest) as caught:
        await Mock().chat(request(output=impossible), streaming=streaming)
    assert [violation.field for violation in caught.value.violations] == ["output"]


async def test_request_is_captured_as_it_went_out() -> None:
    mock = Mock()
    await mock.chat(request("look at me"), streaming=True)
    (captured,) = mock.transport.requests
    assert captured.path == "/v1/chat/completions"
    assert captured.body["messages"] == [{"role": "user", "content": "look at me"}]
    assert captured.body["stream"] is True
