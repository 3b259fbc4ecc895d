"""How conversations of parts are said in OpenAI's messages."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.openai_chat import Quirks
from tests.dialects.openai_ask import COMPATIBLE, OPENAI, SERVER, body, call, left_out, messages, text, user

# ------------------------------------------------------------------------------------------------------------- messages


def test_roles_and_names() -> None:
    said = [
        v1.Message(role=v1.ROLE_SYSTEM, parts=[text("a")]),
        v1.Message(role=v1.ROLE_DEVELOPER, parts=[text("b")]),
        v1.Message(role=v1.ROLE_USER, name="ann", parts=[text("c")]),
    ]
    assert [m["role"] for m in messages(*said)] == ["system", "developer", "user"]
    assert messages(*said)[2]["name"] == "ann"
    assert [m["role"] for m in messages(*said, quirks=COMPATIBLE)] == ["system", "system", "user"]
    made = call(v1.ChatRequest(messages=said), SERVER, Quirks(participant_names=False))
    assert left_out(made) == {"messages[2].name": "UNSUPPORTED_PARAMETER"}


def test_several_texts_are_blocks_at_openai_and_one_string_elsewhere() -> None:
    said = user(text("a"), text("b"))
    assert messages(said)[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(said, quirks=COMPATIBLE)[0]["content"] == "a\n\nb"


def test_media() -> None:
    png, wav, pdf = b"\x89PNG", b"RIFF", b"%PDF"
    said = user(
        v1.Part(
            image=v1.ImagePart(source=v1.MediaSource(data=png, mime_type="image/png"), detail=v1.IMAGE_DETAIL_HIGH)
        ),
        v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.com/a.png"))),
        v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=wav, mime_type="audio/x-wav"))),
        v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=pdf, mime_type="application/pdf"), title="a.pdf")),
        v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"words", mime_type="text/plain"), title="Notes")),
    )
    data = {name: b64encode(raw).decode() for name, raw in (("png", png), ("wav", wav), ("pdf", pdf))}
    assert messages(said)[0]["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data['png']}", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": data["wav"], "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data['pdf']}"}},
        {"type": "text", "text": "Notes\n\nwords"},
    ]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(uri="https://a/b"))),
            "messages[0].parts[0].audio.source.uri",
        ),
        (
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"x", mime_type="audio/ogg"))),
            "messages[0].parts[0].audio.source.mime_type",
        ),
        (
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri="https://a/b"))),
            "messages[0].parts[0].document.source.uri",
        ),
        (v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json="{}")), "messages[0].parts[0]"),
    ],
)
def test_content_that_cannot_be_said_refuses_the_request_whatever_the_policy(part: v1.Part, field: str) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        call(v1.ChatRequest(messages=[user(part)], unsupported_policy=v1.UNSUPPORTED_POLICY_WARN))
    assert [violation.field for violation in raised.value.violations] == [field]


def test_block_of_the_provider_goes_out_verbatim() -> None:
    block = '{"type":"file","file":{"file_id":"file-1"}}'
    said = messages(user(v1.Part(provider_part=v1.ProviderPart(provider="openai", type="file", json=block))))
    assert said[0]["content"] == [json.loads(block)]


def test_assistant_turn() -> None:
    turn = v1.Message(
        role=v1.ROLE_ASSISTANT,
        parts=[
            text("Let me look."),
            v1.Part(tool_call=v1.ToolCall(id="c1", name="look", arguments_json='{"b": 1, "a": 2}')),
            v1.Part(tool_call=v1.ToolCall(id="c2", name="stop")),
        ],
    )
    assert messages(turn) == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"b": 1, "a": 2}'}},
                {"id": "c2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
            ],
        }
    ]


def test_turn_of_calls_only_has_null_content_and_an_empty_turn_an_empty_one() -> None:
    calls = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(tool_call=v1.ToolCall(id="c", name="f"))])
    assert messages(calls)[0]["content"] is None
    assert messages(v1.Message(role=v1.ROLE_ASSISTANT, parts=[text("")]))[0] == {"role": "assistant", "content": ""}


def test_refusal_goes_back_as_refusal_or_as_text() -> None:
    turn = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(refusal=v1.RefusalPart(text="No."))])
    assert messages(turn)[0] == {"role": "assistant", "content": None, "refusal": "No."}
    assert messages(turn, quirks=COMPATIBLE)[0] == {"role": "assistant", "content": "No."}


def test_tool_results_are_text_and_their_media_follow_in_a_user_turn() -> None:
    image = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.com/a.png")))
    said = messages(
        v1.Message(
            role=v1.ROLE_TOOL,
            parts=[v1.Part(tool_result=v1.ToolResult(tool_call_id="c1", parts=[text("seen"), image]))],
        ),
        v1.Message(
            role=v1.ROLE_TOOL,
            parts=[v1.Part(tool_result=v1.ToolResult(tool_call_id="c2", parts=[text("boom")], is_error=True))],
        ),
        user(text("well?")),
    )
    assert said == [
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: boom"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Attached to the result of tool call c1:"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {"role": "user", "content": "well?"},
    ]


def test_results_in_a_user_message_come_before_its_text() -> None:
    result = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[text("42")]))
    said = messages(user(text("go on"), result))
    assert [m["role"] for m in said] == ["tool", "user"]


# ------------------------------------------------------------------------------------------------------------ reasoning


def thought(provider: str, data: bytes = b'{"field":"reasoning"}', model: str = "some-model") -> v1.Message:
    state = v1.ReplayState(provider=provider, model=model, data=data)
    part = v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=state)
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=[part, text("42")])


def test_reasoning_goes_back_in_the_field_it_came_from() -> None:
    assert messages(thought("local"), quirks=COMPATIBLE)[0] == {"role": "assistant", "content": "42", "reasoning": "hm"}


def test_state_cannot_name_any_other_field() -> None:
    said = messages(thought("local", b'{"field":"role"}'), quirks=COMPATIBLE)[0]
    assert said == {"role": "assistant", "content": "42", "reasoning_content": "hm"}


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"3"])
def test_broken_state_is_no_state(data: bytes) -> None:
    assert messages(thought("local", data), quirks=COMPATIBLE)[0]["reasoning_content"] == "hm"


def test_foreign_reasoning_is_left_out_with_a_warning() -> None:
    for target, quirks in ((SERVER, COMPATIBLE), (OPENAI, None)):
        made = call(v1.ChatRequest(messages=[thought("anthropic")]), target, quirks)
        assert left_out(made) == {"messages[0].parts[0]": "REPLAY_STATE_DROPPED"}
        assert json.loads(made.body)["messages"] == [{"role": "assistant", "content": "42"}]


def test_blocks_of_reasoning_go_back_to_the_model_that_wrote_them_only() -> None:
    data = b'{"field":"reasoning","reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}'
    assert messages(thought("local", data), quirks=COMPATIBLE)[0]["reasoning_details"] == [
        {"type": "reasoning.encrypted", "data": "x"}
    ]
    made = call(v1.ChatRequest(messages=[thought("local", data, model="other")]), SERVER, COMPATIBLE)
    assert left_out(made) == {"messages[0].parts[0].replay_state": "REPLAY_STATE_DROPPED"}
    assert "reasoning_details" not in json.loads(made.body)["messages"][0]


def test_effort_is_sent_or_clamped_with_a_warning() -> None:
    effort = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_XHIGH)
    assert body(v1.ChatRequest(reasoning=effort))["reasoning_effort"] == "xhigh"
    made = call(v1.ChatRequest(reasoning=effort), SERVER, Quirks(efforts=("low", "medium", "high")))
    assert json.loads(made.body)["reasoning_effort"] == "high"
    assert left_out(made) == {"reasoning.effort": "CLAMPED"}
    off = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE)
    assert body(v1.ChatRequest(reasoning=off), SERVER, Quirks(efforts=("low", "high")))["reasoning_effort"] == "low"
    least = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_MINIMAL)
    assert body(v1.ChatRequest(reasoning=least), SERVER, Quirks(efforts=("none", "low")))["reasoning_effort"] == "low"
