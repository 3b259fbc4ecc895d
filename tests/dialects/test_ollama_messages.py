"""The messages that Ollama is sent, for what our turns say."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from parley import v1
from tests.dialects.ollama_ask import ASSISTANT, PNG, body, left_out, made, messages, refused, text, user
from tests.dialects.ollama_wire import call, last, unary


class TestMessages:
    def test_roles(self) -> None:
        said = messages(
            v1.Message(role=v1.ROLE_SYSTEM, parts=[text("a")]),
            v1.Message(role=v1.ROLE_DEVELOPER, parts=[text("b")]),
            user(text("c")),
            v1.Message(role=ASSISTANT, parts=[text("d")]),
        )
        assert said == [
            {"role": "system", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]

    def test_texts_are_joined_by_blank_lines_and_those_of_the_model_by_nothing(self) -> None:
        said = messages(user(text("a"), text("b")), v1.Message(role=ASSISTANT, parts=[text("c"), text("d")]))
        assert [message["content"] for message in said] == ["a\n\nb", "cd"]

    def test_images_stand_beside_the_text(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG))
        assert messages(user(text("what is"), image, text("this?"), image)) == [
            {"role": "user", "content": "what is\n\nthis?", "images": [b64encode(b"\x89PNG").decode()] * 2}
        ]
        assert messages(user(image)) == [{"role": "user", "content": "", "images": [b64encode(b"\x89PNG").decode()]}]

    def test_an_image_by_uri_is_refused(self) -> None:
        part = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.org/a.png")))
        assert refused(v1.ChatRequest(messages=[user(text("?"), part)])) == ["messages[0].parts[1].image.source.uri"]

    def test_text_documents_are_text(self) -> None:
        source = v1.MediaSource(data="Straße".encode(), mime_type="text/markdown")
        part = v1.Part(document=v1.DocumentPart(source=source, title="Notes", context="of today"))
        assert messages(user(part, text("sum up")))[0]["content"] == "Notes\n\nof today\n\nStraße\n\nsum up"

    @pytest.mark.parametrize(
        "part",
        [
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"RIFF", mime_type="audio/wav"))),
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"%PDF", mime_type="application/pdf"))),
            v1.Part(provider_part=v1.ProviderPart(provider="anthropic", type="x", json="{}")),
            v1.Part(reasoning=v1.ReasoningPart(text="hm")),
        ],
        ids=["audio", "pdf", "provider_part", "reasoning"],
    )
    def test_content_that_cannot_be_said_refuses_the_request(self, part: v1.Part) -> None:
        assert refused(v1.ChatRequest(messages=[user(text("a")), user(part)])) == ["messages[1].parts[0]"]

    def test_instructions_are_text(self) -> None:
        message = v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(image=v1.ImagePart(source=PNG))])
        assert refused(v1.ChatRequest(messages=[message])) == ["messages[0].parts[0]"]

    def test_small_wishes_are_left_out_with_a_warning(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW))
        cached = v1.Part(text="x", cache_breakpoint=v1.CacheBreakpoint())
        source = v1.MediaSource(data=b"x", mime_type="text/plain")
        cited = v1.Part(document=v1.DocumentPart(source=source, citations_enabled=True))
        request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, name="ann", parts=[image, cached, cited])])
        assert left_out(request) == {
            "messages[0].name": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[0].image.detail": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[1].cache_breakpoint": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[2].document.citations_enabled": "UNSUPPORTED_PARAMETER",
        }
        request.prompt_cache.mode = v1.PromptCacheOptions.MODE_OFF
        assert "messages[0].parts[1].cache_breakpoint" not in left_out(request)


class TestTurns:
    def test_tool_calls_and_results(self) -> None:
        called = v1.Part(
            tool_call=v1.ToolCall(id="call_1", name="add", arguments_json='{"y":1,"x":12345678901234567890}')
        )
        named = v1.ToolResult(tool_call_id="call_1", name="sum", parts=[text("3")])
        unnamed = v1.ToolResult(tool_call_id="call_1", parts=[text("no"), text("way")], is_error=True)
        request = v1.ChatRequest(
            messages=[
                v1.Message(role=ASSISTANT, parts=[called]),
                v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=named), v1.Part(tool_result=unnamed)]),
            ]
        )
        raw = made(request).body
        assert b'{"y":1,"x":12345678901234567890}' in raw  # as the model wrote it, key order and all
        assert json.loads(raw)["messages"] == [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "call_1", "function": {"name": "add", "arguments": {"y": 1, "x": 12345678901234567890}}}
                ],
            },
            {"role": "tool", "content": "3", "tool_name": "sum", "tool_call_id": "call_1"},
            {"role": "tool", "content": "Error: no\n\nway", "tool_name": "add", "tool_call_id": "call_1"},
        ]

    @pytest.mark.parametrize(
        ("written", "sent"),
        [("", {}), ("{}", {}), ("[1]", {"arguments": "[1]"}), ('{"x":', {"arguments": '{"x":'})],
    )
    def test_arguments_are_always_an_object(self, written: str, sent: Any) -> None:
        part = v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments_json=written))
        said = messages(v1.Message(role=ASSISTANT, parts=[part]))
        assert said[0]["tool_calls"][0]["function"]["arguments"] == sent

    def test_images_of_results_follow_in_a_user_message(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG))
        results = [
            v1.Part(tool_result=v1.ToolResult(tool_call_id="a", name="f", parts=[image])),
            v1.Part(tool_result=v1.ToolResult(tool_call_id="b", name="f", parts=[text("ok"), image])),
        ]
        said = messages(v1.Message(role=v1.ROLE_TOOL, parts=results), user(text("go on")))
        assert [(message["role"], message["content"]) for message in said] == [
            ("tool", "The result is attached to the next user message."),
            ("tool", "ok"),
            ("user", "Attached to the result of tool call a:\n\nAttached to the result of tool call b:"),
            ("user", "go on"),
        ]
        assert len(said[2]["images"]) == 2

    def test_a_decoded_turn_goes_back_as_it_came(self) -> None:
        answer = last({"thinking": "Hm", "content": "So", "tool_calls": [call("add", {"x": 2}, id="call_7")]})
        said = messages(unary(answer).message)
        assert said == [
            {
                "role": "assistant",
                "content": "So",
                "thinking": "Hm",
                "tool_calls": [{"id": "call_7", "function": {"name": "add", "arguments": {"x": 2}}}],
            }
        ]

    def test_foreign_reasoning_and_state_are_left_out(self) -> None:
        foreign = v1.ReplayState(provider="anthropic", model="m", data=b"signature")
        request = v1.ChatRequest(
            messages=[
                v1.Message(
                    role=ASSISTANT,
                    parts=[
                        v1.Part(reasoning=v1.ReasoningPart(text="theirs"), replay_state=foreign),
                        v1.Part(text="kept", replay_state=foreign),
                        v1.Part(provider_part=v1.ProviderPart(provider="openai", type="x", json="{}")),
                        v1.Part(refusal=v1.RefusalPart(text=" but no")),
                    ],
                )
            ]
        )
        assert left_out(request) == {
            "messages[0].parts[0]": "REPLAY_STATE_DROPPED",
            "messages[0].parts[1].replay_state": "REPLAY_STATE_DROPPED",
            "messages[0].parts[2]": "REPLAY_STATE_DROPPED",
        }
        assert body(request)["messages"] == [{"role": "assistant", "content": "kept but no"}]

    def test_reasoning_of_nobody_in_particular_is_sent(self) -> None:
        part = v1.Part(reasoning=v1.ReasoningPart(text="Hm"))
        assert messages(v1.Message(role=ASSISTANT, parts=[part, text("a")]))[0]["thinking"] == "Hm"
