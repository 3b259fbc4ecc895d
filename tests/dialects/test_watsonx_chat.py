"""Chat completions in the envelope of watsonx.ai."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    ProtocolError,
    StreamInterrupted,
    Unavailable,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.dialects.watsonx import Scope, WatsonxChat
from parley_server.providers.watsonx import QUIRKS
from tests.strategies import texts

TARGET = Target("watsonx", "ibm/granite-3-8b-instruct")
DEPLOYED = Target("watsonx", "deployment/my chat")
DIALECT = WatsonxChat(OpenAIChat(QUIRKS), Scope("2024-10-08", project_id="p-1"))
HEAD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model_id": TARGET.model,
    "model": TARGET.model,
    "created": 1,
    "model_version": "1.1.0",
    "created_at": "2025-01-01T00:00:00.000Z",
    "system": {"warnings": [{"message": "This model is a Non-IBM Product", "id": "disclaimer_warning"}]},
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def ask(**fields: Any) -> v1.ChatRequest:
    return v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])], **fields)


def body(request: v1.ChatRequest, target: Target = TARGET, *, stream: bool = False) -> Any:
    return json.loads(DIALECT.encode(request, target, stream=stream).body)


def whole(text: str, finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return json.dumps({**HEAD, "choices": [choice], "usage": USAGE}).encode()


def chunk(delta: Any, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **fields}


def wire(*chunks: Any, event: str = "message") -> bytes:
    frames = [f"id: {number}\nevent: {event}\ndata: {json.dumps(one)}\n\n" for number, one in enumerate(chunks, 1)]
    return "".join(frames).encode()


def spoken(*words: str, finish: str = "stop") -> bytes:
    """A stream that says `words` as the API sends it: no [DONE], usage at its end."""
    first = wire(chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words))
    return first + wire(chunk({"content": ""}, finish), {**HEAD, "choices": [], "usage": USAGE})


def heard(pieces: list[bytes]) -> list[v1.StreamChatResponse]:
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    found: list[v1.StreamChatResponse] = []
    for piece in pieces:
        found += decoder.feed(framing.feed(piece))
    return found + decoder.feed(framing.finish()) + decoder.finish()


class TestRequests:
    def test_the_envelope(self) -> None:
        call = DIALECT.encode(ask(), TARGET, stream=False)
        assert (call.method, call.path) == ("POST", "/ml/v1/text/chat?version=2024-10-08")
        assert json.loads(call.body) == {
            "model_id": TARGET.model,
            "project_id": "p-1",
            "messages": [{"role": "user", "content": "hi"}],
        }

    def test_streams_have_a_path_of_their_own(self) -> None:
        call = DIALECT.encode(ask(), TARGET, stream=True)
        assert call.path == "/ml/v1/text/chat_stream?version=2024-10-08"
        assert call.body == DIALECT.encode(ask(), TARGET, stream=False).body

    def test_deployments_know_model_and_project(self) -> None:
        call = DIALECT.encode(ask(), DEPLOYED, stream=True)
        assert call.path == "/ml/v1/deployments/my%20chat/text/chat_stream?version=2024-10-08"
        assert json.loads(call.body).keys() == {"messages"}

    def test_a_space_in_place_of_a_project(self) -> None:
        dialect = WatsonxChat(OpenAIChat(QUIRKS), Scope("2024-10-08", space_id="s-1"))
        sent = json.loads(dialect.encode(ask(), TARGET, stream=False).body)
        assert sent["space_id"] == "s-1"
        assert "project_id" not in sent

    @pytest.mark.parametrize(
        ("choice", "option", "named"),
        [
            (v1.ToolChoice(mode=v1.ToolChoice.MODE_AUTO), "auto", None),
            (v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE), "none", None),
            (v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED), "required", None),
            (v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["f"]), None, "f"),
        ],
    )
    def test_choices_of_tools(self, choice: v1.ToolChoice, option: str | None, named: str | None) -> None:
        tools = [v1.Tool(function=v1.FunctionTool(name=name)) for name in ("f", "g")]
        sent = body(ask(tools=tools, tool_choice=choice))
        assert sent.get("tool_choice_option") == option
        assert sent.get("tool_choice", {}).get("function", {}).get("name") == named
        assert len(sent["tools"]) == 2

    def test_sampling_and_reasoning(self) -> None:
        sampling = v1.SamplingOptions(max_output_tokens=5, repetition_penalty=1.5, seed=3, stop_sequences=["a"])
        reasoning = v1.ReasoningOptions(
            effort=v1.REASONING_EFFORT_HIGH, visibility=v1.ReasoningOptions.VISIBILITY_OMITTED
        )
        sent = body(ask(sampling=sampling, reasoning=reasoning), stream=True)
        assert sent["max_completion_tokens"] == 5
        assert (sent["repetition_penalty"], sent["seed"], sent["stop"]) == (1.5, 3, ["a"])
        assert (sent["reasoning_effort"], sent["include_reasoning"]) == ("high", False)

    def test_wishes_that_cannot_be_met(self) -> None:
        request = ask(
            sampling=v1.SamplingOptions(top_k=1, min_p=0.5),
            tool_choice=v1.ToolChoice(parallel_tool_calls=False),
            tools=[v1.Tool(function=v1.FunctionTool(name="f", strict=True))],
            end_user_id="u",
            include_provider_response=True,
        )
        warnings = DIALECT.encode(request, TARGET, stream=True).warnings
        assert {warning.field for warning in warnings} == {
            "sampling.top_k",
            "sampling.min_p",
            "tool_choice.parallel_tool_calls",
            "tools[0].function.strict",
            "end_user_id",
            "include_provider_response",
        }
        request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        with pytest.raises(UnsupportedParameter):
            DIALECT.encode(request, TARGET, stream=True)
        with pytest.raises(UnsupportedParameter):
            strict = ask(include_provider_response=True, unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR)
            DIALECT.encode(strict, TARGET, stream=True)

    def test_options_cannot_change_what_is_paid_for(self) -> None:
        options = {"project_id": "x", "model_id": "y", "model": "z", "time_limit": 9}
        sent = body(ask(provider_options_json={"watsonx": json.dumps(options)}))
        assert sent["project_id"] == "p-1"
        assert "model" not in sent
        assert sent["time_limit"] == 9

    def test_options_cannot_change_the_model(self) -> None:
        assert body(ask(provider_options_json={"watsonx": '{"model_id":"y"}'}))["model_id"] == TARGET.model


class TestAnswers:
    def test_whole(self) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        response = DIALECT.decode(whole("", "tool_calls", tool_calls=[call], reasoning_content="hm"), TARGET)
        assert [part.WhichOneof("kind") for part in response.message.parts] == ["reasoning", "tool_call"]
        assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
        assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 2)
        assert response.route.model == TARGET.model

    @pytest.mark.parametrize(
        ("native", "expected"),
        [
            ("stop", v1.FINISH_REASON_STOP),
            ("length", v1.FINISH_REASON_LENGTH),
            ("time_limit", v1.FINISH_REASON_LENGTH),
            ("cancelled", v1.FINISH_REASON_ERROR),
            ("error", v1.FINISH_REASON_ERROR),
        ],
    )
    def test_finish_reasons(self, native: str, expected: v1.FinishReason.ValueType) -> None:
        for response in (DIALECT.decode(whole("x", native), TARGET), fold(heard([spoken("x", finish=native)]))):
            assert (response.finish_reason, response.native_finish_reason) == (expected, native)

    @given(st.lists(texts, max_size=5), st.data())
    def test_any_split_adds_up_to_the_whole_answer(self, words: list[str], data: st.DataObject) -> None:
        stream = spoken(*words)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert fold(heard(pieces)) == DIALECT.decode(whole("".join(words)), TARGET)

    @given(st.lists(texts, max_size=5), st.data())
    def test_a_prefix_is_interrupted(self, words: list[str], data: st.DataObject) -> None:
        stream = spoken(*words)
        end = stream.rindex(b'"finish_reason": "stop"')  # what comes behind it are the counts
        with pytest.raises(StreamInterrupted):
            heard([stream[: data.draw(st.integers(0, end))]])

    def test_events_that_say_nothing(self) -> None:
        stream = wire(chunk(None)) + spoken("Hi") + wire({}, event="close")
        assert fold(heard([stream])).message.parts == [v1.Part(text="Hi")]

    def test_the_word_errors_is_no_error(self) -> None:
        text = 'there are "errors": [] in it'
        assert fold(heard([spoken(text, '"errors"')])).message.parts[0].text == text + '"errors"'
        assert DIALECT.decode(whole(text), TARGET).message.parts[0].text == text

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ({"errors": [{"code": "downstream_request_failed", "message": "x"}], "status_code": 500}, Unavailable),
            (
                {"errors": [{"code": "invalid_input_argument", "message": "exceeds max sequence"}], "status_code": 400},
                ContextLengthExceeded,
            ),
            ({"errors": [{"code": "authentication_token_expired"}], "status_code": 401}, CredentialsRejected),
            ({"errors": [{"code": "?"}]}, Unavailable),
        ],
    )
    def test_errors_inside(self, said: Any, expected: type[GatewayError]) -> None:
        for stream in (wire(said, event="error"), wire(chunk({"content": "Hi"})) + wire(said, event="error")):
            with pytest.raises(expected):
                heard([stream])
        with pytest.raises(expected):
            DIALECT.decode(json.dumps(said).encode(), TARGET)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'"errors"', b'{"errors"', b'{"errors":[]}'])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            DIALECT.decode(body, TARGET)

    def test_a_frame_that_is_no_json(self) -> None:
        with pytest.raises(ProtocolError):
            DIALECT.decoder(TARGET).feed([b'{"errors":'])
