"""How a conversation becomes the input of the Responses API."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.openai_responses import ResponsesQuirks
from tests.dialects.responses_ask import assistant, call, called, items, left_out, result, text, user
from tests.dialects.responses_wire import COMPATIBLE, SERVER

PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")
PDF = v1.MediaSource(data=b"%PDF", mime_type="application/pdf")


def document(source: v1.MediaSource, **rest: Any) -> v1.Part:
    return v1.Part(document=v1.DocumentPart(source=source, **rest))


def own(kind: str, json: str, provider: str = "openai") -> v1.Part:
    return v1.Part(provider_part=v1.ProviderPart(provider=provider, type=kind, json=json))


def one(message: v1.Message) -> Any:
    [item] = items(message)
    return item


def test_roles_are_kept_where_they_stand() -> None:
    said = items(
        v1.Message(role=v1.ROLE_SYSTEM, parts=[text("s")]),
        user(text("u")),
        assistant(text("a")),
        v1.Message(role=v1.ROLE_DEVELOPER, parts=[text("d")]),
    )
    assert [(item["role"], item["content"]) for item in said] == [
        ("system", "s"),
        ("user", "u"),
        ("assistant", "a"),
        ("developer", "d"),
    ]
    assert {item["type"] for item in said} == {"message"}


def test_several_texts_stay_apart() -> None:
    assert one(user(text("a"), text("b")))["content"] == [
        {"type": "input_text", "text": "a"},
        {"type": "input_text", "text": "b"},
    ]
    assert one(assistant(text("a"), text("b")))["content"] == [
        {"type": "output_text", "text": "a"},
        {"type": "output_text", "text": "b"},
    ]


def test_names_are_unmet() -> None:
    made = call(v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, name="bob", parts=[text("a")])]))
    assert left_out(made) == {"messages[0].name": "UNSUPPORTED_PARAMETER"}


# --------------------------------------------------------------------------------------------------------------- media


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW)),
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw==", "detail": "low"},
        ),
        (
            v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://x/y.png"))),
            {"type": "input_image", "image_url": "https://x/y.png"},
        ),
        (
            document(PDF, title="a.pdf"),
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        ),
        (
            document(PDF),
            {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        ),
        (document(v1.MediaSource(uri="https://x/y.pdf")), {"type": "input_file", "file_url": "https://x/y.pdf"}),
        (
            document(v1.MediaSource(data=b"words", mime_type="text/plain"), title="t", context="c"),
            {"type": "input_text", "text": "t\n\nc\n\nwords"},
        ),
        (own("input_image", '{"type":"input_image","file_id":"f"}'), {"type": "input_image", "file_id": "f"}),
    ],
)
def test_media(part: v1.Part, said: Any) -> None:
    assert one(user(text("see"), part))["content"] == [{"type": "input_text", "text": "see"}, said]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_MEDIUM)), "image.detail"),
        (document(PDF, citations_enabled=True), "document.citations_enabled"),
        (document(PDF, context="c"), "document.context"),
        (document(v1.MediaSource(uri="https://x/y"), title="t"), "document.title"),
    ],
)
def test_what_is_unmet_of_media(part: v1.Part, field: str) -> None:
    made = call(v1.ChatRequest(messages=[user(part)]))
    assert left_out(made) == {f"messages[0].parts[0].{field}": "UNSUPPORTED_PARAMETER"}


@pytest.mark.parametrize(
    "message",
    [
        user(v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"x", mime_type="audio/wav")))),
        user(own("text", "{}", provider="anthropic")),
        user(v1.Part(refusal=v1.RefusalPart(text="no"))),
        v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(image=v1.ImagePart(source=PNG))]),
        assistant(v1.Part(image=v1.ImagePart(source=PNG))),
    ],
)
def test_what_cannot_be_said_refuses_the_request(message: v1.Message) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        items(message)
    [violation] = refusal.value.violations
    assert (violation.field, violation.reason) == ("messages[0].parts[0]", "UNSUPPORTED_CONTENT")


# ---------------------------------------------------------------------------------------------------- calls and results


def test_a_call_and_its_results() -> None:
    said = items(
        user(text("u")),
        assistant(text("I look."), called("c1", "f", '{"a": 1}'), called("c2", "g", "")),
        result(text("one"), id="c1"),
        result(text("two"), id="c2"),
    )
    assert said[1:] == [
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": "two"},
    ]


def test_images_and_files_stay_in_the_result() -> None:
    parts = [text("see"), v1.Part(image=v1.ImagePart(source=PNG)), document(PDF)]
    assert [block["type"] for block in one(result(*parts))["output"]] == ["input_text", "input_image", "input_file"]


@pytest.mark.parametrize(
    ("parts", "output"),
    [
        ([text("x")], "Error: x"),
        ([], "Error: "),
        (
            [v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://x")))],
            [{"type": "input_text", "text": "Error: "}, {"type": "input_image", "image_url": "https://x"}],
        ),
    ],
)
def test_a_failed_tool_says_so_in_words(parts: list[v1.Part], output: Any) -> None:
    assert one(result(*parts, is_error=True))["output"] == output


def test_a_result_of_nothing() -> None:
    assert one(result())["output"] == ""


def test_results_and_words_in_one_message_keep_their_order() -> None:
    told = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[text("r")]))
    said = items(user(told, text("and"), told, text("then"), text("more")))
    assert [item["type"] for item in said] == ["function_call_output", "message"] * 2
    assert said[1]["content"] == "and"
    assert len(said[3]["content"]) == 2


def test_the_answer_to_a_tool_of_the_provider_is_an_item_of_its_own() -> None:
    output = '{"type":"custom_tool_call_output","call_id":"c","output":"x"}'
    said = items(user(text("a"), own("custom_tool_call_output", output), text("b")))
    assert [item.get("type") for item in said] == ["message", "custom_tool_call_output", "message"]


def test_some_servers_want_calls_behind_all_else_of_a_turn() -> None:
    turn = assistant(called("c1"), text("between"), called("c2"))
    said = items(turn, quirks=ResponsesQuirks.deepseek())
    assert [item.get("call_id") for item in said] == [None, "c1", "c2"]


def test_refusals() -> None:
    turn = assistant(text("Well."), v1.Part(refusal=v1.RefusalPart(text="No.")))
    assert one(turn)["content"] == [
        {"type": "output_text", "text": "Well."},
        {"type": "refusal", "refusal": "No."},
    ]
    [said] = items(turn, quirks=COMPATIBLE)
    assert said["content"][1] == {"type": "output_text", "text": "No."}


# --------------------------------------------------------------------------------------------------------- breakpoints


def test_breakpoints() -> None:
    mark = v1.CacheBreakpoint(ttl=Duration(seconds=1800))
    made = items(
        user(text("a", cache_breakpoint=mark), text("b")), user(text("c", cache_breakpoint=v1.CacheBreakpoint()))
    )
    assert made[0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "30m"}
    assert made[1]["content"] == [{"type": "input_text", "text": "c", "prompt_cache_breakpoint": {"mode": "explicit"}}]


def test_of_too_many_breakpoints_the_last_ones_count() -> None:
    marked = [user(text(str(n), cache_breakpoint=v1.CacheBreakpoint())) for n in range(6)]
    made = call(v1.ChatRequest(messages=marked))
    assert list(left_out(made)) == [f"messages[{n}].parts[0].cache_breakpoint" for n in range(2)]


@pytest.mark.parametrize(
    ("message", "quirks"),
    [
        (assistant(text("a", cache_breakpoint=v1.CacheBreakpoint())), None),
        (user(text("a", cache_breakpoint=v1.CacheBreakpoint())), COMPATIBLE),
    ],
)
def test_where_no_breakpoint_can_be(message: v1.Message, quirks: ResponsesQuirks | None) -> None:
    made = call(v1.ChatRequest(messages=[message]), SERVER, quirks)
    assert left_out(made) == {"messages[0].parts[0].cache_breakpoint": "UNSUPPORTED_PARAMETER"}


def test_breakpoints_say_nothing_where_the_cache_is_off() -> None:
    message = user(text("a", cache_breakpoint=v1.CacheBreakpoint()))
    cache = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_OFF)
    assert call(v1.ChatRequest(messages=[message], prompt_cache=cache)).warnings == ()
