"""Messages and their parts in the words of the Messages API."""

from __future__ import annotations

import base64
import json

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from tests.dialects.anthropic_ask import (
    ASSISTANT,
    HI,
    PNG,
    SYSTEM,
    TOOL,
    USER,
    blocks_of,
    body_of,
    call_of,
    request,
    turn,
    warned,
)


class TestConversation:
    def test_leading_instructions_are_hoisted(self) -> None:
        body = body_of(request(turn(SYSTEM, "Be brief."), turn(v1.ROLE_DEVELOPER, "Rhyme.", " "), HI))
        assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Rhyme."}]
        assert [said["role"] for said in body["messages"]] == ["user"]

    def test_later_instructions_are_folded_into_a_user_turn(self) -> None:
        asked = request(HI, turn(ASSISTANT, "Hello."), turn(SYSTEM, "Now in French."), turn(USER, "Bye?"))
        assert body_of(asked)["messages"][-1] == {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system>\nNow in French.\n</system>"},
                {"type": "text", "text": "Bye?"},
            ],
        }
        assert warned(asked) == [("messages[2]", "FOLDED")]

    def test_later_instructions_keep_their_role_where_the_card_says_so(self) -> None:
        target = Target("anthropic", "claude-opus-5", v1.Model(capabilities=["system-turns"]))
        asked = request(HI, turn(SYSTEM, "Now in French."), HI)
        roles = [said["role"] for said in body_of(asked, target)["messages"]]
        assert roles == ["user", "system", "user"]
        assert warned(asked, target) == []

    def test_only_text_can_instruct(self) -> None:
        asked = request(turn(SYSTEM, "Look:", v1.Part(image=v1.ImagePart(source=PNG))), HI)
        assert body_of(asked)["system"] == [{"type": "text", "text": "Look:"}]
        assert warned(asked) == [("messages[0]", "UNSUPPORTED_PARAMETER")]

    def test_turns_of_one_role_are_joined_and_results_come_first(self) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="a", name="f", arguments_json="{}"))
        result = v1.Part(tool_result=v1.ToolResult(tool_call_id="a", parts=[v1.Part(text="42")]))
        messages = body_of(request(HI, turn(ASSISTANT, call), turn(USER, "Well?"), turn(TOOL, result)))["messages"]
        assert [said["role"] for said in messages] == ["user", "assistant", "user"]
        assert [block["type"] for block in messages[-1]["content"]] == ["tool_result", "text"]

    def test_blank_text_is_left_out(self) -> None:
        assert blocks_of(turn(USER, "", " \n", "hi")) == [{"type": "text", "text": "hi"}]

    def test_instructions_alone_cannot_be_sent(self) -> None:
        for messages in ([turn(SYSTEM, "Be brief.")], [turn(USER, " ")]):
            with pytest.raises(UnsupportedParameter) as raised:
                call_of(request(*messages))
            assert raised.value.violations[0].field == "messages"

    def test_white_space_at_the_end_of_a_prefill_goes(self) -> None:
        asked = request(HI, turn(ASSISTANT, "The answer is: "))
        assert body_of(asked)["messages"][-1]["content"] == [{"type": "text", "text": "The answer is:"}]
        assert warned(asked) == [("messages[1]", "TRIMMED")]
        assert warned(request(HI, turn(ASSISTANT, "Yes. "), HI)) == []

    def test_names_are_unmet(self) -> None:
        asked = request(v1.Message(role=USER, name="ann", parts=[v1.Part(text="hi")]))
        assert warned(asked) == [("messages[0].name", "UNSUPPORTED_PARAMETER")]


class TestParts:
    def test_images(self) -> None:
        by_data = v1.Part(image=v1.ImagePart(source=PNG))
        by_uri = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://x.example/a.png")))
        data = base64.b64encode(b"\x89PNG").decode()
        assert blocks_of(turn(USER, by_data, by_uri)) == [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        ]

    def test_image_detail_is_unmet(self) -> None:
        part = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW))
        assert warned(request(turn(USER, part))) == [("messages[0].parts[0].image.detail", "UNSUPPORTED_PARAMETER")]

    def test_documents(self) -> None:
        pdf = v1.MediaSource(data=b"%PDF", mime_type="application/pdf")
        text = v1.MediaSource(data="# Hé".encode(), mime_type="text/markdown")
        url = v1.MediaSource(uri="https://x.example/a.pdf")
        parts = [
            v1.Part(document=v1.DocumentPart(source=pdf, title="A", context="old", citations_enabled=True)),
            v1.Part(document=v1.DocumentPart(source=text, citations_enabled=False)),
            v1.Part(document=v1.DocumentPart(source=url)),
        ]
        encoded = base64.b64encode(b"%PDF").decode()
        assert blocks_of(turn(USER, *parts)) == [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": encoded},
                "title": "A",
                "context": "old",
                "citations": {"enabled": True},
            },
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "# Hé"},
                "citations": {"enabled": False},
            },
            {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        ]

    def test_a_text_document_must_be_utf_8(self) -> None:
        source = v1.MediaSource(data=b"\xff", mime_type="text/plain")
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(turn(USER, v1.Part(document=v1.DocumentPart(source=source)))))
        assert raised.value.violations[0].field == "messages[0].parts[0].document.source.data"

    def test_audio_is_unmet(self) -> None:
        asked = request(turn(USER, "hi", v1.Part(audio=v1.AudioPart(source=PNG))))
        assert warned(asked) == [("messages[0].parts[1].audio", "UNSUPPORTED_PARAMETER")]

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ('{"b": 1, "a": 12345678901234567890123}', '{"b": 1, "a": 12345678901234567890123}'),
            ("", "{}"),
            ("[1]", '{"arguments":"[1]"}'),
            ('{"a": tru', '{"arguments":"{\\"a\\": tru"}'),
        ],
    )
    def test_arguments_are_sent_as_the_model_wrote_them_or_wrapped(self, written: str, sent: str) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="toolu_1", name="f", arguments_json=written))
        raw = call_of(request(HI, turn(ASSISTANT, call))).body.decode()
        assert f'{{"type":"tool_use","id":"toolu_1","name":"f","input":{sent}}}' in raw

    def test_ids_of_others_are_made_fit_alike(self) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="functions.f:0", name="f", arguments_json="{}"))
        result = v1.Part(tool_result=v1.ToolResult(tool_call_id="functions.f:0"))
        use, answer = blocks_of(turn(ASSISTANT, call), turn(TOOL, result))
        assert use["id"] == answer["tool_use_id"] == "functions_f_0"

    def test_results_with_blocks_and_errors(self) -> None:
        parts = [v1.Part(text="see"), v1.Part(image=v1.ImagePart(source=PNG))]
        result = v1.ToolResult(tool_call_id="a", parts=parts, is_error=True)
        (block,) = blocks_of(turn(TOOL, v1.Part(tool_result=result)))
        assert block["is_error"] is True
        assert [inner["type"] for inner in block["content"]] == ["text", "image"]
        (empty,) = blocks_of(turn(TOOL, v1.Part(tool_result=v1.ToolResult(tool_call_id="a"))))
        assert empty == {"type": "tool_result", "tool_use_id": "a"}

    def test_a_refusal_is_text(self) -> None:
        refusal = v1.Part(refusal=v1.RefusalPart(text="No.", category="bio"))
        assert blocks_of(HI, turn(ASSISTANT, refusal))[1:] == [{"type": "text", "text": "No."}]

    def test_blocks_of_the_provider_go_verbatim_and_in_place(self) -> None:
        block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"z": 1, "a": 2}}
        part = v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json=json.dumps(block)))
        sent = blocks_of(HI, turn(ASSISTANT, "Looking.", part, "Found."))
        assert [item["type"] for item in sent[1:]] == ["text", "server_tool_use", "text"]
        assert json.dumps(sent[2]) == json.dumps(block)

    def test_blocks_of_another_provider_are_left_out(self) -> None:
        part = v1.Part(provider_part=v1.ProviderPart(provider="openai", json='{"type":"x"}'))
        assert warned(request(turn(USER, "hi", part))) == [("messages[0].parts[1]", "PROVIDER_PART_DROPPED")]

    @pytest.mark.parametrize("text", ["", "[]", "{"])
    def test_a_provider_part_must_be_an_object(self, text: str) -> None:
        part = v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json=text))
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(turn(USER, part)))
        assert raised.value.violations[0].field == "messages[0].parts[0].provider_part.json"
