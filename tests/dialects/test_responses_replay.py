"""A turn that came from the Responses API goes back as it came."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.dialects.openai_responses import ResponsesQuirks
from tests.dialects.responses_ask import assistant, body, call, called, left_out, result, text, user
from tests.dialects.responses_wire import (
    COMPATIBLE,
    OPENAI,
    SERVER,
    decode,
    function_call,
    message,
    reasoning,
    stream,
    streamed,
    words,
)

SEALED = {"encrypted_content": "gAAAA"}
TURN = (
    reasoning("one", "two", **SEALED),
    message(words("I look."), phase="commentary"),
    function_call("f", '{"a":1}', "c1", namespace="n"),
)


def again(
    turn: v1.Message, target: Target = OPENAI, quirks: ResponsesQuirks | None = None
) -> tuple[Any, dict[str, str]]:
    """The items of a turn that is sent back, and what is left out of it."""
    calls = [part.tool_call.id for part in turn.parts if part.HasField("tool_call")]
    rest = [result(text("r"), id=id) for id in calls] or [user(text("Go on."))]
    request = v1.ChatRequest(messages=[user(text("hi")), turn, *rest])
    made = call(request, target, quirks)
    return body(request, target, quirks)["input"][1 : -len(rest)], left_out(made)


def test_reasoning_phase_and_namespace_go_back() -> None:
    found = decode(*TURN)
    items, unmet = again(found.message)
    assert items == [
        reasoning("one", "two", **SEALED),
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look."}],
            "phase": "commentary",
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "namespace": "n"},
    ]
    assert unmet == {}


def test_a_stream_goes_back_just_the_same() -> None:
    whole = {"status": "completed", "id": "resp_1", "model": "m", "output": list(TURN)}
    assert streamed(stream(whole)).message == decode(*TURN).message


@pytest.mark.parametrize(
    "item",
    [
        reasoning(**SEALED),
        reasoning("a summary", **SEALED),
        reasoning("one", "two", **SEALED),
        reasoning(content=["the text"], **SEALED),
        reasoning("short", content=["long"], **SEALED),
    ],
)
def test_reasoning_of_any_form(item: dict[str, Any]) -> None:
    items, unmet = again(decode(item, message(words("a"))).message)
    assert items[0] == item
    assert unmet == {}


def test_the_text_of_reasoning_is_not_kept_twice() -> None:
    [part, _] = decode(reasoning("a long thought", **SEALED), message(words("a"))).message.parts
    assert b"a long thought" not in part.replay_state.data


def test_plain_answers_carry_no_state_so_that_they_can_go_anywhere() -> None:
    found = decode(message(words("a")), function_call())
    assert not any(part.HasField("replay_state") for part in found.message.parts)


@pytest.mark.parametrize("target", [Target("openai", "gpt-5.5"), Target("azure", "gpt-5.4")])
def test_sealed_reasoning_stays_with_the_model_that_minted_it(target: Target) -> None:
    items, unmet = again(decode(reasoning(**SEALED), message(words("a"))).message, target)
    assert [item["type"] for item in items] == ["message"]
    assert unmet == {"messages[1].parts[0]": "REPLAY_STATE_DROPPED"}


def test_reasoning_without_encrypted_content_would_be_looked_up_in_a_store() -> None:
    turn = decode(reasoning("thought"), message(words("a"))).message
    items, unmet = again(turn)
    assert [item["type"] for item in items] == ["message"]
    assert unmet == {"messages[1].parts[0]": "REPLAY_STATE_DROPPED"}


def test_other_servers_take_reasoning_as_text() -> None:
    item = reasoning(content=["thought"])
    found = decode(item, message(words("a")), target=SERVER, quirks=COMPATIBLE)
    items, unmet = again(found.message, SERVER, COMPATIBLE)
    assert items[0] == item
    assert unmet == {}


def test_reasoning_that_nothing_follows_is_left_out() -> None:
    items, unmet = again(decode(reasoning(**SEALED)).message)
    assert items == []
    assert unmet == {"messages[1].parts[0]": "REPLAY_STATE_DROPPED"}


def test_reasoning_of_a_turn_in_several_messages_is_followed_by_the_next() -> None:
    thought = assistant(*decode(reasoning(**SEALED)).message.parts)
    request = v1.ChatRequest(messages=[user(text("hi")), thought, assistant(called()), result(text("r"))])
    assert [item["type"] for item in body(request)["input"]][1:3] == ["reasoning", "function_call"]


def test_reasoning_before_an_item_of_the_provider() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    items, unmet = again(decode(reasoning(**SEALED), search).message)
    assert items == [reasoning(**SEALED), search]
    assert unmet == {}


def test_messages_of_different_phases_stay_apart_and_others_are_joined() -> None:
    found = decode(
        message(words("a"), phase="commentary"), message(words("b"), phase="final_answer"), message(words("c"))
    )
    items, _ = again(found.message)
    assert [item.get("phase") for item in items] == ["commentary", "final_answer", None]
    items, _ = again(decode(message(words("a"), words("b")), message(words("c"))).message)
    assert [len(item["content"]) for item in items] == [3]


def test_foreign_state_is_dropped_with_a_warning() -> None:
    alien = v1.ReplayState(provider="anthropic", model="m", data=b"x")
    of_chat = v1.ReplayState(provider="openai", model="gpt-5.4", data=b'{"field":"reasoning"}')
    broken = v1.ReplayState(provider="openai", model="gpt-5.4", data=b'{"responses":')
    turn = assistant(
        v1.Part(reasoning=v1.ReasoningPart(text="t"), replay_state=alien),
        v1.Part(reasoning=v1.ReasoningPart(text="t"), replay_state=of_chat),
        v1.Part(reasoning=v1.ReasoningPart(text="t")),
        v1.Part(text="a", replay_state=alien),
        called(replay_state=broken),
        v1.Part(provider_part=v1.ProviderPart(provider="gemini", type="x", json="{}")),
    )
    items, unmet = again(turn)
    assert [item["type"] for item in items] == ["message", "function_call"]
    assert set(unmet.values()) == {"REPLAY_STATE_DROPPED"}
    assert list(unmet) == [
        "messages[1].parts[0]",
        "messages[1].parts[1]",
        "messages[1].parts[2]",
        "messages[1].parts[3].replay_state",
        "messages[1].parts[4].replay_state",
        "messages[1].parts[5]",
    ]


def test_chat_completions_of_the_same_provider_leave_the_state_out() -> None:
    request = v1.ChatRequest(messages=[user(text("hi")), decode(*TURN).message, result(text("r"), id="c1")])
    warnings = OpenAIChat().encode(request, OPENAI, stream=False).warnings
    assert {warning.code for warning in warnings} == {"REPLAY_STATE_DROPPED"}
