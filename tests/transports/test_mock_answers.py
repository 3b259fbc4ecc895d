"""What mock models answer, read from their wire with nothing but a JSON parser."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parley_server.transports.mock import MockModel, MockTransport, tokens
from tests.transports.mock_exchange import ask, chat_body, deltas, message, mock, say, stream, stream_bytes

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Lisbon", "Oslo"]},
                "days": {"type": "integer", "minimum": 2},
            },
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALLS = {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "clock", "arguments": "{}"}]}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


class TestText:
    async def test_echo_answers_with_the_last_user_text(self) -> None:
        history: list[dict[str, Any]] = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
            {"role": "assistant", "content": "trailing"},
        ]
        assert (await message(mock(), history))["content"] == "second"

    async def test_echo_and_embed_are_there_without_configuration(self) -> None:
        transport = MockTransport({})
        status, answer = await ask(transport, "/chat/completions", {**chat_body("ping"), "model": "echo"})
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "ping")
        status, listing = await ask(transport, "/models")
        assert (status, [row["id"] for row in listing["data"]]) == (200, ["echo", "embed"])

    async def test_fixed_reply(self) -> None:
        assert (await message(mock(reply="always this")))["content"] == "always this"

    async def test_first_matching_pattern_wins_and_there_is_a_default(self) -> None:
        transport = mock(
            reply="default",
            replies=[{"pattern": "(?i)weather", "reply": "sunny"}, {"pattern": "weather|time", "reply": "noon"}],
        )
        answers = [(await message(transport, text))["content"] for text in ("The Weather?", "what time", "else")]
        assert answers == ["sunny", "noon", "default"]

    async def test_a_pattern_can_refuse_call_or_reason(self) -> None:
        transport = mock(
            replies=[{"pattern": "bomb", "refusal": "No."}, {"pattern": "why", "reply": "so", "reasoning": "hm"}]
        )
        assert (await message(transport, "a bomb"))["refusal"] == "No."
        assert (await message(transport, "why"))["reasoning_content"] == "hm"

    async def test_same_request_same_bytes(self) -> None:
        assert await stream_bytes(mock(reasoning="r"), logprobs=True) == await stream_bytes(
            mock(reasoning="r"), logprobs=True
        )

    async def test_other_requests_have_other_ids(self) -> None:
        assert (await say(mock(), "a"))["id"] != (await say(mock(), "b"))["id"]

    async def test_token_limit_cuts_reasoning_then_text(self) -> None:
        transport = mock(reply="one two three", reasoning="a b")
        whole = await say(transport, max_completion_tokens=4)
        choice = whole["choices"][0]
        assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("a b", "one two")
        assert choice["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 4
        exact = await say(transport, max_tokens=5)
        assert (exact["choices"][0]["message"]["content"], exact["choices"][0]["finish_reason"]) == (
            "one two three",
            "stop",
        )

    async def test_first_stop_sequence_ends_the_text(self) -> None:
        transport = mock(reply="one, two. three")
        assert (await message(transport, stop=[".", ","]))["content"] == "one"
        assert (await message(transport, stop="two"))["content"] == "one, "

    async def test_finish_reason_can_be_set(self) -> None:
        assert (await say(mock(finish_reason="content_filter")))["choices"][0]["finish_reason"] == "content_filter"


class TestUsage:
    async def test_words_are_tokens(self) -> None:
        usage = (await say(mock(reply="a b c", reasoning="d e", cached_tokens=3), "four words are here"))["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (4, 5, 9)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 3
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 2

    async def test_cached_tokens_never_exceed_the_prompt(self) -> None:
        usage = (await say(mock(cached_tokens=1000), "two words"))["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 2

    async def test_a_picture_counts(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        parts = [{"type": "text", "text": "look here"}, picture]
        assert (await say(mock(), [{"role": "user", "content": parts}]))["usage"]["prompt_tokens"] == 102

    @given(st.text())
    def test_tokens_are_the_text_again_and_counted(self, text: str) -> None:
        split = list(tokens.words(text))
        assert "".join(split) == text
        assert len(split) == tokens.count(text)

    @given(st.text(), st.sampled_from(["words", "whole", 1, 3]))
    def test_pieces_are_the_text_again_and_never_empty(self, text: str, chunking: Any) -> None:
        pieces = list(tokens.pieces(text, chunking))
        assert "".join(pieces) == text
        assert all(pieces)


class TestStream:
    async def test_order_is_role_text_finish_usage_done(self) -> None:
        events = await stream(mock(reply="one two"), "hi", stream_options={"include_usage": True})
        *chunks, done = events
        assert done == "[DONE]"
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
            {"role": "assistant", "content": "", "refusal": None},
            {"content": "one"},
            {"content": " two"},
            {},
        ]
        assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"]] == [None, None, None, "stop"]
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == 3

    async def test_no_usage_unless_asked(self) -> None:
        assert all("usage" not in event for event in await stream(mock()))

    @pytest.mark.parametrize(
        ("chunking", "pieces"),
        [
            ("words", ["ünï", " 😀b", " c\n"]),
            ("whole", ["ünï 😀b c\n"]),
            (3, ["ünï", " 😀b", " c\n"]),
            (4, ["ünï ", "😀b c", "\n"]),
        ],
    )
    async def test_chunking(self, chunking: Any, pieces: list[str]) -> None:
        assert deltas(await stream(mock(chunking=chunking), "ünï 😀b c\n"), "content") == pieces

    async def test_reasoning_comes_before_text(self) -> None:
        events = await stream(mock(reply="so", reasoning="let me think"))
        kinds = [next(iter(event["choices"][0]["delta"]), "") for event in events[:-1]]
        assert kinds == ["role", "reasoning_content", "reasoning_content", "reasoning_content", "content", ""]

    async def test_effort_none_hides_reasoning(self) -> None:
        assert "reasoning_content" not in await message(mock(reasoning="hm"), reasoning_effort="none")

    async def test_refusal(self) -> None:
        events = await stream(mock(refusal="I will not."))
        assert "".join(deltas(events, "refusal")) == "I will not."
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": ""}
        whole = await message(mock(refusal="I will not."))
        assert (whole["content"], whole["refusal"]) == (None, "I will not.")

    async def test_stream_says_what_the_whole_answer_says(self) -> None:
        transport = mock(**CALLS, text_with_calls="one moment", reasoning="a b c")
        asked: dict[str, Any] = {"tools": [WEATHER, CLOCK]}
        whole, events = await message(transport, **asked), await stream(transport, **asked)
        assert "".join(deltas(events, "content")) == whole["content"] == "one moment"
        assert "".join(deltas(events, "reasoning_content")) == whole["reasoning_content"] == "a b c"
        fragments = [call for calls in deltas(events, "tool_calls") for call in calls]
        for index, call in enumerate(whole["tool_calls"]):
            of_call = [fragment["function"] for fragment in fragments if fragment["index"] == index]
            assert of_call[0] == {"name": call["function"]["name"], "arguments": ""}
            assert "".join(fragment["arguments"] for fragment in of_call) == call["function"]["arguments"]


class TestLogprobs:
    async def test_absent_unless_asked(self) -> None:
        assert (await say(mock()))["choices"][0]["logprobs"] is None

    @pytest.mark.parametrize("chunking", ["words", "whole", 2])
    async def test_stream_and_whole_answer_agree(self, chunking: Any) -> None:
        transport = mock(reply="one two", chunking=chunking)
        whole = (await say(transport, logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]["content"]
        events = await stream(transport, logprobs=True, top_logprobs=2)
        logged = [event["choices"][0]["logprobs"] for event in events[:-1]]
        assert [entry for entries in logged if entries for entry in entries["content"]] == whole
        assert [entry["token"] for entry in whole] == ["one", " two"]
        for entry in whole:
            assert -1 < entry["logprob"] <= 0
            assert bytes(entry["bytes"]).decode() == entry["token"]
            first, second = entry["top_logprobs"]
            assert first == {name: entry[name] for name in ("token", "logprob", "bytes")}
            assert second["logprob"] < first["logprob"]


class TestTools:
    async def test_calls_in_parallel(self) -> None:
        choice = (await say(mock(**CALLS), tools=[WEATHER, CLOCK]))["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        calls = choice["message"]["tool_calls"]
        assert [(c["function"]["name"], c["function"]["arguments"]) for c in calls] == [
            ("weather", '{"city":"Oslo"}'),
            ("clock", "{}"),
        ]
        assert len({call["id"] for call in calls}) == 2

    async def test_one_call_where_parallel_ones_are_forbidden(self) -> None:
        answer = await message(mock(**CALLS), tools=[WEATHER, CLOCK], parallel_tool_calls=False)
        assert [call["function"]["name"] for call in answer["tool_calls"]] == ["weather"]

    async def test_only_offered_tools_are_called(self) -> None:
        answer = await message(mock(**CALLS), tools=[CLOCK])
        assert [call["function"]["name"] for call in answer["tool_calls"]] == ["clock"]
        assert (await message(mock(**CALLS, reply="no tools")))["content"] == "no tools"

    async def test_always_calls_what_was_never_offered(self) -> None:
        assert len((await message(mock(**CALLS, call="always")))["tool_calls"]) == 2

    async def test_choice_none_means_text(self) -> None:
        assert (await message(mock(**CALLS), tools=[CLOCK], tool_choice="none"))["content"] == "hello there"

    async def test_a_demanded_call_is_made_up_from_its_schema(self) -> None:
        choice = (await say(mock(), tools=[WEATHER, CLOCK], tool_choice="required"))["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls"
        assert json.loads(call["function"]["arguments"]) == {"city": "Lisbon", "days": 2}

    async def test_a_named_call_finishes_with_stop_as_openai_does(self) -> None:
        choice = (await say(mock(**CALLS), tools=[WEATHER, CLOCK], tool_choice=named("clock")))["choices"][0]
        assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["clock"]
        assert choice["finish_reason"] == "stop"

    async def test_allowed_tools(self) -> None:
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("clock")]}}
        answer = await message(mock(), tools=[WEATHER, CLOCK], tool_choice=allowed)
        assert [call["function"]["name"] for call in answer["tool_calls"]] == ["clock"]

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({}, "12 degrees\nnoon"),
            ({"reply_to_results": "I found: {results}."}, "I found: 12 degrees\nnoon."),
        ],
    )
    async def test_a_tool_loop_ends_in_text_that_uses_the_results(self, settings: dict[str, Any], text: str) -> None:
        transport = mock(**CALLS, **settings, call="always")
        history: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
        answer = await message(transport, history, tools=[WEATHER, CLOCK], tool_choice="required")
        history.append(answer)
        for call, result in zip(answer["tool_calls"], ("12 degrees", "noon"), strict=True):
            history.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        final = await say(transport, history, tools=[WEATHER, CLOCK], tool_choice="required")
        assert final["choices"][0]["message"]["content"] == text
        assert final["choices"][0]["finish_reason"] == "stop"

    async def test_the_next_question_starts_a_new_loop_with_new_ids(self) -> None:
        transport = mock(**CALLS)
        history: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
        first = await message(transport, history, tools=[WEATHER])
        result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "12"}
        history += [first, result, {"role": "user", "content": "and now?"}]
        second = await message(transport, history, tools=[WEATHER])
        assert second["tool_calls"][0]["id"] != first["tool_calls"][0]["id"]

    async def test_broken_arguments_are_sent_as_they_stand(self) -> None:
        transport = mock(tool_calls=[{"name": "clock", "arguments": '{"a":'}])
        assert (await message(transport, tools=[CLOCK]))["tool_calls"][0]["function"]["arguments"] == '{"a":'


class TestStructuredOutput:
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "born": {"type": "string", "format": "date"}},
        "required": ["name", "born"],
        "additionalProperties": False,
    }

    def asked(self, schema: Any = None) -> dict[str, Any]:
        return {
            "type": "json_schema",
            "json_schema": {"name": "person", "strict": True, "schema": schema or self.SCHEMA},
        }

    async def test_answer_is_valid(self) -> None:
        answer = json.loads((await message(mock(), response_format=self.asked()))["content"])
        assert jsonschema_rs.validator_for(self.SCHEMA, validate_formats=True).is_valid(answer)

    async def test_json_object(self) -> None:
        answer = (await message(mock(), "as JSON", response_format={"type": "json_object"}))["content"]
        assert json.loads(answer) == {"answer": "as JSON"}

    async def test_a_fixed_reply_is_said_whatever_was_asked(self) -> None:
        assert (await message(mock(reply="not JSON"), response_format=self.asked()))["content"] == "not JSON"

    async def test_an_impossible_schema_is_refused(self) -> None:
        status, answer = await ask(mock(), "/chat/completions", chat_body(response_format=self.asked({"not": {}})))
        assert (status, answer["error"]["code"]) == (400, "invalid_schema")
        assert answer["error"]["param"] == "response_format"


class TestRefusedRequests:
    @pytest.mark.parametrize(
        ("body", "status", "code", "param"),
        [
            (b"{", 400, None, None),
            (b"[]", 400, None, None),
            ({"messages": []}, 400, "missing_required_parameter", "model"),
            ({"model": "m"}, 400, "missing_required_parameter", "messages"),
            ({"model": "m", "messages": []}, 400, "empty_array", "messages"),
            ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
            (
                {"model": "m", "messages": [{"role": "user", "content": None}]},
                400,
                "invalid_value",
                "messages[0].content",
            ),
            (
                {"model": "m", "messages": [{"role": "user", "content": [{}]}]},
                400,
                "invalid_value",
                "messages[0].content",
            ),
            ({"model": "m", "messages": ["x"]}, 400, "invalid_value", "messages[0].role"),
            (chat_body(model="gone"), 404, "model_not_found", None),
            (chat_body(temperature=3), 400, "invalid_value", "temperature"),
            (chat_body(max_tokens=0), 400, "invalid_value", "max_tokens"),
            (chat_body(top_logprobs=21), 400, "invalid_value", "top_logprobs"),
            (chat_body(stop=["a"] * 17), 400, "invalid_value", "stop"),
            (chat_body(stream_options={}), 400, None, "stream_options"),
            (chat_body(tool_choice="required"), 400, None, "tool_choice"),
            (chat_body(tools=[CLOCK], tool_choice=named("weather")), 400, None, "tool_choice"),
            (chat_body(tools=[{"type": "function"}]), 400, "invalid_value", "tools"),
            (chat_body(parallel_tool_calls=True), 400, None, "parallel_tool_calls"),
            (chat_body(response_format={"type": "xml"}), 400, "invalid_value", "response_format"),
            (chat_body([{"role": "tool", "tool_call_id": "c", "content": "x"}]), 400, None, "messages[0].role"),
        ],
    )
    async def test_with_openais_words(self, body: Any, status: int, code: str | None, param: str | None) -> None:
        said, answer = await ask(mock(), "/chat/completions", body)
        assert (said, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert answer["error"]["type"] == "invalid_request_error"

    async def test_every_call_must_be_answered(self) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        history: list[dict[str, Any]] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "user", "content": "y"},
        ]
        status, answer = await ask(mock(), "/chat/completions", chat_body(history))
        assert status == 400
        assert "c1" in answer["error"]["message"]

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["role", "content", "type", "text", "tool_calls", "id", "function", "name", "arguments"]
                    ),
                    inner,
                )
            ),
            max_leaves=12,
        )
    )
    async def test_any_json_gets_an_answer(self, anything: Any) -> None:
        for field in ("messages", "tools", "tool_choice", "stop", "response_format", "stream_options", "input"):
            for path in ("/chat/completions", "/embeddings"):
                status, _ = await ask(mock(), path, {**chat_body(), field: anything})
                assert status in (200, 400)

    async def test_unknown_paths(self) -> None:
        assert (await ask(mock(), "/nowhere"))[0] == 404
        assert (await ask(mock(), "/models/gone"))[0] == 404
        assert (await ask(mock(), "/models/m"))[1]["id"] == "m"


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"unknown": 1},
            {"cut_after": 1, "stall_after": 1},
            {"cut_after": -1},
            {"size": 10, "endless": True},
            {"chunking": 0},
            {"chunking": "letters"},
            {"replies": [{"reply": "no pattern"}]},
            {"replies": [{"pattern": "("}]},
            {"errors": [{"status": 200}]},
            {"errors": [{"status": 500, "cut_after": 1}]},
            {"errors": [{"retry_after": 1}]},
        ],
    )
    def test_nonsense_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            MockModel.model_validate(settings)

    def test_every_setting_is_documented(self) -> None:
        assert [name for name, field in MockModel.model_fields.items() if not field.description] == []
