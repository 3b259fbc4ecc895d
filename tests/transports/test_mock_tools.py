"""Which tools mock models call, and how a loop of calls and results ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transports.mock_exchange import (
    CALLS,
    CLOCK,
    WEATHER,
    message,
    mock,
    named,
    say,
)


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
