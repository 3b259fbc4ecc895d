"""Thought signatures: they come back on the part they came with, to the model that wrote them, and to no other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from tests.dialects.gemini_ask import (
    ASSISTANT,
    HI,
    OLDER,
    TOOL,
    body_of,
    called,
    contents_of,
    parts_of,
    request,
    result,
    state,
    turn,
    warned,
)
from tests.dialects.gemini_wire import answer, decoded, read, streamed, wire

SKIP = "skip_thought_signature_validator"
CALL = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}
SIGNED: list[dict[str, Any]] = [
    {"text": "Let me see.", "thought": True},
    {"text": "I look. "},
    {"text": "Twice.", "thoughtSignature": "dGV4dA=="},
    {**CALL, "thoughtSignature": "Y2FsbA=="},
    CALL,
    {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "Y29kZQ=="},
    {"text": "", "thoughtSignature": "ZW1wdHk="},
]


@pytest.mark.parametrize("way", ["whole", "stream"])
def test_a_turn_goes_back_as_it_came(way: str) -> None:
    said = decoded(answer(SIGNED)) if way == "whole" else read(wire(*streamed(answer(SIGNED), lambda text: list(text))))
    assert contents_of(HI, said.message, HI)[1]["parts"] == SIGNED
    assert warned(request(HI, said.message, HI)) == []


def test_parts_with_signatures_are_never_joined() -> None:
    parts = [{"text": "a"}, {"text": "b"}, {"text": "c", "thoughtSignature": "cw=="}, {"text": "d"}]
    said = decoded(answer(parts)).message.parts
    assert [(part.text, part.replay_state.data) for part in said] == [("ab", b""), ("c", b"cw=="), ("d", b"")]


def test_a_part_that_is_nothing_but_a_signature_survives() -> None:
    (part,) = decoded(answer([{"thoughtSignature": "cw=="}])).message.parts
    assert (part.text, part.replay_state.data) == ("", b"cw==")
    assert parts_of(HI, turn(ASSISTANT, part), HI)[1] == {"text": "", "thoughtSignature": "cw=="}


def test_the_state_names_its_minter() -> None:
    part = decoded(answer([{**CALL, "thoughtSignature": "cw=="}])).message.parts[0]
    assert part.replay_state == state(b"cw==")


@pytest.mark.parametrize("other", [state(provider="vertex"), state(model="gemini-2.5-pro"), state(provider="openai")])
def test_signatures_of_others_are_left_out(other: v1.ReplayState) -> None:
    messages = [HI, turn(ASSISTANT, v1.Part(text="x", replay_state=other)), HI]
    assert parts_of(*messages)[1] == {"text": "x"}
    assert warned(request(*messages)) == [("messages[1].parts[0].replay_state", "REPLAY_STATE_DROPPED")]


@pytest.mark.parametrize("whose", [state(provider="anthropic"), state(model="gemini-2.5-pro"), None])
def test_reasoning_of_others_is_left_out(whose: v1.ReplayState | None) -> None:
    thought = v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=whose)
    messages = [HI, turn(ASSISTANT, thought, "x"), HI]
    assert parts_of(*messages)[1] == {"text": "x"}
    assert warned(request(*messages)) == [("messages[1].parts[0]", "REPLAY_STATE_DROPPED")]


def test_redacted_reasoning_without_a_signature_says_nothing() -> None:
    thought = v1.Part(reasoning=v1.ReasoningPart(redacted=True), replay_state=state(b""))
    assert parts_of(HI, turn(ASSISTANT, thought, "x"), HI)[1] == {"text": "x"}


def test_calls_from_elsewhere_get_the_documented_stand_in() -> None:
    calls = turn(ASSISTANT, called("call_1"), called("call_2"))
    messages = [HI, calls, turn(TOOL, result("call_1", "a"), result("call_2", "b"))]
    first, second = contents_of(*messages)[1]["parts"]
    assert first["thoughtSignature"] == SKIP
    assert "thoughtSignature" not in second
    for target in (OLDER, Target("gemini", "gemini-2.0-flash")):
        assert SKIP not in json.dumps(body_of(request(*messages), target))
    assert SKIP in json.dumps(body_of(request(*messages), Target("gemini", "gemini-flash-latest")))


def test_a_signature_of_another_model_is_replaced_on_calls() -> None:
    calls = turn(ASSISTANT, called("call_1", replay_state=state(model="gemini-2.5-pro")))
    messages = [HI, calls, turn(TOOL, result("call_1", "a"))]
    assert contents_of(*messages)[1]["parts"][0]["thoughtSignature"] == SKIP
    assert warned(request(*messages)) == [("messages[1].parts[0].replay_state", "REPLAY_STATE_DROPPED")]


def test_signed_calls_are_left_alone() -> None:
    calls = turn(ASSISTANT, called("call_1", replay_state=state(b"bWluZQ==")), called("call_2"))
    parts = contents_of(HI, calls, turn(TOOL, result("call_1", "a"), result("call_2", "b")))[1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["bWluZQ==", None]
