"""What the events of the Responses API add up to."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley.fold import fold
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.dialects.responses_wire import (
    OPENAI,
    SERVER,
    created,
    delta,
    ended,
    event,
    events,
    function_call,
    incomplete,
    kinds,
    message,
    reasoning,
    response,
    stream,
    streamed,
    words,
)

USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def test_text_from_beginning_to_end() -> None:
    found = events(stream(response(message(words("Hello")), usage=USAGE, service_tier="flex")))
    assert kinds(found) == ["started", "part_started", "part_delta", "part_delta", "part_completed", "completed"]
    assert found[0].started.provider_model == "gpt-5.4-2026-03-05"
    assert found[-1].completed == v1.ResponseCompleted(
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="completed",
        usage=v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=3, output_tokens=2, total_tokens=5),
        route=v1.RouteInfo(model="gpt-5.4-2026-03-05", provider_response_id="resp_1", service_tier="flex"),
    )
    assert fold(found).message.parts[0].text == "Hello"


def test_deltas_of_one_read_are_merged() -> None:
    found = events([created(), *map(delta, "abcd"), ended(response(message(words("abcd"))))], one_read=True)
    assert [event.part_delta.text for event in found if event.HasField("part_delta")] == ["abcd"]


def test_arguments_stream_as_they_are_written() -> None:
    found = events(stream(response(function_call("f", '{"abc":1}', "c1"), function_call("g", "{}", "c2"))))
    deltas = [event.part_delta.arguments_json for event in found if event.HasField("part_delta")]
    assert deltas == ['{"a', 'bc"', ":1}", "{}"]
    begun = [event.part_started.part.tool_call for event in found if event.HasField("part_started")]
    assert begun == [v1.ToolCall(id="c1", name="f"), v1.ToolCall(id="c2", name="g")]


def test_several_texts_of_one_thought_are_joined_as_in_a_whole_answer() -> None:
    found = events(stream(response(reasoning("one", "", "two", encrypted_content="x"), message(words("a")))))
    thought = "".join(event.part_delta.reasoning for event in found if event.HasField("part_delta"))
    assert thought == "one\n\ntwo"
    [done, _] = [event.part_completed.part for event in found if event.HasField("part_completed")]
    assert not done.reasoning.redacted
    assert b"encrypted_content" in done.replay_state.data


def test_withheld_thought_is_a_part_without_text() -> None:
    found = streamed(stream(response(reasoning(encrypted_content="x"), message(words("a")))))
    assert found.message.parts[0].reasoning == v1.ReasoningPart(redacted=True)


def test_the_state_is_that_of_the_item_and_not_of_the_last_event() -> None:
    """The last event encrypts anew, and what comes with it need not fit what came before."""
    frames = stream(response(reasoning(encrypted_content="first"), message(words("a"))))
    frames[-1] = ended(response(reasoning(encrypted_content="second"), message(words("a"))))
    assert b"first" in streamed(frames).message.parts[0].replay_state.data


def test_citations_come_with_their_text_and_only_once() -> None:
    note = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 1}
    whole = response(message(words("ab", annotations=[note])))
    assert len(streamed(stream(whole)).message.parts[0].citations) == 1
    silent = [frame for frame in stream(whole) if b"annotation.added" not in frame]
    assert len(streamed(silent).message.parts[0].citations) == 1


def test_log_probabilities_stay_with_their_text() -> None:
    tokens = [{"token": token, "logprob": -0.5, "bytes": [ord(token)], "top_logprobs": []} for token in "ab"]
    whole = response(message(words("ab", logprobs=tokens)))
    found = events(stream(whole))
    assert [(d.part_delta.text, len(d.part_delta.logprobs)) for d in found if d.HasField("part_delta")] == [
        ("a", 1),
        ("b", 1),
    ]
    late = [created(), delta("ab"), event("response.output_item.done", output_index=0, item=whole["output"][0])]
    assert [entry.token for entry in streamed([*late, ended(whole)]).logprobs] == ["a", "b"]


# ------------------------------------------------------------------------------------------------ servers that say less


@pytest.mark.parametrize(
    "left_out",
    [
        ("output_item.added",),
        ("content_part",),
        ("output_item.done",),
        (".delta", ".added"),
        (".delta", ".added", "output_item.done"),
        ("output_item.added", "content_part", "output_item.done"),
        ("response.created", "response.in_progress"),
        ("response.created", "response.in_progress", "output_item.added"),
    ],
)
def test_servers_that_leave_out_events(left_out: tuple[str, ...]) -> None:
    whole = response(
        reasoning("a thought", id="rs"),
        message(words("one"), words("two"), phase="commentary"),
        function_call("f", '{"a":1}'),
        {"type": "web_search_call", "id": "ws"},
        usage=USAGE,
    )
    frames = [frame for frame in stream(whole) if not any(name.encode() in frame[:70] for name in left_out)]
    assert streamed(frames) == streamed(stream(whole))


def test_items_that_are_only_in_their_own_events() -> None:
    whole = response(message(words("one")), function_call(), usage=USAGE)
    frames = [*stream(whole)[:-1], ended(response(usage=USAGE))]
    assert streamed(frames) == streamed(stream(whole))


def test_items_whose_places_begin_elsewhere_are_not_said_twice() -> None:
    whole = response(message(words("one")))
    done = event("response.output_item.done", output_index=1, item=whole["output"][0])
    assert len(streamed([created(), delta("one", output=1), done, ended(whole)]).message.parts) == 1


def test_pieces_that_are_counted_from_elsewhere() -> None:
    """vLLM counts the reasoning in front of a message as its first piece."""
    whole = response(message(words("one")))
    done = event("response.output_item.done", output_index=0, item=whole["output"][0])
    found = streamed([created(), delta("one", content=1), done, ended(whole)])
    assert list(found.message.parts) == [v1.Part(text="one")]


def test_what_began_and_was_never_heard_of_again_is_complete_with_the_answer() -> None:
    frames = [
        created(),
        event("response.output_item.added", output_index=0, item=function_call(arguments="")),
        event("response.function_call_arguments.delta", output_index=0, delta='{"a'),
        event("response.output_item.added", output_index=1, item=function_call("g", arguments="", id="call_2")),
        ended(incomplete("max_output_tokens")),
    ]
    found = streamed(frames)
    assert [part.tool_call.arguments_json for part in found.message.parts] == ['{"a', "{}"]
    assert found.finish_reason == v1.FINISH_REASON_LENGTH


def test_a_call_whose_name_comes_late() -> None:
    frames = [
        created(),
        event("response.output_item.added", output_index=0, item={"type": "function_call", "id": "fc"}),
        event("response.function_call_arguments.delta", output_index=0, delta="{"),
        event("response.output_item.done", output_index=0, item=function_call(arguments='{"a":1}')),
        ended(response()),
    ]
    [part] = streamed(frames).message.parts
    assert part.tool_call == v1.ToolCall(id="call_1", name="f", arguments_json='{"a":1}')


def test_a_call_whose_name_never_comes() -> None:
    begun = event("response.output_item.added", output_index=0, item={"type": "function_call", "id": "fc"})
    with pytest.raises(ProtocolError):
        events([created(), begun, ended(response())])
    cut_off = streamed([created(), begun, ended(incomplete("max_output_tokens"))])
    assert list(cut_off.message.parts) == [v1.Part(text="")]


def test_calls_whose_ids_begin_anew() -> None:
    quirks = ResponsesQuirks.mantle()
    [part] = streamed(stream(response(function_call(id="call_0"))), SERVER, quirks).message.parts
    assert part.tool_call.id == "resp_1:call_0"


def test_reasoning_beside_the_items() -> None:
    whole = response(message(words("a")), reasoning="thought")
    found = streamed(stream(whole), SERVER, ResponsesQuirks.mistralrs())
    assert found.message.parts[1].reasoning.text == "thought"


def test_what_is_unknown_says_nothing() -> None:
    whole = response(message(words("a")))
    first, *rest = stream(whole)
    odd = [event("response.of_the_future", x=1), event("keepalive"), b"{}", b"[DONE]"]
    assert streamed([first, *odd, *rest]) == streamed(stream(whole))


def test_refusals() -> None:
    found = streamed(stream(response(message({"type": "refusal", "refusal": "I cannot."}))))
    assert found.message.parts[0].refusal.text == "I cannot."
    assert found.finish_reason == v1.FINISH_REASON_REFUSAL


# ------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("behind", [[], [b"[DONE]"], [delta("more")]])
def test_the_last_event_ends_it_whatever_follows(behind: list[bytes]) -> None:
    found = streamed([*stream(response(message(words("a")))), *behind])
    assert found.message.parts[0].text == "a"


@pytest.mark.parametrize("number", range(7))
def test_before_the_last_event_it_is_interrupted(number: int) -> None:
    frames = stream(response(message(words("a"))))
    with pytest.raises(StreamInterrupted):
        events([*frames[:number], b"[DONE]"])


@pytest.mark.parametrize("whole", [response(), incomplete("content_filter")])
def test_an_answer_of_nothing(whole: dict[str, Any]) -> None:
    found = events([created(), ended(whole)])
    assert kinds(found) == ["started", "part_started", "part_completed", "completed"]
    assert list(fold(found).message.parts) == [v1.Part(text="")]


def test_the_start_goes_out_at_once() -> None:
    decoder = OpenAIResponses().decoder(OPENAI)
    assert kinds(decoder.feed([created()])) == ["started"]
    assert decoder.feed([event("response.in_progress", response={})]) == []
