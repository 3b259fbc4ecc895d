"""How the messages of other servers differ from OpenAI's: each quirk on its own."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import Quirks
from parley_server.dialects.openai_chat.quirks import Variant
from tests.dialects.openai_ask import SERVER, body, call, left_out, text, user


def test_turns_that_say_nothing() -> None:
    empty = v1.Message(role=v1.ROLE_ASSISTANT, parts=[text("")])
    request = v1.ChatRequest(messages=[user(text("a")), empty, user(text("b"))])
    assert [m["role"] for m in body(request, SERVER, Quirks(empty_turns=False))["messages"]] == ["user", "user"]
    assert [m["role"] for m in body(request, SERVER, Quirks())["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("mark", ["prefix", "partial"])
def test_a_turn_to_go_on_from_is_marked(mark: Any) -> None:
    turn = v1.Message(role=v1.ROLE_ASSISTANT, parts=[text("Once")])
    marked = body(v1.ChatRequest(messages=[user(text("a")), turn]), SERVER, Quirks(prefix_field=mark))["messages"][1]
    assert marked == {"role": "assistant", "content": "Once", mark: True}
    inside = v1.ChatRequest(messages=[user(text("a")), turn, user(text("b"))])
    assert mark not in body(inside, SERVER, Quirks(prefix_field=mark))["messages"][1]


def media(part: v1.Part, quirks: Quirks) -> Any:
    return body(v1.ChatRequest(messages=[user(part)]), SERVER, quirks)["messages"][0]["content"][0]


WAV = v1.MediaSource(data=b"RIFF", mime_type="audio/wav")
PDF = v1.MediaSource(data=b"%PDF", mime_type="application/pdf")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("object", {"data": "UklGRg==", "format": "wav"}),
        ("text", "UklGRg=="),
        ("data_url", {"data": "data:audio/wav;base64,UklGRg==", "format": "wav"}),
    ],
)
def test_audio_in_other_forms(how: Any, said: Any) -> None:
    part = v1.Part(audio=v1.AudioPart(source=WAV))
    assert media(part, Quirks(audio=how)) == {"type": "input_audio", "input_audio": said}


@pytest.mark.parametrize(("how", "said"), [("text", "https://h/a.mp3"), ("data_url", {"data": "https://h/a.mp3"})])
def test_audio_by_address(how: Any, said: Any) -> None:
    part = v1.Part(audio=v1.AudioPart(source=v1.MediaSource(uri="https://h/a.mp3")))
    assert media(part, Quirks(audio=how)) == {"type": "input_audio", "input_audio": said}


def test_documents_by_url() -> None:
    quirks = Quirks(documents="document_url")
    by_bytes = v1.Part(document=v1.DocumentPart(source=PDF, title="a.pdf"))
    assert media(by_bytes, quirks) == {
        "type": "document_url",
        "document_url": "data:application/pdf;base64,JVBERg==",
        "document_name": "a.pdf",
    }
    by_address = v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri="https://h/a.pdf")))
    assert media(by_address, quirks) == {"type": "document_url", "document_url": "https://h/a.pdf"}


@pytest.mark.parametrize(
    ("part", "quirks", "field"),
    [
        (v1.Part(audio=v1.AudioPart(source=WAV)), Quirks(audio=""), "audio"),
        (v1.Part(document=v1.DocumentPart(source=PDF)), Quirks(documents=""), "document"),
        (
            v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://h/i.png"))),
            Quirks(image_urls=False),
            "image.source.uri",
        ),
    ],
)
def test_content_that_a_server_does_not_take_is_refused(part: v1.Part, quirks: Quirks, field: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        media(part, quirks)
    assert caught.value.violations[0].field == f"messages[0].parts[0].{field}"


def test_bytes_and_files_of_the_server_are_no_urls() -> None:
    quirks = Quirks(image_urls=False)
    image = v1.ImagePart(source=v1.MediaSource(data=b"i", mime_type="image/png"))
    assert media(v1.Part(image=image), quirks)["image_url"]["url"].startswith("data:")
    uploaded = v1.ImagePart(source=v1.MediaSource(uri="ms://file-1"))
    assert media(v1.Part(image=uploaded), quirks)["image_url"]["url"] == "ms://file-1"


def test_text_documents_are_text_everywhere() -> None:
    source = v1.MediaSource(data=b"words", mime_type="text/plain")
    part = v1.Part(document=v1.DocumentPart(source=source, title="t"))
    request = v1.ChatRequest(messages=[user(part)])
    assert body(request, SERVER, Quirks(documents=""))["messages"][0]["content"] == "t\n\nwords"


def test_images_in_results_stay_there_where_they_may() -> None:
    image = v1.Part(image=v1.ImagePart(source=v1.MediaSource(data=b"i", mime_type="image/png")))
    result = v1.ToolResult(tool_call_id="c", parts=[image], is_error=True)
    request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])])
    (said,) = body(request, SERVER, Quirks(media_in_results=True))["messages"]
    assert [block["type"] for block in said["content"]] == ["text", "image_url"]
    assert said["content"][0]["text"] == "Error: "


def test_images_in_results_stay_there_for_the_models_that_read_them() -> None:
    quirks = Quirks(variants=(Variant(("claude*",), media_in_results=True),))
    image = v1.Part(image=v1.ImagePart(source=v1.MediaSource(data=b"i", mime_type="image/png")))
    result = v1.ToolResult(tool_call_id="c", parts=[text("look"), image])
    request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])])
    (said,) = body(request, Target("host", "anthropic/claude-haiku-4.5"), quirks)["messages"]
    assert [block["type"] for block in said["content"]] == ["text", "image_url"]
    roles = [said["role"] for said in body(request, Target("host", "moonshot/kimi-k3"), quirks)["messages"]]
    assert roles == ["tool", "user"]


def test_marks_of_the_cache_on_images() -> None:
    image = v1.Part(image=v1.ImagePart(source=v1.MediaSource(data=b"i", mime_type="image/png")))
    image.cache_breakpoint.SetInParent()
    assert media(image, Quirks(cache_breakpoints="cache_control"))["cache_control"] == {"type": "ephemeral"}
    made = call(v1.ChatRequest(messages=[user(image)]), SERVER, Quirks(cache_breakpoints="prompt_cache_breakpoint"))
    assert left_out(made) == {"messages[0].parts[0].cache_breakpoint": "UNSUPPORTED_PARAMETER"}


def test_ids_of_nine_letters_and_digits() -> None:
    long = v1.Part(tool_call=v1.ToolCall(id="call_0123456789", name="f"))
    short = v1.Part(tool_call=v1.ToolCall(id="abcDEF123", name="f"))
    results = [
        v1.Part(tool_result=v1.ToolResult(tool_call_id=id, parts=[text("r")]))
        for id in ("call_0123456789", "abcDEF123")
    ]
    request = v1.ChatRequest(
        messages=[v1.Message(role=v1.ROLE_ASSISTANT, parts=[long, short]), v1.Message(role=v1.ROLE_TOOL, parts=results)]
    )
    turn, first, second = body(request, SERVER, Quirks(short_tool_ids=True))["messages"]
    replaced, kept = (said["id"] for said in turn["tool_calls"])
    assert (len(replaced), replaced.isalnum(), kept) == (9, True, "abcDEF123")
    assert (first["tool_call_id"], second["tool_call_id"]) == (replaced, kept)
    again = body(request, SERVER, Quirks(short_tool_ids=True))["messages"]
    assert again[0]["tool_calls"][0]["id"] == replaced
    assert body(request, SERVER, Quirks())["messages"][1]["tool_call_id"] == "call_0123456789"
