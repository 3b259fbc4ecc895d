"""Conversations as contents: roles, media, calls and their responses."""

from __future__ import annotations

import json

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.gemini import VERTEX, GeminiChat
from tests.dialects.gemini_ask import (
    ASSISTANT,
    HI,
    OLDER,
    PNG,
    SYSTEM,
    TOOL,
    USER,
    body_of,
    call_of,
    called,
    contents_of,
    parts_of,
    request,
    result,
    turn,
    warned,
)
from tests.dialects.gemini_wire import TARGET

VERTEX_TARGET = Target("vertex", TARGET.model)
ON_CLOUD = GeminiChat(VERTEX)
PICTURE = v1.Part(image=v1.ImagePart(source=PNG))


def test_instructions_stand_apart() -> None:
    messages = [turn(SYSTEM, "Be brief."), turn(v1.ROLE_DEVELOPER, "No jokes."), HI]
    body = body_of(request(*messages))
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "No jokes."}]}
    assert [content["role"] for content in body["contents"]] == ["user"]
    assert warned(request(*messages)) == []


def test_later_instructions_go_with_the_first() -> None:
    messages = [turn(SYSTEM, "One."), HI, turn(SYSTEM, "Two.")]
    assert body_of(request(*messages))["systemInstruction"] == {"parts": [{"text": "One."}, {"text": "Two."}]}
    assert warned(request(*messages)) == [("messages[2]", "FOLDED")]


def test_instructions_are_text() -> None:
    assert warned(request(turn(SYSTEM, "x", PICTURE), HI)) == [("messages[0].parts[1]", "UNSUPPORTED_PARAMETER")]


def test_instructions_alone_are_no_question() -> None:
    with pytest.raises(UnsupportedParameter):
        call_of(request(turn(SYSTEM, "Be brief.")))


def test_roles_alternate() -> None:
    contents = contents_of(
        turn(USER, "a"), turn(USER, "b"), turn(ASSISTANT, "c"), turn(ASSISTANT, "d"), turn(USER, "e")
    )
    assert [(content["role"], [part["text"] for part in content["parts"]]) for content in contents] == [
        ("user", ["a", "b"]),
        ("model", ["c", "d"]),
        ("user", ["e"]),
    ]


def test_empty_texts_say_nothing() -> None:
    assert contents_of(turn(USER, "", "a", "")) == [{"role": "user", "parts": [{"text": "a"}]}]
    assert contents_of(turn(USER, "")) == [{"role": "user", "parts": [{"text": ""}]}]
    contents = contents_of(HI, turn(ASSISTANT, ""), turn(USER, "?"))
    assert contents == [{"role": "user", "parts": [{"text": "hi"}, {"text": "?"}]}]


def test_media_as_bytes_and_by_uri() -> None:
    wav = v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"RIFF", mime_type="audio/wav")))
    pdf = v1.Part(
        document=v1.DocumentPart(source=v1.MediaSource(uri="https://a.test/b.pdf", mime_type="application/pdf"))
    )
    bare = v1.Part(
        image=v1.ImagePart(source=v1.MediaSource(uri="https://generativelanguage.googleapis.com/v1beta/files/1"))
    )
    assert parts_of(turn(USER, PICTURE, wav, pdf, bare)) == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.test/b.pdf"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1"}},
    ]
    with pytest.raises(UnsupportedParameter) as refused:
        call_of(request(turn(USER, bare)), VERTEX_TARGET, ON_CLOUD)
    assert refused.value.violations[0].field == "messages[0].parts[0].image.source.uri"


def test_detail_of_pictures() -> None:
    close = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_ORIGINAL))
    assert parts_of(turn(USER, close))[0]["mediaResolution"] == {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}
    assert "mediaResolution" not in parts_of(turn(USER, close), target=OLDER)[0]
    assert warned(request(turn(USER, close)), OLDER) == [("messages[0].parts[0].image.detail", "UNSUPPORTED_PARAMETER")]


def test_documents_have_titles_on_google_cloud_only() -> None:
    source = v1.MediaSource(data=b"%PDF", mime_type="application/pdf")
    document = v1.DocumentPart(source=source, title="Report", context="old", citations_enabled=True)
    message = turn(USER, v1.Part(document=document))
    fields = [field.rpartition(".")[2] for field, _ in warned(request(message))]
    assert fields == ["title", "context", "citations_enabled"]
    (part,) = parts_of(message, target=VERTEX_TARGET, dialect=ON_CLOUD)
    assert part["inlineData"]["displayName"] == "Report"


def test_blocks_of_its_own_go_verbatim() -> None:
    video = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 2}}
    own = v1.Part(provider_part=v1.ProviderPart(provider="gemini", json=json.dumps(video)))
    foreign = v1.Part(provider_part=v1.ProviderPart(provider="openai", json="{}"))
    assert parts_of(turn(USER, own, foreign)) == [video]
    assert warned(request(turn(USER, own, foreign))) == [("messages[0].parts[1]", "PROVIDER_PART_DROPPED")]
    broken = v1.Part(provider_part=v1.ProviderPart(provider="gemini", json="1"))
    with pytest.raises(InvalidRequest):
        call_of(request(turn(USER, broken)))


def test_refusals_go_back_as_text() -> None:
    refusal = v1.Part(refusal=v1.RefusalPart(text="No."))
    assert contents_of(HI, turn(ASSISTANT, refusal), HI)[1] == {"role": "model", "parts": [{"text": "No."}]}


def test_participants_have_no_names() -> None:
    named = v1.Message(role=USER, parts=[v1.Part(text="hi")], name="ann")
    assert warned(request(named)) == [("messages[0].name", "UNSUPPORTED_PARAMETER")]


def test_calls_and_responses_keep_the_ids_of_the_api() -> None:
    contents = contents_of(HI, turn(ASSISTANT, called("abc")), turn(TOOL, result("abc", "12 degrees")), target=OLDER)
    assert contents[1:] == [
        {"role": "model", "parts": [{"functionCall": {"id": "abc", "name": "weather", "args": {"city": "Oslo"}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"id": "abc", "name": "weather", "response": {"output": "12 degrees"}}}],
        },
    ]


def test_ids_that_were_made_up_are_not_sent() -> None:
    id = "gemini_resp1A_0"
    parts = parts_of(HI, turn(ASSISTANT, called(id)), turn(TOOL, result(id, "x")), target=OLDER)
    assert "id" not in parts[1]["functionCall"]
    assert "id" not in parts[2]["functionResponse"]


def test_responses_come_in_the_order_of_the_calls() -> None:
    ids = ["gemini_r_0", "gemini_r_1", "gemini_r_2"]
    calls = turn(ASSISTANT, *(called(id, arguments=f'{{"n":{number}}}') for number, id in enumerate(ids)))
    answers = [turn(TOOL, result(ids[2], "third")), turn(TOOL, result(ids[0], "first"), result(ids[1], "second"))]
    (responses,) = [
        content for content in contents_of(HI, calls, *answers) if "functionResponse" in content["parts"][0]
    ]
    said = [part["functionResponse"]["response"]["output"] for part in responses["parts"]]
    assert said == ["first", "second", "third"]


def test_responses_stand_on_their_own() -> None:
    both = turn(USER, "And now?", result("a", "x"))
    contents = contents_of(HI, turn(ASSISTANT, called("a")), both, turn(USER, "Hm."))
    assert [[next(iter(part)) for part in content["parts"]] for content in contents[2:]] == [
        ["functionResponse"],
        ["text", "text"],
    ]


@pytest.mark.parametrize(
    ("texts", "is_error", "response"),
    [
        (["sunny"], False, {"output": "sunny"}),
        (["a", "b"], False, {"output": "a\nb"}),
        (['{"degrees": 12}'], False, {"degrees": 12}),
        (["[1]"], False, {"output": "[1]"}),
        ([], False, {"output": ""}),
        (["broken"], True, {"error": "broken"}),
        (['{"error": "e", "code": 1}'], True, {"error": "e", "code": 1}),
        (['{"code": 1}'], True, {"error": '{"code": 1}'}),
    ],
)
def test_what_a_tool_says_is_an_object(texts: list[str], is_error: bool, response: object) -> None:
    messages = [HI, turn(ASSISTANT, called("a")), turn(TOOL, result("a", *texts, is_error=is_error))]
    assert parts_of(*messages)[-1]["functionResponse"]["response"] == response


def test_pictures_in_results() -> None:
    messages = [HI, turn(ASSISTANT, called("a")), turn(TOOL, result("a", PICTURE))]
    inline = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}
    response = parts_of(*messages)[-1]["functionResponse"]
    assert (response["response"], response["parts"]) == ({}, [inline])
    contents = contents_of(*messages, target=OLDER)
    assert "parts" not in contents[2]["parts"][0]["functionResponse"]
    assert contents[3] == {"role": "user", "parts": [{"text": "Attached to the response of weather:"}, inline]}


def test_a_result_needs_the_name_of_its_function() -> None:
    assert parts_of(HI, turn(TOOL, result("x", "y", name="weather")))[-1]["functionResponse"]["name"] == "weather"
    with pytest.raises(UnsupportedParameter):
        call_of(request(HI, turn(TOOL, result("x", "y"))))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"b":1,"a":12345678901234567890123}', '{"b":1,"a":12345678901234567890123}'),
        ("", "{}"),
        ("not json", '{"arguments":"not json"}'),
        ("[1]", '{"arguments":"[1]"}'),
    ],
)
def test_arguments_are_objects_in_the_words_of_the_model(written: str, sent: str) -> None:
    call = call_of(request(HI, turn(ASSISTANT, called("a", arguments=written)), turn(TOOL, result("a", "x"))))
    assert f'"args":{sent}'.encode() in call.body
