"""Streams of the Messages API: any split gives the same answer, and only a whole one gives any."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import (
    CredentialsRejected,
    Overloaded,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from tests.dialects.anthropic_wire import DIALECT, TARGET, comparable, message, messages, read, streamed, wire

SIGNED_TOOL_TURN = message(
    [
        {"type": "thinking", "thinking": "Let me look. 🔭", "signature": "c2lnbmVk"},
        {"type": "text", "text": "Ich schaue nach: 🌍é"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "days": 2}},
    ],
    stop_reason="tool_use",
)


def _in_two(text: str) -> list[str]:
    return [text[:9], text[9:]]


def test_every_split_gives_the_same_answer() -> None:
    data = wire(*streamed(SIGNED_TOOL_TURN, _in_two))
    whole = read(data)
    assert [part.WhichOneof("kind") for part in whole.message.parts] == ["reasoning", "text", "tool_call"]
    assert whole.message.parts[1].text == "Ich schaue nach: 🌍é"
    for cut in range(len(data) + 1):  # inside emoji, keys, numbers and line ends
        assert read(data, [cut]) == whole


@given(messages, st.lists(st.integers(0, 10**6), max_size=8))
def test_any_message_reads_the_same_whole_and_streamed(whole: dict[str, Any], cuts: list[int]) -> None:
    body = json.dumps(whole, ensure_ascii=False).encode()
    unary = DIALECT.decode(body, TARGET)
    assert comparable(read(wire(*streamed(whole)), cuts)) == comparable(unary)


def test_every_strict_prefix_raises_stream_interrupted() -> None:
    data = wire(*streamed(SIGNED_TOOL_TURN, _in_two)).rstrip()
    read(data)
    for length in range(len(data)):
        with pytest.raises(StreamInterrupted):
            read(data[:length])


def test_events_come_in_the_order_of_the_contract() -> None:
    decoder = DIALECT.decoder(TARGET)
    frames = [json.dumps(event).encode() for event in streamed(SIGNED_TOOL_TURN, cut=lambda text: [text])]
    kinds = [event.WhichOneof("event") for event in decoder.feed(frames)]
    part = ["part_started", "part_delta", "part_completed"]
    assert kinds == ["started", "usage", *part, *part, *part, "usage", "completed"]


def test_deltas_of_one_read_are_merged() -> None:
    decoder = DIALECT.decoder(TARGET)
    frames = [json.dumps(event).encode() for event in streamed(message([{"type": "text", "text": "abc"}]))]
    texts = [event.part_delta.text for event in decoder.feed(frames) if event.HasField("part_delta")]
    assert texts == ["abc"]


def test_text_leaves_with_the_read_that_brought_it() -> None:
    decoder = DIALECT.decoder(TARGET)
    frames = [json.dumps(event).encode() for event in streamed(message([{"type": "text", "text": "ab"}]))]
    decoder.feed(frames[:3])
    assert [event.part_delta.text for event in decoder.feed(frames[3:4])] == ["a"]
    assert [event.part_delta.text for event in decoder.feed(frames[4:5])] == ["b"]


def test_completion_tells_everything() -> None:
    end = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 7, "service_tier": "priority"}
    answer = read(wire(*streamed(message([{"type": "text", "text": "hi"}], usage=usage, **end))))
    assert answer.finish_reason == v1.FINISH_REASON_STOP
    assert answer.native_finish_reason == "stop_sequence"
    assert answer.stop_sequence == "END"
    assert answer.usage == v1.Usage(
        source=v1.Usage.SOURCE_PROVIDER, input_tokens=15, cache_read_input_tokens=5, output_tokens=7, total_tokens=22
    )
    assert answer.route == v1.RouteInfo(
        model="claude-sonnet-4-5-20250929", provider_response_id="msg_1", service_tier="priority"
    )


def test_a_later_count_replaces_an_earlier_one_even_by_zero() -> None:
    events = streamed(message([]))
    events[0]["message"]["usage"] = {"input_tokens": 10, "cache_creation_input_tokens": 900, "output_tokens": 1}
    events[-2]["usage"] = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 4}
    usage = read(wire(*events)).usage
    assert (usage.input_tokens, usage.cache_write_input_tokens, usage.output_tokens) == (10, 0, 4)
    assert usage.HasField("cache_write_input_tokens")
    assert not usage.HasField("cache_read_input_tokens")


def test_usage_so_far_is_partial() -> None:
    decoder = DIALECT.decoder(TARGET)
    batch = decoder.feed([json.dumps(streamed(message([]))[0]).encode()])
    assert batch[-1].usage.source == v1.Usage.SOURCE_PARTIAL
    assert batch[-1].usage.input_tokens == 3


def test_unknown_events_deltas_and_pings_are_skipped() -> None:
    events = streamed(message([{"type": "text", "text": "hi"}]))
    events.insert(1, {"type": "weather_report", "forecast": "sunny"})
    events.insert(4, {"type": "content_block_delta", "index": 0, "delta": {"type": "sparkle_delta", "sparkle": "*"}})
    assert read(wire(*events)) == read(wire(*streamed(message([{"type": "text", "text": "hi"}]))))


def test_what_follows_the_end_is_not_read() -> None:
    data = wire(*streamed(message([{"type": "text", "text": "hi"}])))
    assert read(data + b"event: data\ndata: [DONE]\n\n") == read(data)


def test_a_tool_without_arguments_has_an_empty_object() -> None:
    answer = read(wire(*streamed(message([{"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}]))))
    assert answer.message.parts[0].tool_call == v1.ToolCall(id="toolu_1", name="now", arguments_json="{}")


def test_arguments_that_come_with_the_start_are_kept() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    events = streamed(message([]))
    events[2:2] = [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
    assert read(wire(*events)).message.parts[0].tool_call.arguments_json == '{"a":1}'


def test_an_empty_signed_thought_survives() -> None:
    answer = read(wire(*streamed(message([{"type": "thinking", "thinking": "", "signature": "c2ln"}]))))
    state = v1.ReplayState(provider="anthropic", model="claude-sonnet-4-5", data=b"c2ln")
    assert list(answer.message.parts) == [v1.Part(reasoning=v1.ReasoningPart(), replay_state=state)]


def test_blocks_of_the_providers_own_tools_are_put_together() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "é 🌍", "n": 2**70}}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "https://x.example"}]}
    parts = read(wire(*streamed(message([use, result])))).message.parts
    assert [json.loads(part.provider_part.json) for part in parts] == [use, result]
    assert [part.provider_part.type for part in parts] == ["server_tool_use", "web_search_tool_result"]


def test_unknown_blocks_grow_by_unknown_deltas() -> None:
    events = streamed(message([]))
    events[2:2] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "So "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "far"}},
        {"type": "content_block_stop", "index": 0},
    ]
    part = read(wire(*events)).message.parts[0].provider_part
    assert json.loads(part.json) == {"type": "compaction", "content": "So far"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("overloaded_error", Overloaded), ("rate_limit_error", RateLimited), ("api_error", Unavailable)],
)
def test_an_error_inside_a_stream_is_the_error_it_would_have_been(kind: str, expected: type[Exception]) -> None:
    events = streamed(message([{"type": "text", "text": "hi"}]))
    failure = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"}
    with pytest.raises(expected) as raised:
        read(wire(*events[:4], failure))
    assert type(raised.value) is expected
    assert raised.value.provider_error.request_id == "req_1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "for_model"), [("permission_error", True), ("authentication_error", False)])
def test_a_refused_key_is_refused_for_the_model_or_for_all(kind: str, for_model: bool) -> None:
    with pytest.raises(CredentialsRejected) as raised:
        read(wire({"type": "error", "error": {"type": kind, "message": "no"}}))
    assert raised.value.for_model is for_model


@pytest.mark.parametrize(
    "frame",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"type": "message_start"}',
        b'{"type": "content_block_start", "index": 0, "content_block": {}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": null}}',
        b'{"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "?"}}',
        b'{"type": "content_block_stop", "index": 7}',
        b'{"type": "message_delta", "delta": {}, "usage": {"output_tokens": "many"}}',
        b'{"type": "message_delta", "delta": {}, "usage": {"output_tokens": 99999999999}}',
    ],
)
def test_nonsense_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decoder(TARGET).feed([frame])
