"""Whole messages of the Messages API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import ProtocolError
from tests.dialects.anthropic_wire import DIALECT, TARGET, message


def decode(*blocks: dict[str, Any], **fields: Any) -> v1.ChatResponse:
    return DIALECT.decode(json.dumps(message(list(blocks), **fields)).encode(), TARGET)


def test_input_counts_include_the_cache() -> None:
    usage = decode(
        usage={
            "input_tokens": 10,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 1000,
            "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 4},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        }
    ).usage
    assert usage == v1.Usage(
        source=v1.Usage.SOURCE_PROVIDER,
        input_tokens=1110,
        cache_write_input_tokens=100,
        cache_write_1h_input_tokens=40,
        cache_read_input_tokens=1000,
        output_tokens=7,
        reasoning_output_tokens=4,
        total_tokens=1117,
        server_tool_calls={"web_search": 2},
    )


def test_what_is_not_reported_stays_unset() -> None:
    assert not decode(usage=None).HasField("usage")
    usage = decode(usage={"output_tokens": 2, "cache_read_input_tokens": None, "server_tool_use": None}).usage
    assert usage == v1.Usage(source=v1.Usage.SOURCE_PROVIDER, output_tokens=2)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", v1.FINISH_REASON_STOP),
        ("stop_sequence", v1.FINISH_REASON_STOP),
        ("max_tokens", v1.FINISH_REASON_LENGTH),
        ("tool_use", v1.FINISH_REASON_TOOL_CALL),
        ("pause_turn", v1.FINISH_REASON_PAUSE),
        ("compaction", v1.FINISH_REASON_COMPACTION),
        ("model_context_window_exceeded", v1.FINISH_REASON_CONTEXT_WINDOW),
        ("not_yet_invented", v1.FINISH_REASON_UNSPECIFIED),
    ],
)
def test_finish_reasons_keep_the_native_word(word: str, reason: v1.FinishReason.ValueType) -> None:
    answer = decode(stop_reason=word)
    assert (answer.finish_reason, answer.native_finish_reason) == (reason, word)


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "That could do harm."}
    answer = decode({"type": "text", "text": "Well"}, stop_reason="refusal", stop_details=details)
    assert answer.finish_reason == v1.FINISH_REASON_REFUSAL
    refusal = v1.Part(refusal=v1.RefusalPart(text="That could do harm.", category="cyber"))
    assert list(answer.message.parts) == [v1.Part(text="Well"), refusal]


def test_a_refusal_without_details_is_still_a_part() -> None:
    assert list(decode(stop_reason="refusal").message.parts) == [v1.Part(refusal=v1.RefusalPart())]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {
                "type": "char_location",
                "document_index": 1,
                "document_title": "T",
                "start_char_index": 2,
                "end_char_index": 5,
            },
            v1.Citation(source_index=1, title="T", char_range=v1.IndexRange(start=2, end=5)),
        ),
        (
            {
                "type": "page_location",
                "document_index": 0,
                "document_title": None,
                "start_page_number": 1,
                "end_page_number": 2,
            },
            v1.Citation(source_index=0, page_range=v1.IndexRange(start=1, end=2)),
        ),
        (
            {"type": "content_block_location", "document_index": 0, "start_block_index": 3, "end_block_index": 4},
            v1.Citation(source_index=0, block_range=v1.IndexRange(start=3, end=4)),
        ),
        (
            {
                "type": "search_result_location",
                "search_result_index": 2,
                "source": "https://a.example",
                "title": "A",
                "start_block_index": 0,
                "end_block_index": 1,
            },
            v1.Citation(source_index=2, title="A", uri="https://a.example", block_range=v1.IndexRange(start=0, end=1)),
        ),
        (
            {"type": "web_search_result_location", "url": "https://b.example", "title": "B", "encrypted_index": "x"},
            v1.Citation(title="B", uri="https://b.example"),
        ),
        ({"type": "not_yet_invented"}, v1.Citation()),
    ],
)
def test_citations_of_every_kind(said: dict[str, Any], expected: v1.Citation) -> None:
    expected.cited_text = "words"
    part = decode({"type": "text", "text": "Hi", "citations": [{**said, "cited_text": "words"}]}).message.parts[0]
    assert list(part.citations) == [expected]


def test_arguments_keep_key_order_and_long_numbers() -> None:
    arguments = '{"z":1,"a":12345678901234567890123,"m":{"y":"é","b":-9223372036854775809}}'
    block = f'{{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {arguments}}}'
    body = json.dumps(message([])).replace('"content": []', f'"content": [{block}]').encode()
    assert DIALECT.decode(body, TARGET).message.parts[0].tool_call.arguments_json == arguments


def test_a_call_without_id_gets_one_that_is_unique_in_the_conversation() -> None:
    parts = decode(*[{"type": "tool_use", "name": "f", "input": {}}] * 2).message.parts
    assert [part.tool_call.id for part in parts] == ["call_msg_1_0", "call_msg_1_1"]


def test_redacted_thinking_keeps_its_data() -> None:
    part = decode({"type": "redacted_thinking", "data": "b3BhcXVl"}).message.parts[0]
    assert part.reasoning == v1.ReasoningPart(redacted=True)
    assert part.replay_state == v1.ReplayState(provider="anthropic", model="claude-sonnet-4-5", data=b"b3BhcXVl")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"content": null}',
        b'{"content": [{}]}',
        b'{"content": [{"type": "text"}]}',
        b'{"content": [{"type": "text", "text": 5}]}',
        b'{"content": [], "usage": {"input_tokens": "3"}}',
        b'{"content": [], "x": 1234567890123456789012345',
        b"[1234567890123456789012345]",
    ],
)
def test_nonsense_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decode(body, TARGET)
