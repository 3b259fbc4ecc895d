"""Conversations as GenAI JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.transcript import answer, conversation, definitions
from tests.strategies import responses

IMAGE = v1.MediaSource(uri="https://host/cat.png?sig=abcdefghijklmnopqrstuvwxyz", mime_type="image/png")


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (v1.Part(text="hi"), {"type": "text", "content": "hi"}),
        (v1.Part(refusal=v1.RefusalPart(text="no")), {"type": "refusal", "content": "no"}),
        (v1.Part(reasoning=v1.ReasoningPart(text="hm")), {"type": "reasoning", "content": "hm"}),
        (
            v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments_json='{"a":1}')),
            {"type": "tool_call", "id": "c", "name": "f", "arguments": '{"a":1}'},
        ),
        (
            v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[v1.Part(text="42")])),
            {"type": "tool_call_response", "id": "c", "response": [{"type": "text", "content": "42"}]},
        ),
        (
            v1.Part(image=v1.ImagePart(source=IMAGE)),
            {
                "type": "uri",
                "modality": "image",
                "mime_type": "image/png",
                "uri": "https://host/cat.png?sig=[redacted]",
            },
        ),
        (
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"123", mime_type="audio/wav"))),
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "size": 3},
        ),
        (
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"12", mime_type="application/pdf"))),
            {"type": "blob", "modality": "document", "mime_type": "application/pdf", "size": 2},
        ),
        (
            v1.Part(provider_part=v1.ProviderPart(provider="p", type="search", json="{}")),
            {"type": "search", "content": "{}"},
        ),
    ],
    ids=lambda value: value.WhichOneof("kind") if isinstance(value, v1.Part) else "",
)
def test_parts(part: v1.Part, shown: dict[str, Any]) -> None:
    messages = [v1.Message(role=v1.ROLE_TOOL, parts=[part])]
    assert json.loads(conversation(messages)) == [{"role": "tool", "parts": [shown]}]


def test_newest_messages_are_kept_in_order() -> None:
    messages = [v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=f"{i:04}")]) for i in range(100)]
    kept = json.loads(conversation(messages, limit=10))
    assert [message["parts"][0]["content"] for message in kept[1:]] == ["0098", "0099"]
    assert kept[0]["parts"][0]["content"] == "00… (and 2 more characters)"


def test_tools() -> None:
    tools = [
        v1.Tool(function=v1.FunctionTool(name="f", description="does f", parameters_json_schema='{"type":"object"}')),
        v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json='{"type":"web_search"}')),
    ]
    assert json.loads(definitions(tools)) == [
        {"type": "function", "name": "f", "description": "does f", "parameters": '{"type":"object"}'},
        {"type": "openai", "definition": '{"type":"web_search"}'},
    ]


@given(responses(), st.integers(0, 60))
def test_always_valid_and_never_with_replay_state(response: v1.ChatResponse, limit: int) -> None:
    for part in response.message.parts:
        part.replay_state.CopyFrom(v1.ReplayState(provider="p", data=b"opaque-replay-bytes"))
    text = answer(response, "stop", limit)
    [message] = json.loads(text)
    assert message["finish_reason"] == "stop"
    assert "opaque-replay-bytes" not in text
