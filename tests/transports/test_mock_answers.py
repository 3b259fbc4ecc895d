"""What mock models answer, read from their wire with nothing but a JSON parser."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.transports.mock import MockTransport, tokens
from tests.transports.mock_exchange import (
    CALLS,
    CLOCK,
    WEATHER,
    ask,
    chat_body,
    deltas,
    message,
    mock,
    say,
    stream,
    stream_bytes,
)


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

    async def test_echo_embed_and_rerank_are_there_without_configuration(self) -> None:
        transport = MockTransport({})
        status, answer = await ask(transport, "/chat/completions", {**chat_body("ping"), "model": "echo"})
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "ping")
        status, listing = await ask(transport, "/models")
        assert (status, [row["id"] for row in listing["data"]]) == (200, ["echo", "embed", "rerank"])

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
