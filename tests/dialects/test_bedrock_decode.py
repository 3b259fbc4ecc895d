"""Answers of Converse, whole and streamed: the same content gives the same answer, and only a whole one gives any."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import AttemptTimeout, ProtocolError, RateLimited, StreamInterrupted
from tests.dialects.bedrock_wire import (
    CLAUDE,
    DIALECT,
    answer,
    decoded,
    event,
    exception,
    frame,
    read,
    streamed,
)

CITATIONS = [
    {
        "title": "sample",
        "sourceContent": [{"text": "Sample PDF"}],
        "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
    },
    {"location": {"web": {"url": "https://example.com/a", "domain": "example.com"}}},
    {"source": "https://x/y", "location": {"searchResultLocation": {"searchResultIndex": 2, "start": 0, "end": 1}}},
]
SERVER_USE = {
    "toolUse": {"toolUseId": "t0", "name": "nova_code_interpreter", "input": {"x": 1}, "type": "server_tool_use"}
}
SERVER_RESULT = {"toolResult": {"toolUseId": "t0", "type": "r", "status": "success", "content": [{"json": {"out": 1}}]}}
FULL = answer(
    [
        {"reasoningContent": {"reasoningText": {"text": "Let me look. 🔭", "signature": "c2lnbmVk"}}},
        {"reasoningContent": {"redactedContent": "RXU4RQ=="}},
        {"text": "Ich schaue nach: 🌍é"},
        {"citationsContent": {"content": [{"text": "so"}], "citations": CITATIONS}},
        SERVER_USE,
        SERVER_RESULT,
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Zürich", "days": 2}}},
        {"toolUse": {"toolUseId": "t2", "name": "now", "input": {}}},
    ],
    "tool_use",
    serviceTier={"type": "flex"},
)

texts = st.text(min_size=1, max_size=12)
blocks = st.one_of(
    texts.map(lambda text: {"text": text}),
    texts.map(lambda text: {"reasoningContent": {"reasoningText": {"text": text}}}),
    st.tuples(texts, texts).map(
        lambda both: {"reasoningContent": {"reasoningText": {"text": both[0], "signature": both[1]}}}
    ),
    st.dictionaries(texts, st.integers(0, 9), max_size=2).map(
        lambda input: {"toolUse": {"toolUseId": "t", "name": "f", "input": input}}
    ),
)


def comparable(response: v1.ChatResponse) -> v1.ChatResponse:
    """Blocks of the provider with their keys in order: a stream gives them in another."""
    copy = v1.ChatResponse()
    copy.CopyFrom(response)
    for part in copy.message.parts:
        if part.HasField("provider_part"):
            part.provider_part.json = json.dumps(json.loads(part.provider_part.json), sort_keys=True)
    return copy


def test_every_kind_of_block() -> None:
    response = decoded(FULL)
    signed, redacted, text, cited, use, result, call, bare = response.message.parts
    assert (signed.reasoning.text, signed.replay_state.data) == ("Let me look. 🔭", b"c2lnbmVk")
    assert (signed.replay_state.provider, signed.replay_state.model) == ("bedrock", CLAUDE.model)
    assert (redacted.reasoning.redacted, redacted.replay_state.data) == (True, b"Eu8E")
    assert text.text == "Ich schaue nach: 🌍é"
    assert [citation.uri for citation in cited.citations] == ["", "https://example.com/a", "https://x/y"]
    assert (cited.citations[0].title, cited.citations[0].cited_text) == ("sample", "Sample PDF")
    assert cited.citations[0].page_range == v1.IndexRange(start=1, end=2)
    assert cited.citations[2].source_index == 2
    assert json.loads(use.provider_part.json) == SERVER_USE
    assert (result.provider_part.type, json.loads(result.provider_part.json)) == ("toolResult", SERVER_RESULT)
    assert (call.tool_call.id, call.tool_call.arguments_json) == ("t1", '{"city":"Zürich","days":2}')
    assert bare.tool_call.arguments_json == "{}"
    assert (response.finish_reason, response.native_finish_reason) == (v1.FINISH_REASON_TOOL_CALL, "tool_use")
    assert response.route.service_tier == "flex"


@given(st.lists(st.integers(0, 10**6), max_size=8), st.integers(1, 5))
def test_any_split_reads_the_same_as_the_whole(cuts: list[int], pieces: int) -> None:
    assert comparable(read(b"".join(streamed(FULL, pieces)), cuts)) == comparable(decoded(FULL))


@given(st.lists(blocks, min_size=1, max_size=5), st.lists(st.integers(0, 10**6), max_size=6), st.integers(1, 4))
def test_any_answer_reads_the_same_whole_and_streamed(content: list[Any], cuts: list[int], pieces: int) -> None:
    said = answer(content)
    assert read(b"".join(streamed(said, pieces)), cuts) == decoded(said)


def test_a_strict_prefix_is_interrupted_unless_only_usage_is_missing() -> None:
    frames = streamed(FULL)
    data, complete = b"".join(frames), len(b"".join(frames[:-1]))
    for length in range(0, complete, 7):
        with pytest.raises(StreamInterrupted):
            read(data[:length])
    without_usage = read(data[:complete])
    assert not without_usage.HasField("usage")
    assert without_usage.finish_reason == v1.FINISH_REASON_TOOL_CALL


def test_events_come_in_the_order_of_the_contract() -> None:
    framing, decoder = DIALECT.framing(), DIALECT.decoder(CLAUDE)
    said = answer([{"reasoningContent": {"reasoningText": {"text": "a"}}}, {"text": "b"}])
    kinds = [found.WhichOneof("event") for found in decoder.feed(framing.feed(b"".join(streamed(said))))]
    part = ["part_started", "part_delta", "part_completed"]
    assert kinds == ["started", *part, *part, "completed"]
    assert decoder.finish() == []


def test_parallel_blocks_may_interleave() -> None:
    def start(index: int, name: str) -> bytes:
        use = {"toolUse": {"toolUseId": f"t{index}", "name": name}}
        return event("contentBlockStart", {"contentBlockIndex": index, "start": use})

    def more(index: int, text: str) -> bytes:
        return event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": text}}})

    stops = [event("contentBlockStop", {"contentBlockIndex": index}) for index in (0, 1, 7)]
    end = [event("messageStop", {"stopReason": "tool_use"}), event("metadata", {})]
    pieces = [start(0, "f"), start(1, "g"), more(0, '{"a"'), more(1, "{}"), more(0, ":1}"), *stops, *end]
    calls = [part.tool_call for part in read(b"".join(pieces)).message.parts]
    assert [(call.name, call.arguments_json) for call in calls] == [("f", '{"a":1}'), ("g", "{}")]


def test_what_is_unknown_is_skipped() -> None:
    delta = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"hologram": {}}})
    first, *rest = streamed(answer([{"text": "hi"}]))
    assert read(b"".join([first, event("weather", {"sun": True}), delta, *rest])).message.parts[0].text == "hi"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "STOP"),
        ("stop_sequence", "STOP"),
        ("max_tokens", "LENGTH"),
        ("model_context_window_exceeded", "CONTEXT_WINDOW"),
        ("guardrail_intervened", "CONTENT_FILTER"),
        ("content_filtered", "CONTENT_FILTER"),
        ("malformed_tool_use", "MALFORMED_OUTPUT"),
        ("malformed_model_output", "MALFORMED_OUTPUT"),
        ("something_new", "UNSPECIFIED"),
    ],
)
def test_reasons_to_stop(stop: str, reason: str) -> None:
    said = answer([{"text": "x"}], stop, additionalModelResponseFields={"stop_sequence": "END"})
    for response in (decoded(said), read(b"".join(streamed(said)))):
        assert v1.FinishReason.Name(response.finish_reason) == f"FINISH_REASON_{reason}"
        assert (response.native_finish_reason, response.stop_sequence) == (stop, "END")


def used(**counts: Any) -> dict[str, Any]:
    said = decoded({**answer([{"text": "x"}]), "usage": counts}).usage
    return {field.name: value for field, value in said.ListFields() if field.name.endswith("_tokens")}


def test_usage_includes_what_the_cache_gave_and_took() -> None:
    apart = used(inputTokens=3, outputTokens=7, totalTokens=60, cacheReadInputTokens=40, cacheWriteInputTokens=10)
    assert (apart["input_tokens"], apart["output_tokens"], apart["total_tokens"]) == (53, 7, 60)
    assert (apart["cache_read_input_tokens"], apart["cache_write_input_tokens"]) == (40, 10)
    inside = used(inputTokens=53, outputTokens=7, totalTokens=60, cacheReadInputTokens=40, cacheWriteInputTokens=10)
    assert (inside["input_tokens"], inside["total_tokens"]) == (53, 60)
    assert used(outputTokens=5) == {"output_tokens": 5}
    lives = [{"ttl": "5m", "inputTokens": 4}, {"ttl": "1h", "inputTokens": 6}]
    assert (
        used(inputTokens=3, outputTokens=7, cacheWriteInputTokens=10, cacheDetails=lives)["cache_write_1h_input_tokens"]
        == 6
    )


def test_integers_beyond_64_bits_keep_their_digits() -> None:
    said = answer([{"toolUse": {"toolUseId": "t", "name": "f", "input": {"n": 12345678901234567890123}}}], "tool_use")
    assert decoded(said).message.parts[0].tool_call.arguments_json == '{"n":12345678901234567890123}'


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"output":{"message":{"content":[{"text":1}]}}}', b'{"output":1}']
)
def test_nonsense_is_told_from_answers(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decode(body, CLAUDE)


@pytest.mark.parametrize(
    "payload", [b"nonsense", b"[]", b'{"delta":{"text":"x"}}', b'{"contentBlockIndex":0,"delta":1}']
)
def test_nonsense_is_told_from_events(payload: bytes) -> None:
    headers = {":event-type": "contentBlockDelta", ":message-type": "event"}
    with pytest.raises(ProtocolError):
        read(frame(headers, payload))


def test_exceptions_inside_a_stream_are_raised() -> None:
    start, *_ = streamed(FULL)
    with pytest.raises(RateLimited) as raised:
        read(start + exception("throttlingException", {"message": "Too many requests"}))
    said = raised.value.provider_error
    assert said is not None
    assert (said.provider, said.type, said.message) == ("bedrock", "ThrottlingException", "Too many requests")
    with pytest.raises(AttemptTimeout):
        read(start + exception("modelTimeoutException", {}))
