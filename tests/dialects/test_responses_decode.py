"""What a response of the Responses API comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import GatewayError, PromptBlocked, ProtocolError, RateLimited, Unavailable
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.dialects.responses_wire import (
    OPENAI,
    SERVER,
    decode,
    function_call,
    incomplete,
    message,
    reasoning,
    response,
    words,
)

USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 17,
}


def test_text_with_all_that_stands_beside_it() -> None:
    found = decode(message(words("Hi")), usage=USAGE, service_tier="flex")
    assert found == v1.ChatResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Hi")]),
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="completed",
        usage=v1.Usage(
            source=v1.Usage.SOURCE_PROVIDER,
            input_tokens=10,
            output_tokens=7,
            total_tokens=17,
            cache_read_input_tokens=4,
            cache_write_input_tokens=2,
            reasoning_output_tokens=3,
        ),
        route=v1.RouteInfo(model="gpt-5.4-2026-03-05", provider_response_id="resp_1", service_tier="flex"),
    )


def test_usage_that_is_not_told_is_not_there() -> None:
    assert not decode(message(words("Hi"))).HasField("usage")
    found = decode(message(words("Hi")), usage={"input_tokens": 1, "output_tokens": None}).usage
    assert found.HasField("input_tokens")
    assert not found.HasField("output_tokens")


def test_items_become_parts_in_order() -> None:
    found = decode(
        reasoning("thought"),
        message(words("a"), words("b")),
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}},
        function_call("f", '{"x": 1}', "c1"),
        function_call("g", "", "c2"),
    )
    parts = found.message.parts
    kinds = [part.WhichOneof("kind") for part in parts]
    assert kinds == ["reasoning", "text", "text", "provider_part", "tool_call", "tool_call"]
    assert parts[3].provider_part == v1.ProviderPart(
        provider="openai",
        type="web_search_call",
        json='{"type":"web_search_call","id":"ws_1","status":"completed","action":{"query":"q"}}',
    )
    assert parts[4].tool_call == v1.ToolCall(id="c1", name="f", arguments_json='{"x": 1}')
    assert parts[5].tool_call.arguments_json == "{}"


@pytest.mark.parametrize(
    ("item", "text", "redacted"),
    [
        (reasoning(), "", True),
        (reasoning("one"), "one", False),
        (reasoning("one", "", "two"), "one\n\ntwo", False),
        (reasoning(content=["raw"]), "raw", False),
        (reasoning("sum", content=["raw", "more"]), "sum\n\nraw\n\nmore", False),
    ],
)
def test_reasoning(item: Any, text: str, redacted: bool) -> None:
    [part] = decode(item).message.parts
    assert part.reasoning == v1.ReasoningPart(text=text, redacted=redacted)


def test_reasoning_beside_the_items() -> None:
    found = decode(message(words("a")), reasoning="thought", target=SERVER, quirks=ResponsesQuirks.mistralrs())
    assert [part.WhichOneof("kind") for part in found.message.parts] == ["text", "reasoning"]
    found = decode(message(words("a")), reasoning={"effort": "low"}, target=SERVER, quirks=ResponsesQuirks.mistralrs())
    assert len(found.message.parts) == 1


def test_call_ids_that_begin_anew_with_each_response() -> None:
    [part] = decode(function_call(id="call_0"), quirks=ResponsesQuirks.mantle()).message.parts
    assert part.tool_call.id == "resp_1:call_0"


def test_citations() -> None:
    notes = [
        {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 1, "end_index": 3},
        {"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 9},
        {"type": "container_file_citation", "file_id": "f", "filename": "b", "start_index": 0, "end_index": 1},
        {"type": "file_path", "file_id": "f2", "index": 2},
        {"type": "of the future"},
    ]
    [part] = decode(message(words("text", annotations=notes))).message.parts
    assert list(part.citations) == [
        v1.Citation(uri="https://x", title="X", start_index=1, end_index=3),
        v1.Citation(title="a.pdf"),
        v1.Citation(title="b", start_index=0, end_index=1),
        v1.Citation(title="f2"),
    ]


def test_log_probabilities() -> None:
    other = {"token": "Ho", "logprob": -2.0, "bytes": [72, 111]}
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [other]}
    assert list(decode(message(words("Hi", logprobs=[token]))).logprobs) == [
        v1.TokenLogprob(token="Hi", logprob=-0.5, top_logprobs=[v1.TokenLogprob(token="Ho", logprob=-2.0)])
    ]


def test_calls_of_tools_at_the_provider_are_counted() -> None:
    search = {"type": "web_search_call", "id": "ws_1"}
    listing = {"type": "mcp_list_tools", "id": "m", "tools": []}
    found = decode(search, search, listing, {"type": "mcp_call", "id": "c"}, message(words("a")), usage=USAGE)
    assert dict(found.usage.server_tool_calls) == {"web_search": 2, "mcp": 1}
    told = USAGE | {"server_side_tool_usage_details": {"web_search_calls": 0, "x_search_calls": 4}}
    assert dict(decode(search, message(words("a")), usage=told).usage.server_tool_calls) == {"x_search": 4}


# -------------------------------------------------------------------------------------------------------- how it ended


@pytest.mark.parametrize(
    ("whole", "finish", "native"),
    [
        (response(message(words("a"))), v1.FINISH_REASON_STOP, "completed"),
        (response(message(words("a")), function_call()), v1.FINISH_REASON_TOOL_CALL, "completed"),
        (response({"type": "custom_tool_call", "call_id": "c"}), v1.FINISH_REASON_TOOL_CALL, "completed"),
        (response({"type": "tool_search_call", "execution": "client"}), v1.FINISH_REASON_TOOL_CALL, "completed"),
        (response({"type": "tool_search_call", "execution": "server"}), v1.FINISH_REASON_STOP, "completed"),
        (response(message({"type": "refusal", "refusal": "No."})), v1.FINISH_REASON_REFUSAL, "completed"),
        (response({"type": "compaction", "encrypted_content": "x"}), v1.FINISH_REASON_COMPACTION, "completed"),
        (response({"type": "compaction"}, message(words("a"))), v1.FINISH_REASON_STOP, "completed"),
        (incomplete("max_output_tokens", function_call()), v1.FINISH_REASON_LENGTH, "max_output_tokens"),
        (incomplete("content_filter"), v1.FINISH_REASON_CONTENT_FILTER, "content_filter"),
        (incomplete("steered"), v1.FINISH_REASON_UNSPECIFIED, "steered"),
        (response(status="incomplete"), v1.FINISH_REASON_UNSPECIFIED, "incomplete"),
        (response(status="cancelled"), v1.FINISH_REASON_ERROR, "cancelled"),
        (response(status="in_progress"), v1.FINISH_REASON_UNSPECIFIED, "in_progress"),
    ],
)
def test_finish_reasons(whole: dict[str, Any], finish: v1.FinishReason.ValueType, native: str) -> None:
    found = OpenAIResponses().decode(json.dumps(whole).encode(), OPENAI)
    assert (found.finish_reason, found.native_finish_reason) == (finish, native)
    assert found.message.parts  # whatever it is, it can be appended


def test_an_answer_of_nothing() -> None:
    assert list(decode().message.parts) == [v1.Part(text="")]


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (response(status="failed", error={"code": "server_error", "message": "m"}), Unavailable),
        (response(status="failed", error={"code": "rate_limit_exceeded", "message": "m"}), RateLimited),
        (response(status="failed", error={"code": "bio_policy", "message": "m"}), PromptBlocked),
        (response(status="failed"), Unavailable),
        ({"error": {"code": 429, "message": "m"}}, RateLimited),
    ],
)
def test_errors_inside_a_200(whole: dict[str, Any], expected: type[GatewayError]) -> None:
    with pytest.raises(expected) as failure:
        OpenAIResponses().decode(json.dumps(whole).encode(), OPENAI)
    assert type(failure.value) is expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"output":[{}]}',
        b'{"output":[{"type":"message","content":[{"text":"a"}]}]}',
        b'{"output":[{"type":"function_call","name":"f"}]}',
        b'{"output":[{"type":"message","content":[{"type":"output_text","text":3}]}]}',
    ],
)
def test_nonsense(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        OpenAIResponses().decode(body, OPENAI)
