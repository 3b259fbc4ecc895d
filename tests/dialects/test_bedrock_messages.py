"""Conversations as Converse wants them: roles in turn, results first, and nothing that a family of models refuses."""

from __future__ import annotations

import base64
import json

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from tests.dialects.bedrock_ask import (
    ASSISTANT,
    CALL,
    HI,
    PNG,
    SYSTEM,
    TOOL,
    USER,
    body_of,
    call_of,
    pdf,
    request,
    result,
    turn,
    turns_of,
    warned,
)
from tests.dialects.bedrock_wire import CLAUDE, NOVA

LLAMA = Target("bedrock", "us.meta.llama3-3-70b-instruct-v1:0")
MISTRAL = Target("bedrock", "mistral.mistral-large-2407-v1:0")
TITAN = Target("bedrock", "amazon.titan-text-express-v1")
R1 = Target("bedrock", "us.deepseek.r1-v1:0")
USE = {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"x": 1}}}
DONE = {"toolResult": {"toolUseId": "c1", "content": [{"text": "done"}]}}


def test_instructions_lead_and_neighbours_are_joined() -> None:
    body = body_of(
        request(turn(SYSTEM, "Be brief."), HI, turn(USER, "there"), turn(ASSISTANT, "yes"), turn(USER, "ok"))
    )
    assert body["system"] == [{"text": "Be brief."}]
    assert [(said["role"], said["content"]) for said in body["messages"]] == [
        ("user", [{"text": "hi"}, {"text": "there"}]),
        ("assistant", [{"text": "yes"}]),
        ("user", [{"text": "ok"}]),
    ]


def test_results_lead_their_turn_whatever_they_came_with() -> None:
    asked = (HI, turn(ASSISTANT, CALL), turn(TOOL, "look:", result("done")))
    assert turns_of(*asked)[1:] == [("assistant", [USE]), ("user", [DONE, {"text": "look:"}])]


@pytest.mark.parametrize(("target", "beside"), [(CLAUDE, PNG), (NOVA, pdf())])
def test_what_may_share_a_turn_with_results_does(target: Target, beside: v1.Part) -> None:
    turns = turns_of(HI, turn(ASSISTANT, CALL), turn(USER, result("done"), "and", beside), target=target)
    assert [role for role, _ in turns] == ["user", "assistant", "user"]


@pytest.mark.parametrize(("target", "beside"), [(CLAUDE, pdf()), (LLAMA, v1.Part(text="more"))])
def test_what_may_not_follows_in_a_turn_of_its_own(target: Target, beside: v1.Part) -> None:
    asked = request(HI, turn(ASSISTANT, CALL), turn(USER, beside, result("done")))
    turns = [(said["role"], len(said["content"])) for said in body_of(asked, target)["messages"]]
    assert turns[2:4] == [("user", 1), ("assistant", 1)]
    assert turns[4][0] == "user"
    assert ("SYNTHETIC_TURN") in [code for _, code in warned(asked, target)]
    call_of(request(*asked.messages, unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR), target)  # nothing was left out


def test_several_results_stay_together_in_order() -> None:
    second = v1.Part(tool_call=v1.ToolCall(id="c2", name="g", arguments_json=""))
    turns = turns_of(HI, turn(ASSISTANT, CALL, second), turn(TOOL, result("a")), turn(TOOL, result("b", id="c2")))
    assert [block["toolUse"]["input"] for block in turns[1][1]] == [{"x": 1}, {}]
    assert [block["toolResult"]["toolUseId"] for block in turns[2][1]] == ["c1", "c2"]


def test_results_say_that_they_failed_and_are_never_empty() -> None:
    turns = turns_of(HI, turn(ASSISTANT, CALL), turn(TOOL, result(is_error=True)))
    assert turns[2][1] == [{"toolResult": {"toolUseId": "c1", "content": [{"text": "."}], "status": "error"}}]
    writer = Target("bedrock", "writer.palmyra-x5-v1:0")
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("no", is_error=True)))
    assert "status" not in body_of(asked, writer)["messages"][2]["content"][0]["toolResult"]
    assert ("messages[2].parts[0].tool_result.is_error", "UNSUPPORTED_PARAMETER") in warned(asked, writer)


@pytest.mark.parametrize(
    ("said", "sent"), [('{"a":1}', {"a": 1}), ("sunny", {"result": "sunny"}), ("[1]", {"result": "[1]"})]
)
def test_mistral_is_given_results_as_objects(said: str, sent: object) -> None:
    turns = turns_of(HI, turn(ASSISTANT, CALL), turn(TOOL, result(said)), target=MISTRAL)
    assert turns[2][1][0]["toolResult"]["content"] == [{"json": sent}]


def test_media_that_a_result_cannot_hold_goes_behind_it() -> None:
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("see", pdf())))
    (first, moved, text) = body_of(asked, NOVA)["messages"][2]["content"]
    assert first == {"toolResult": {"toolUseId": "c1", "content": [{"text": "see"}]}}
    assert "document" in moved
    assert text == {"text": "."}
    assert ("messages[2].parts[0].tool_result.parts[1]", "MOVED") in warned(asked, NOVA)
    kept = body_of(request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("see", pdf(mime_type="text/csv")))), NOVA)
    assert "document" in kept["messages"][2]["content"][0]["toolResult"]["content"][1]


def test_only_some_models_may_begin() -> None:
    asked = request(turn(ASSISTANT, "Welcome."), HI)
    assert [said["role"] for said in body_of(asked)["messages"]] == ["assistant", "user"]
    assert [said["role"] for said in body_of(asked, NOVA)["messages"]] == ["user", "assistant", "user"]
    assert warned(asked, NOVA) == [("messages[0]", "SYNTHETIC_TURN")]


def test_models_without_instructions_read_them_as_text_of_the_user() -> None:
    asked = request(turn(SYSTEM, "Be brief."), HI)
    body = body_of(asked, TITAN)
    assert "system" not in body
    assert body["messages"][0]["content"] == [{"text": "<system>\nBe brief.\n</system>"}, {"text": "hi"}]
    assert warned(asked, TITAN) == [("messages[0]", "FOLDED")]


def test_instructions_in_mid_conversation() -> None:
    asked = (HI, turn(ASSISTANT, "yes"), turn(SYSTEM, "Now in French."), turn(USER, "go"))
    assert turns_of(*asked)[2] == ("user", [{"text": "<system>\nNow in French.\n</system>"}, {"text": "go"}])
    able = Target("bedrock", CLAUDE.model, v1.Model(capabilities=["system-turns"]))
    assert [role for role, _ in turns_of(*asked, target=able)] == ["user", "assistant", "system", "user"]


def test_blank_text_is_left_out_and_nothing_at_all_is_refused() -> None:
    assert turns_of(turn(USER, " ", "hi"), turn(ASSISTANT, "\n"), HI) == [("user", [{"text": "hi"}, {"text": "hi"}])]
    with pytest.raises(UnsupportedParameter, match="nothing to answer"):
        call_of(request(turn(SYSTEM, "Be brief.")))


def test_a_turn_to_be_continued_ends_without_white_space() -> None:
    asked = request(HI, turn(ASSISTANT, "The answer is "))
    assert body_of(asked)["messages"][1]["content"] == [{"text": "The answer is"}]
    assert warned(asked) == [("messages[1]", "TRIMMED")]


def test_documents_have_names_and_company() -> None:
    asked = request(turn(USER, pdf("Q3 report_final.pdf"), pdf(), pdf("Q3 report final pdf"), pdf()))
    content = body_of(asked)["messages"][0]["content"]
    assert [block["document"]["name"] for block in content[:4]] == [
        "Q3 report final pdf",
        "Document 2",
        "Q3 report final pdf (2)",
        "Document 4",
    ]
    assert content[4] == {"text": "."}
    assert content[0]["document"]["source"] == {"bytes": base64.b64encode(b"%PDF").decode()}
    codes = [code for _, code in warned(asked)]
    assert codes == ["DOCUMENT_RENAMED", "DOCUMENT_RENAMED", "SYNTHETIC_TEXT"]


@pytest.mark.parametrize(
    ("mime_type", "form"),
    [
        ("application/pdf", "pdf"),
        ("text/plain; charset=utf-8", "txt"),
        ("text/x-python", "txt"),
        ("text/csv", "csv"),
        ("text/markdown", "md"),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ],
)
def test_documents_are_told_by_their_media_type(mime_type: str, form: str) -> None:
    ((_, (block, _)),) = turns_of(turn(USER, pdf(mime_type=mime_type), "sum up"))
    assert block["document"]["format"] == form


def test_context_and_citations_of_documents() -> None:
    part = pdf("Report")
    part.document.context, part.document.citations_enabled = "of 2025", True
    ((_, (block, _)),) = turns_of(turn(USER, part, "sum up"))
    assert block["document"]["context"] == "of 2025"
    assert block["document"]["citations"] == {"enabled": True}


def test_media_in_s3_and_of_other_kinds() -> None:
    lies = v1.MediaSource(uri="s3://bucket/clip.jpg")
    sound = v1.MediaSource(data=b"ID3", mime_type="audio/mpeg")
    video = v1.ProviderPart(provider="bedrock", type="video", json='{"video":{"format":"mp4"}}')
    asked = turn(
        USER,
        v1.Part(image=v1.ImagePart(source=lies)),
        v1.Part(audio=v1.AudioPart(source=sound)),
        v1.Part(provider_part=video),
    )
    ((_, blocks),) = turns_of(asked, target=NOVA)
    assert blocks[0] == {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/clip.jpg"}}}}
    assert blocks[1] == {"audio": {"format": "mp3", "source": {"bytes": "SUQz"}}}
    assert blocks[2] == {"video": {"format": "mp4"}}


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (v1.MediaSource(uri="https://example.com/a.png", mime_type="image/png"), "source.uri"),
        (v1.MediaSource(data=b"BM", mime_type="image/bmp"), "source.mime_type"),
        (v1.MediaSource(uri="s3://bucket/clip.bmp"), "source.mime_type"),
    ],
)
def test_what_bedrock_cannot_fetch_or_see_is_refused(source: v1.MediaSource, field: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        call_of(request(turn(USER, v1.Part(image=v1.ImagePart(source=source)))))
    assert refused.value.violations[0].field == f"messages[0].parts[0].image.{field}"


def test_arguments_go_back_in_the_words_of_the_model() -> None:
    def sent(arguments: str) -> bytes:
        part = v1.Part(tool_call=v1.ToolCall(id="c1", name="f", arguments_json=arguments))
        return call_of(request(HI, turn(ASSISTANT, part), turn(TOOL, result("ok")))).body

    assert b'"input":{"b":1,"a":12345678901234567890123}' in sent('{"b":1,"a":12345678901234567890123}')
    assert b'"input":{"arguments":"{broken"}' in sent("{broken")


@pytest.mark.parametrize("id", ["call/1 2", "x" * 80, "toolu_01"])
def test_ids_of_other_providers_are_made_to_fit(id: str) -> None:
    part = v1.Part(tool_call=v1.ToolCall(id=id, name="f", arguments_json="{}"))
    turns = turns_of(HI, turn(ASSISTANT, part), turn(TOOL, result("ok", id=id)))
    use, done = turns[1][1][0]["toolUse"]["toolUseId"], turns[2][1][0]["toolResult"]["toolUseId"]
    assert use == done
    assert len(use) <= 64
    assert use.replace("_", "").replace("-", "").isalnum()


def thought(data: bytes = b"c2ln", provider: str = "bedrock", model: str = CLAUDE.model, **fields: bool) -> v1.Part:
    state = v1.ReplayState(provider=provider, model=model, data=data)
    return v1.Part(reasoning=v1.ReasoningPart(text="" if fields else "hm", **fields), replay_state=state)


def test_reasoning_goes_back_to_the_model_that_signed_it() -> None:
    turns = turns_of(HI, turn(ASSISTANT, thought(), thought(b"Eu8E", redacted=True), CALL), turn(TOOL, result("ok")))
    assert turns[1][1][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(b"Eu8E").decode()}},
    ]


@pytest.mark.parametrize(
    "part", [thought(provider="anthropic"), thought(model="other"), v1.Part(reasoning=v1.ReasoningPart(text="x"))]
)
def test_reasoning_of_others_or_of_nobody_is_left_out(part: v1.Part) -> None:
    asked = request(HI, turn(ASSISTANT, part, "yes"), HI)
    assert body_of(asked)["messages"][1]["content"] == [{"text": "yes"}]
    assert warned(asked) == [("messages[1].parts[0]", "REPLAY_STATE_DROPPED")]


def test_one_model_takes_reasoning_that_nobody_signed() -> None:
    turns = turns_of(HI, turn(ASSISTANT, v1.Part(reasoning=v1.ReasoningPart(text="x")), "yes"), HI, target=R1)
    assert turns[1][1][0] == {"reasoningContent": {"reasoningText": {"text": "x"}}}


def test_citations_go_back_as_they_came() -> None:
    citations = [{"title": "t", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}]
    state = v1.ReplayState(provider="bedrock", data=json.dumps({"citationsContent": citations}).encode())
    turns = turns_of(HI, turn(ASSISTANT, v1.Part(text="so", replay_state=state)), HI)
    assert turns[1][1] == [{"citationsContent": {"content": [{"text": "so"}], "citations": citations}}]
    foreign = v1.Part(text="so", replay_state=v1.ReplayState(provider="openai", data=b"x"))
    asked = request(HI, turn(ASSISTANT, foreign), HI)
    assert warned(asked) == [("messages[1].parts[0]", "REPLAY_STATE_DROPPED")]


def test_blocks_of_the_provider() -> None:
    def asked(provider: str, text: str) -> v1.ChatRequest:
        part = v1.Part(provider_part=v1.ProviderPart(provider=provider, type="guardContent", json=text))
        return request(turn(USER, part, "hi"))

    guard = '{"guardContent":{"text":{"text":"x"}}}'
    assert body_of(asked("bedrock", guard))["messages"][0]["content"][0] == json.loads(guard)
    dropped = [("messages[0].parts[0]", "PROVIDER_PART_DROPPED")]
    assert warned(asked("anthropic", guard)) == dropped
    assert warned(asked("bedrock", '{"type":"server_tool_use","id":"1"}')) == dropped
    with pytest.raises(InvalidRequest):
        call_of(asked("bedrock", "[]"))


def test_wishes_of_messages_that_converse_has_no_word_for() -> None:
    image = v1.Part.FromString(PNG.SerializeToString())
    image.image.detail = v1.IMAGE_DETAIL_HIGH
    message = v1.Message(role=USER, name="ann", parts=[image])
    assert [field for field, _ in warned(request(message))] == ["messages[0].name", "messages[0].parts[0].image.detail"]
