"""What the chunks of OpenAI, and of servers like it, add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    ProtocolError,
)
from parley_server.dialects.openai_chat import OpenAIChat
from tests.dialects.openai_wire import (
    COMPATIBLE,
    DONE,
    OPENAI,
    SERVER,
    call,
    calls,
    chunk,
    events,
    kinds,
    streamed,
    texts,
)

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_text_with_usage_behind_the_finish() -> None:
    frames = [*texts("Hel", "lo"), chunk({}, "stop"), chunk(usage=USAGE, service_tier="flex"), DONE]
    found = events(frames)
    assert kinds(found) == [
        "started",
        "part_started",
        "part_delta",
        "part_delta",
        "usage",
        "part_completed",
        "completed",
    ]
    assert found[0].started.provider_model == "gpt-4o-2024-08-06"
    assert found[4].usage.source == v1.Usage.SOURCE_PARTIAL
    assert found[-1].completed == v1.ResponseCompleted(
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="stop",
        usage=v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=3, output_tokens=2, total_tokens=5),
        route=v1.RouteInfo(model="gpt-4o-2024-08-06", provider_response_id="chatcmpl-1", service_tier="flex"),
    )
    assert fold(found).message.parts[0].text == "Hello"


def test_deltas_of_one_read_are_merged() -> None:
    found = events([*texts("a", "b", "c"), chunk({}, "stop"), DONE], one_read=True)
    assert [event.part_delta.text for event in found if event.HasField("part_delta")] == ["abc"]


def test_first_chunk_with_content_starts_the_answer_at_once() -> None:
    decoder = OpenAIChat().decoder(OPENAI)
    assert kinds(decoder.feed([chunk({"role": "assistant", "content": "Hi"})])) == [
        "started",
        "part_started",
        "part_delta",
    ]


def test_finish_on_the_chunk_of_the_last_words() -> None:
    response = streamed([*texts("Hel"), chunk({"content": "lo"}, "length", usage=USAGE), DONE])
    assert response.message.parts[0].text == "Hello"
    assert (response.finish_reason, response.usage.total_tokens) == (v1.FINISH_REASON_LENGTH, 5)


@pytest.mark.parametrize(
    "where",
    [
        [chunk({}, "stop"), chunk(usage=USAGE)],
        [chunk({}, "stop", usage=USAGE)],
        [chunk({}, "stop", x_groq={"usage": USAGE})],
        [chunk({}, "stop", choice={"usage": USAGE})],
        [chunk({"content": ""}, usage=USAGE | {"completion_tokens": 1}), chunk({}, "stop", usage=USAGE)],
    ],
)
def test_usage_wherever_it_stands(where: list[bytes]) -> None:
    response = streamed([*texts("a"), *where, DONE], SERVER, COMPATIBLE)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 2)


def test_usage_in_every_chunk_is_one_event_a_read() -> None:
    frames = [chunk({"content": "a"}, usage=USAGE) for _ in range(5)]
    assert kinds(OpenAIChat().decoder(OPENAI).feed(frames)).count("usage") == 1


def test_chunks_before_the_first_choice_start_nothing() -> None:
    decoder = OpenAIChat().decoder(OPENAI)
    assert decoder.feed([chunk(prompt_filter_results=[], model="")]) == []
    assert decoder.feed([chunk({"content": "a"})])[0].started.provider_model == "gpt-4o-2024-08-06"


# ---------------------------------------------------------------------------------------------------------- tool calls


def test_tool_calls_stream_as_they_are_written() -> None:
    frames = [
        chunk({"role": "assistant", "content": None}),
        call(0, "", id="c1", name="f"),
        call(0, '{"a":'),
        call(0, "1}"),
        call(1, "", id="c2", name="g"),
        call(1, "{}"),
        chunk({}, "tool_calls"),
        DONE,
    ]
    found = events(frames)
    deltas = [event.part_delta.arguments_json for event in found if event.HasField("part_delta")]
    assert deltas == ['{"a":', "1}", "{}"]
    started = [event.part_started.part.tool_call for event in found if event.HasField("part_started")]
    assert started == [v1.ToolCall(id="c1", name="f"), v1.ToolCall(id="c2", name="g")]
    assert calls(fold(found)) == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]
    assert found[-1].completed.finish_reason == v1.FINISH_REASON_TOOL_CALL


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        pytest.param(
            [call(0, '{"a":1}', id="c1", name="f"), call(0, '{"b":2}', id="c2", name="g")],
            [("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}')],
            id="index_0_for_all",
        ),
        pytest.param(
            [call(0, '{"a":1}', name="f"), call(0, '{"b":2}', name="f")],
            [("call_chatcmpl1_0", "f", '{"a":1}'), ("call_chatcmpl1_1", "f", '{"b":2}')],
            id="index_0_for_all_and_no_ids",
        ),
        pytest.param(
            [call(None, "{", id="c1", name="f"), call(None, "}", id="c1"), call(None, "{}", id="c2", name="f")],
            [("c1", "f", "{}"), ("c2", "f", "{}")],
            id="ids_only",
        ),
        pytest.param(
            [call(None, "{", name="f"), call(None, "}"), call(None, "{}", name="g")],
            [("call_chatcmpl1_0", "f", "{}"), ("call_chatcmpl1_1", "g", "{}")],
            id="neither_index_nor_id",
        ),
        pytest.param(
            [call(0, "{", id="c1", name="f"), call(0, "}", id="c1", name="f")],
            [("c1", "f", "{}")],
            id="id_and_name_repeated",
        ),
        pytest.param(
            [call(0, "{", id="c1", name="f"), call(0, "}", id="made-up-anew")],
            [("c1", "f", "{}")],
            id="another_id_in_every_fragment",
        ),
        pytest.param(
            [call(0, "", id="a", name="f"), call(1, "", id="b", name="g"), call(0, "1"), call(1, "2"), call(0, "3")],
            [("a", "f", "13"), ("b", "g", "2")],
            id="fragments_take_turns",
        ),
        pytest.param(
            [call(0, '{"a":', id="c1"), call(0, "1}", name="f")],
            [("c1", "f", '{"a":1}')],
            id="name_comes_late",
        ),
        pytest.param([call(0, id="c1", name="f")], [("c1", "f", "{}")], id="no_arguments"),
        pytest.param(
            [
                chunk(
                    {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": {"z": 1, "a": 2}}}]}
                )
            ],
            [("c", "f", '{"z":1,"a":2}')],
            id="arguments_as_object",
        ),
        pytest.param(
            [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})],
            [("call_chatcmpl1_0", "f", "{}")],
            id="legacy_function_call",
        ),
    ],
)
def test_fragments_find_their_call(fragments: list[bytes], expected: list[tuple[str, str, str]]) -> None:
    response = streamed([*fragments, chunk({}, "stop"), DONE], SERVER, COMPATIBLE)
    assert calls(response) == expected
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL


def test_call_that_is_never_named_is_nonsense() -> None:
    with pytest.raises(ProtocolError):
        events([call(0, "{}", id="c1"), chunk({}, "tool_calls"), DONE])


def test_call_that_is_no_function_arrives_whole() -> None:
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": "sel"}},
        {"index": 0, "custom": {"input": "ect 1"}},
    ]
    response = streamed([*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"), DONE])
    block = response.message.parts[0].provider_part
    assert (block.type, json.loads(block.json)) == (
        "custom",
        {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
    )
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL


def test_signature_of_a_call_travels_with_its_end() -> None:
    fragment = {
        "index": 0,
        "id": "c",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "s"}},
    }
    part = streamed([chunk({"tool_calls": [fragment]}), chunk({}, "stop"), DONE], SERVER, COMPATIBLE).message.parts[0]
    assert json.loads(part.replay_state.data) == {"extra_content": {"google": {"thought_signature": "s"}}}


# ------------------------------------------------------------------------------------------- reasoning and other parts


def test_reasoning_ends_where_text_begins() -> None:
    frames = [chunk({"reasoning": "h"}), chunk({"reasoning": "m"}), *texts("42"), chunk({}, "stop"), DONE]
    found = events(frames, SERVER, COMPATIBLE)
    assert kinds(found)[1:7] == [
        "part_started",
        "part_delta",
        "part_delta",
        "part_completed",
        "part_started",
        "part_delta",
    ]
    state = found[4].part_completed.part.replay_state
    assert (state.provider, state.model, json.loads(state.data)) == ("local", "some-model", {"field": "reasoning"})
    assert fold(found).message.parts[0].reasoning.text == "hm"


def test_blocks_of_reasoning_are_put_together_until_the_end() -> None:
    def piece(**said: Any) -> bytes:
        return chunk(
            {"reasoning_details": [{"type": "reasoning.text", "index": 0, **said}], "reasoning": said.get("text")}
        )

    frames = [piece(text="h"), piece(text="m"), *texts("42"), piece(signature="sig"), chunk({}, "stop"), DONE]
    parts = streamed(frames, SERVER, COMPATIBLE).message.parts
    assert [part.WhichOneof("kind") for part in parts] == ["reasoning", "text"]
    assert json.loads(parts[0].replay_state.data) == {
        "field": "reasoning",
        "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "hm", "signature": "sig"}],
    }


def test_reasoning_that_is_withheld() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    frames = [chunk({"reasoning_details": details}), *texts("42"), chunk({}, "stop"), DONE]
    part = streamed(frames, SERVER, COMPATIBLE).message.parts[1]
    assert part.reasoning == v1.ReasoningPart(redacted=True)
    assert json.loads(part.replay_state.data) == {"reasoning_details": details}


def test_refusal() -> None:
    response = streamed([chunk({"refusal": "No"}), chunk({"refusal": "."}), chunk({}, "stop"), DONE])
    assert response.message.parts[0].refusal.text == "No."
    assert response.finish_reason == v1.FINISH_REASON_REFUSAL


def test_citations_behind_the_text() -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://a", "start_index": 0, "end_index": 1}}
    response = streamed([*texts("Hi"), chunk({"annotations": [annotation]}), chunk({}, "stop"), DONE])
    assert [citation.uri for citation in response.message.parts[0].citations] == ["https://a"]


def test_logprobs_stay_with_their_words() -> None:
    def word(text: str) -> bytes:
        tokens = [{"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}]
        return chunk({"content": text}, choice={"logprobs": {"content": tokens}})

    found = events([*texts(), word("a"), word("b"), chunk({}, "stop"), DONE], one_read=True)
    deltas = [event.part_delta for event in found if event.HasField("part_delta")]
    assert [(delta.text, delta.logprobs[0].token) for delta in deltas] == [("a", "a"), ("b", "b")]


def test_content_in_blocks() -> None:
    frames = [
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        chunk({"content": [{"type": "text", "text": "4"}]}),
        chunk({"content": "2"}),
        chunk({}, "stop"),
        DONE,
    ]
    parts = streamed(frames, SERVER, COMPATIBLE).message.parts
    assert (parts[0].reasoning.text, parts[1].text) == ("hm", "42")


def test_audio_arrives_whole() -> None:
    frames = [
        chunk({"audio": {"id": "audio_1", "transcript": "h"}}),
        chunk({"audio": {"transcript": "i", "data": "AA=="}}),
        chunk({}, "stop"),
        DONE,
    ]
    block = streamed(frames).message.parts[0].provider_part
    assert (block.type, json.loads(block.json)) == ("audio", {"id": "audio_1", "transcript": "hi", "data": "AA=="})


def test_other_choices_are_not_mixed_in() -> None:
    frames = [
        *texts("a"),
        chunk({"content": "X"}, choice={"index": 1}),
        chunk({"content": "b"}),
        chunk({}, "length", choice={"index": 1}),
        chunk({}, "stop"),
        DONE,
    ]
    response = streamed(frames)
    assert (response.message.parts[0].text, response.finish_reason) == ("ab", v1.FINISH_REASON_STOP)


def test_answer_of_nothing_is_one_empty_text() -> None:
    assert list(streamed([*texts(), chunk({}, "length"), DONE]).message.parts) == [v1.Part(text="")]
