"""Streams of streamGenerateContent: any split gives the same answer, and only a whole one gives any."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    Overloaded,
    PromptBlocked,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from tests.dialects.gemini_wire import (
    DIALECT,
    TARGET,
    answer,
    chunk,
    decoded,
    events_of,
    read,
    streamed,
    wholes,
    wire,
)

TURN = answer(
    [
        {"text": "Let me look. 🔭", "thought": True},
        {"text": "Ich schaue nach: 🌍é"},
        {"functionCall": {"name": "weather", "args": {"city": "Zürich", "days": 2}}, "thoughtSignature": "c2lnbmVk"},
    ]
)


def _in_two(text: str) -> list[str]:
    return [text[:9], text[9:]]


def test_every_split_gives_the_same_answer() -> None:
    data = wire(*streamed(TURN, _in_two))
    whole = read(data)
    assert [part.WhichOneof("kind") for part in whole.message.parts] == ["reasoning", "text", "tool_call"]
    assert whole.message.parts[1].text == "Ich schaue nach: 🌍é"
    assert whole.finish_reason == v1.FINISH_REASON_TOOL_CALL
    for cut in range(len(data) + 1):  # inside emoji, keys, numbers and line ends
        assert read(data, [cut]) == whole


@given(wholes, st.lists(st.integers(0, 10**6), max_size=8))
def test_any_answer_reads_the_same_whole_and_streamed(whole: dict[str, Any], cuts: list[int]) -> None:
    assert read(wire(*streamed(whole)), cuts) == decoded(whole)


def test_every_strict_prefix_raises_stream_interrupted() -> None:
    data = wire(*streamed(TURN, _in_two)).rstrip()
    read(data)
    for length in range(len(data)):
        with pytest.raises(StreamInterrupted):
            read(data[:length])


def test_events_come_in_the_order_of_the_contract() -> None:
    kinds = [event.WhichOneof("event") for event in events_of(wire(*streamed(TURN, lambda text: [text])))]
    reasoning = ["part_started", "part_delta", "part_completed"]
    text = ["part_started", "part_delta"]
    assert kinds == ["started", *reasoning, *text, *reasoning, "usage", "part_completed", "completed"]


def test_deltas_of_one_read_are_merged_and_leave_with_it() -> None:
    decoder = DIALECT.decoder(TARGET)
    frames = [json.dumps(chunk({"text": letter})).encode() for letter in "abcdef"]
    texts = [event.part_delta.text for event in decoder.feed(frames[:4]) if event.HasField("part_delta")]
    assert texts == ["abcd"]
    assert [event.part_delta.text for event in decoder.feed(frames[4:])] == ["ef"]


def test_counts_are_reported_as_they_grow() -> None:
    decoder = DIALECT.decoder(TARGET)
    reported = []
    for written in range(1, 400):
        said = {"promptTokenCount": 5, "candidatesTokenCount": written, "totalTokenCount": 5 + written}
        events = decoder.feed([json.dumps({**chunk({"text": "x"}), "usageMetadata": said}).encode()])
        reported += [event.usage for event in events if event.HasField("usage")]
    counts = [usage.output_tokens for usage in reported]
    assert counts[0] == 1
    assert all(64 <= later - earlier <= 64 + 8 for earlier, later in pairwise(counts))
    assert counts[-1] > 300
    assert {usage.source for usage in reported} == {v1.Usage.SOURCE_PARTIAL}


def test_the_end_tells_everything() -> None:
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10}
    last = {**chunk({"text": "!"}, finishReason="MAX_TOKENS"), "usageMetadata": {**counts, "serviceTier": "flex"}}
    said = read(wire(chunk({"text": "hi"}), last))
    assert (said.finish_reason, said.native_finish_reason) == (v1.FINISH_REASON_LENGTH, "MAX_TOKENS")
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.reasoning_output_tokens) == (5, 5, 3)
    assert said.usage.source == v1.Usage.SOURCE_PROVIDER
    assert said.route == v1.RouteInfo(
        model="gemini-3-flash-preview", provider_response_id="resp-1_A", service_tier="flex"
    )


def test_counts_may_come_without_a_candidate_and_behind_the_end() -> None:
    behind = {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}}
    assert read(wire(chunk({"text": "hi"}, finishReason="STOP"), behind)).usage.total_tokens == 3


def test_older_models_say_in_every_chunk_that_they_stop() -> None:
    said = read(wire(*(chunk({"text": letter}, finishReason="STOP") for letter in "abc")))
    assert said.message.parts == [v1.Part(text="abc")]


def test_an_end_without_content() -> None:
    last = chunk(finishReason="MAX_TOKENS")
    del last["candidates"][0]["content"]
    assert read(wire(last)).message.parts == [v1.Part(text="")]


def test_other_candidates_are_not_read() -> None:
    other = chunk({"text": "no"}, finishReason="STOP")
    other["candidates"][0]["index"] = 1
    said = read(wire(chunk({"text": "a"}), other, chunk({"text": "b"}, finishReason="STOP")))
    assert said.message.parts == [v1.Part(text="ab")]


def test_log_probabilities_travel_with_their_text() -> None:
    def one(token: str) -> dict[str, Any]:
        return {"chosenCandidates": [{"token": token, "logProbability": -1.0}]}

    stream = wire(
        chunk({"text": "a"}, logprobsResult=one("a")),
        chunk({"text": "b"}, logprobsResult=one("b")),
        chunk({"text": "", "thoughtSignature": "cw=="}, finishReason="STOP", logprobsResult=one("c")),
    )
    deltas = [event.part_delta for event in events_of(stream) if event.HasField("part_delta")]
    assert [(delta.text, delta.logprobs[0].token) for delta in deltas] == [("a", "a"), ("b", "b"), ("", "c")]


def test_a_blocked_prompt() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    with pytest.raises(PromptBlocked):
        read(wire(blocked))
    with pytest.raises(PromptBlocked):
        read(wire({"usageMetadata": {"promptTokenCount": 4}}, blocked))


def test_a_prompt_that_is_blocked_after_all_ends_the_answer() -> None:
    said = read(wire(chunk({"text": "a"}), {"promptFeedback": {"blockReason": "OTHER"}}))
    assert said.message.parts == [v1.Part(text="a")]
    assert (said.finish_reason, said.native_finish_reason) == (v1.FINISH_REASON_CONTENT_FILTER, "OTHER")


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
LIMITED = {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}


@pytest.mark.parametrize(
    "data",
    [
        wire(ERROR),
        wire(chunk({"text": "a"}), ERROR),
        wire(chunk({"text": "a"}), [ERROR]),
        wire(chunk({"text": "a"})) + json.dumps(ERROR).encode(),
        wire(chunk({"text": "a"})) + json.dumps(ERROR, indent=2).encode() + b"\n",
        wire(chunk({"text": "a"})) + json.dumps([ERROR], indent=2).encode(),
        json.dumps(ERROR).encode(),
    ],
)
def test_errors_inside_of_a_stream(data: bytes) -> None:
    for cut in range(0, len(data), 7):
        with pytest.raises(Overloaded):
            read(data, [cut])


def test_a_bare_error_is_told_before_the_connection_ends() -> None:
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    data = wire(chunk({"text": "a"})) + json.dumps(LIMITED, indent=2).encode() + b"\n"
    with pytest.raises(RateLimited):
        decoder.feed(framing.feed(data))


def test_an_error_without_a_status() -> None:
    with pytest.raises(Unavailable):
        read(wire({"error": {"message": "?"}}))


def test_a_list_instead_of_events() -> None:
    chunks = streamed(TURN, _in_two)
    data = json.dumps(chunks, indent=2, ensure_ascii=False).encode()
    assert read(data, [100, 200]) == read(wire(*chunks))
    with pytest.raises(StreamInterrupted):
        read(data[:-1])


def test_a_marker_that_gateways_append_is_skipped() -> None:
    data = wire(chunk({"text": "a"}, finishReason="STOP")) + b"data: [DONE]\n\n"
    assert read(data).message.parts == [v1.Part(text="a")]


@pytest.mark.parametrize(
    "frame",
    [b"1", b'"x"', b"{", b'{"candidates":1}', b'{"candidates":[{"content":{"parts":[{"text":7}]},"index":0}]}'],
)
def test_nonsense_is_a_protocol_error(frame: bytes) -> None:
    for before in ([], [json.dumps(chunk({"text": "a"})).encode()]):
        decoder = DIALECT.decoder(TARGET)
        decoder.feed(before)
        with pytest.raises(ProtocolError):
            decoder.feed([frame])


def test_words_outside_of_events_are_not_kept_for_ever() -> None:
    framing = DIALECT.framing()
    with pytest.raises(ProtocolError):
        for _ in range(20):
            framing.feed(b"x" * 1024 * 1024 + b"\n")


# --------------------------------------------------------------------------------------------------- calls in pieces


def piece(*values: dict[str, Any], more: bool = True, **fields: Any) -> dict[str, Any]:
    """A chunk with a piece of a call."""
    call = {**fields, **({"partialArgs": list(values)} if values else {}), **({"willContinue": True} if more else {})}
    return chunk({"functionCall": call})


END = chunk({"text": ""}, finishReason="STOP")


def test_arguments_in_pieces() -> None:
    said = read(
        wire(
            piece(name="book", id="c1"),
            piece({"jsonPath": "$.city", "stringValue": "New ", "willContinue": True}),
            piece({"jsonPath": "$.city", "stringValue": "Delhi", "willContinue": True}),
            piece({"jsonPath": "$.city", "stringValue": ""}),
            piece({"jsonPath": "$.guests[0].age", "numberValue": 7}, {"jsonPath": "$.guests[1].age", "numberValue": 8}),
            piece({"jsonPath": "$['a b']", "boolValue": True}, {"jsonPath": "$.none", "nullValue": None}),
            piece(more=False),
            piece({"jsonPath": "$.n", "numberValue": 1}, more=False, name="count"),
            END,
        )
    )
    assert [(part.tool_call.id, part.tool_call.name) for part in said.message.parts] == [
        ("c1", "book"),
        ("gemini_resp1A_1", "count"),
    ]
    assert json.loads(said.message.parts[0].tool_call.arguments_json) == {
        "city": "New Delhi",
        "guests": [{"age": 7}, {"age": 8}],
        "a b": True,
        "none": None,
    }
    assert said.message.parts[1].tool_call.arguments_json == '{"n":1}'
    assert said.finish_reason == v1.FINISH_REASON_TOOL_CALL


def test_a_call_in_pieces_ends_with_what_follows() -> None:
    signed = piece({"jsonPath": "$.a", "stringValue": "x"}, name="f")
    signed["candidates"][0]["content"]["parts"][0]["thoughtSignature"] = "cw=="
    said = read(wire(signed, chunk({"text": "done"}), END))
    first, second = said.message.parts
    assert (first.tool_call.arguments_json, first.replay_state.data) == ('{"a":"x"}', b"cw==")
    assert second.text == "done"
    assert fold(events_of(wire(piece(name="f"), END))).message.parts[0].tool_call.arguments_json == "{}"


@pytest.mark.parametrize("path", ["", "$", "a", "$.a[", "$.a[9999999]", "$.a[1]", "$..a", "$[0]", "$" + ".a" * 100_000])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(ProtocolError):
        read(wire(piece({"jsonPath": path, "stringValue": "x"}, name="f"), END))
