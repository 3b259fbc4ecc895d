"""An answer that is sent back says what the model said: block by block, signature by signature."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from tests.dialects.anthropic_wire import DIALECT, TARGET, message, messages, read, streamed, wire

ASK = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
GO_ON = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="go on")])


def send_back(answer: v1.Message, target: Target = TARGET, *then: v1.Message) -> HttpCall:
    return DIALECT.encode(v1.ChatRequest(messages=[ASK, answer, *(then or [GO_ON])]), target, stream=False)


def assistant(call: HttpCall) -> list[dict[str, Any]]:
    turns = json.loads(call.body)["messages"]
    return next((turn["content"] for turn in turns if turn["role"] == "assistant"), [])


def plain(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks without what says nothing: blank text, no citations, the direct caller."""
    said = [block for block in blocks if block.get("text", "…").strip()]
    silent: tuple[Any, ...] = ([], {"type": "direct"})
    return [{name: value for name, value in block.items() if value not in silent or name == "input"} for block in said]


@given(messages)
def test_any_turn_goes_back_as_it_came(whole: dict[str, Any]) -> None:
    for answer in (DIALECT.decode(json.dumps(whole).encode(), TARGET), read(wire(*streamed(whole)))):
        call = send_back(answer.message)
        sent = assistant(call)
        if whole["stop_reason"] == "refusal":
            assert sent.pop() == {"type": "text", "text": "No."}
        assert plain(sent) == plain(whole["content"])
        assert call.warnings == ()


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
TURN = message(
    [
        THOUGHT,
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1, "a": {"y": 2**70}}},
    ],
    stop_reason="tool_use",
)


def test_a_thinking_turn_with_tools_goes_back_to_the_letter() -> None:
    answer = read(wire(*streamed(TURN, lambda text: [text])))
    assert json.dumps(assistant(send_back(answer.message))) == json.dumps(TURN["content"])


@pytest.mark.parametrize("target", [Target("vertex", TARGET.model), Target("anthropic", "claude-opus-4-6")])
def test_foreign_reasoning_stays_behind(target: Target) -> None:
    answer = DIALECT.decode(json.dumps(TURN).encode(), TARGET)
    call = send_back(answer.message, target)
    assert [block["type"] for block in assistant(call)] == ["text", "tool_use"]
    assert [(w.field, w.code) for w in call.warnings] == [
        ("messages[1].parts[0]", "REPLAY_STATE_DROPPED"),
        ("messages[1].parts[1]", "REPLAY_STATE_DROPPED"),
    ]


def test_reasoning_without_a_signature_stays_behind() -> None:
    said = v1.Message(
        role=v1.ROLE_ASSISTANT, parts=[v1.Part(reasoning=v1.ReasoningPart(text="Hm.")), v1.Part(text="Yes.")]
    )
    call = send_back(said)
    assert assistant(call) == [{"type": "text", "text": "Yes."}]
    assert [w.code for w in call.warnings] == ["REPLAY_STATE_DROPPED"]


def test_a_turn_of_foreign_reasoning_alone_vanishes() -> None:
    said = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(reasoning=v1.ReasoningPart(text="Hm."))])
    turns = json.loads(send_back(said).body)["messages"]
    assert [turn["role"] for turn in turns] == ["user"]


def test_parts_go_without_the_state_of_another_provider() -> None:
    state = v1.ReplayState(provider="gemini", model="g", data=b"\xff\x00")
    part = v1.Part(tool_call=v1.ToolCall(id="a", name="f", arguments_json="{}"), replay_state=state)
    call = send_back(v1.Message(role=v1.ROLE_ASSISTANT, parts=[part]))
    assert assistant(call) == [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]
    assert [(w.field, w.code) for w in call.warnings] == [("messages[1].parts[0]", "REPLAY_STATE_DROPPED")]


@pytest.mark.parametrize("data", [b"\xff", b"[]", b'"x"'])
def test_a_state_that_is_not_ours_after_all_is_left_out(data: bytes) -> None:
    state = v1.ReplayState(provider="anthropic", model=TARGET.model, data=data)
    call = send_back(v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Yes.", replay_state=state)]))
    assert assistant(call) == [{"type": "text", "text": "Yes."}]
    assert [w.code for w in call.warnings] == ["REPLAY_STATE_DROPPED"]


def test_a_state_cannot_change_what_a_block_is() -> None:
    forged = json.dumps({"type": "tool_use", "text": "No.", "cache_control": {}, "citations": [{"type": "x"}]})
    state = v1.ReplayState(provider="anthropic", model=TARGET.model, data=forged.encode())
    sent = assistant(send_back(v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Yes.", replay_state=state)])))
    assert sent == [{"type": "text", "text": "Yes.", "citations": [{"type": "x"}]}]


def test_web_citations_keep_what_the_provider_needs_to_see_again() -> None:
    cited = {
        "type": "web_search_result_location",
        "url": "https://x.example",
        "encrypted_index": "e",
        "cited_text": "w",
    }
    block = {"type": "text", "text": "Yes.", "citations": [cited]}
    answer = read(wire(*streamed(message([block]))))
    assert assistant(send_back(answer.message)) == [block]


def test_a_paused_turn_goes_on_in_its_container() -> None:
    container = {"id": "container_1", "expires_at": "2026-11-20T00:00:00Z"}
    use = {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}}
    answer = read(wire(*streamed(message([use], stop_reason="pause_turn", container=container))))
    assert answer.finish_reason == v1.FINISH_REASON_PAUSE
    paused = DIALECT.encode(v1.ChatRequest(messages=[ASK, answer.message]), TARGET, stream=False)
    assert json.loads(paused.body)["container"] == "container_1"
    assert assistant(paused) == [use]
    later = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Done.")])
    assert "container" not in json.loads(send_back(answer.message, TARGET, GO_ON, later, GO_ON).body)
