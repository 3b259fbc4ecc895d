"""Whole answers and streams of Cohere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    GatewayError,
    ProtocolError,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.target import Target
from tests.dialects.cohere_wire import (
    DIALECT,
    TARGET,
    USAGE,
    answer,
    begin,
    both,
    call,
    citation,
    delta,
    end,
    event,
    events_of,
    heard,
    streamed,
    text,
    thinking,
    unary,
    wire,
)
from tests.strategies import texts, words


def kinds(response: v1.ChatResponse) -> list[str | None]:
    return [part.WhichOneof("kind") for part in response.message.parts]


class TestAnswers:
    def test_text(self) -> None:
        response = both(answer(text("Hello")))
        assert response.message == v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Hello")])
        assert (response.finish_reason, response.native_finish_reason) == (v1.FINISH_REASON_STOP, "COMPLETE")
        assert (response.route.model, response.route.provider_response_id) == (TARGET.model, "a-1")

    def test_thoughts_then_a_plan_then_calls(self) -> None:
        calls = [call("add", '{"x": 1}'), call("add", "", "c1")]
        response = both(answer(thinking("Hm"), tool_plan="I add.", tool_calls=calls, finish="TOOL_CALL"))
        assert kinds(response) == ["reasoning", "text", "tool_call", "tool_call"]
        assert response.message.parts[0].replay_state == v1.ReplayState(provider="cohere", model=TARGET.model)
        assert response.message.parts[1].text == "I add."
        said = [(part.tool_call.id, part.tool_call.arguments_json) for part in response.message.parts[2:]]
        assert said == [("c0", '{"x": 1}'), ("c1", "{}")]
        assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL

    def test_calls_without_an_id_get_one(self) -> None:
        response = both(answer(tool_calls=[call("f", "{}", ""), call("g", "{}", "")], finish="TOOL_CALL"))
        assert [part.tool_call.id for part in response.message.parts] == ["call_a1_0", "call_a1_1"]

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            (
                USAGE,
                {"input_tokens": 70, "output_tokens": 9, "total_tokens": 79, "cache_read_input_tokens": 64},
            ),
            (
                {"tokens": {"input_tokens": 7, "output_tokens": 9, "reasoning_tokens": 4}},
                {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16, "reasoning_output_tokens": 4},
            ),
            (
                {"billed_units": {"input_tokens": 3, "output_tokens": 5}, "cached_tokens": 99},
                {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
            ),
            ({"tokens": {"input_tokens": 7}}, {"input_tokens": 7}),
            ({}, None),
            (None, None),
        ],
    )
    def test_usage(self, usage: Any, expected: dict[str, int] | None) -> None:
        response = both(answer(text("x"), usage=usage))
        assert response.HasField("usage") == (expected is not None)
        said = {field.name: value for field, value in response.usage.ListFields() if field.name != "source"}
        assert said == (expected or {})

    def test_what_is_charged_is_not_what_is_counted(self) -> None:
        pricing = v1.ModelPricing(input_nano_usd=10**6, output_nano_usd=2 * 10**6, price_version="v")
        target = Target("cohere", "m", v1.Model(pricing=pricing))
        body = json.dumps(answer(text("x"))).encode()
        usage = DIALECT.decode(body, target).usage
        assert (usage.input_tokens, usage.output_tokens) == (70, 9)
        expected = v1.Cost(input_nano_usd=3, output_nano_usd=10, total_nano_usd=13, price_version="v")
        assert usage.cost == expected
        decoder = DIALECT.decoder(target)
        events = decoder.feed(DIALECT.framing().feed(wire(*events_of(answer(text("x"))))))
        assert events[-1].completed.usage.cost == expected
        pricing.unpriced_modalities.append(v1.MODALITY_IMAGE)
        target = Target("cohere", "m", v1.Model(pricing=pricing))
        assert not DIALECT.decode(body, target).usage.HasField("cost")

    @pytest.mark.parametrize(
        ("finish", "called", "expected"),
        [
            ("COMPLETE", False, v1.FINISH_REASON_STOP),
            ("COMPLETE", True, v1.FINISH_REASON_TOOL_CALL),
            ("STOP_SEQUENCE", False, v1.FINISH_REASON_STOP),
            ("MAX_TOKENS", True, v1.FINISH_REASON_LENGTH),
            ("TOOL_CALL", True, v1.FINISH_REASON_TOOL_CALL),
            ("TOOL_CALL", False, v1.FINISH_REASON_MALFORMED_OUTPUT),
            ("ERROR", False, v1.FINISH_REASON_ERROR),
            ("TIMEOUT", False, v1.FINISH_REASON_ERROR),
            ("something new", False, v1.FINISH_REASON_UNSPECIFIED),
        ],
    )
    def test_finish_reasons(self, finish: str, called: bool, expected: v1.FinishReason.ValueType) -> None:
        response = both(answer(text("x"), finish=finish, tool_calls=[call("f", "{}")] if called else []))
        assert response.finish_reason == expected
        assert response.native_finish_reason == finish

    def test_an_answer_of_nothing_is_a_turn_that_can_be_appended(self) -> None:
        assert both(answer()).message == v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="")])

    def test_blocks_and_fields_that_are_yet_to_come_say_nothing(self) -> None:
        whole = answer({"type": "hologram", "hologram": "?"}, text("x"), mood="good")
        assert kinds(unary(whole)) == ["text"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b'{"message":"text"}',
            b'{"message":{"content":[{"type":"text"}]}}',
            b'{"message":{"content":[{"type":"text","text":7}]}}',
            b'{"message":{"tool_calls":[{"function":{"name":""}}]}}',
            b'{"message":{"tool_calls":[{"id":"x"}]}}',
            b'{"message":{},"usage":{"tokens":{"input_tokens":"x"}}}',
        ],
    )
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            DIALECT.decode(body, TARGET)


class TestEndsThatAreErrors:
    def test_a_tool_call_that_came_out_wrong_keeps_what_was_said(self) -> None:
        response = streamed(
            begin(),
            event("tool-plan-delta", {"tool_plan": "I will"}),
            end("ERROR", {}, error="an invalid tool generation", error_type="INVALID_TOOL_GENERATION"),
        )
        assert response.message.parts[0].text == "I will"
        assert response.finish_reason == v1.FINISH_REASON_MALFORMED_OUTPUT
        assert [(warning.code, warning.message) for warning in response.warnings] == [
            ("MALFORMED_TOOL_CALL", "an invalid tool generation")
        ]

    @pytest.mark.parametrize(
        ("finish", "words", "expected"),
        [
            ("ERROR", "something broke", Unavailable),
            ("TIMEOUT", "too slow", AttemptTimeout),
            ("ERROR", "too many tokens: 9 > 8", ContextLengthExceeded),
        ],
    )
    def test_any_other_is_raised(self, finish: str, words: str, expected: type[GatewayError]) -> None:
        with pytest.raises(expected) as in_stream:
            streamed(begin(), delta("x"), end(finish, {}, error=words))
        with pytest.raises(expected) as in_whole:
            unary({**answer(finish=finish), "error": words})
        for caught in (in_stream.value, in_whole.value):
            assert type(caught) is expected
            assert caught.provider_error is not None
            assert caught.provider_error.message == words


DOCUMENT = {"type": "document", "id": "doc:2", "document": {"id": "doc:2", "title": "Facts", "text": "…"}}
TOOL = {"type": "tool", "id": "f_1:0", "tool_output": {"url": "https://x.example", "title": "X", "content": "…"}}


class TestCitations:
    def test_each_source_is_one(self) -> None:
        response = both(answer(text("It is 15°C 🌞 now"), citations=[citation(6, 12, DOCUMENT, TOOL)]))
        assert list(response.message.parts[0].citations) == [
            v1.Citation(start_index=6, end_index=12, title="Facts", source_index=2),
            v1.Citation(start_index=6, end_index=12, title="X", uri="https://x.example"),
        ]

    def test_one_without_sources_keeps_its_place(self) -> None:
        response = both(answer(text("x"), citations=[citation(0, 1)]))
        assert list(response.message.parts[0].citations) == [v1.Citation(start_index=0, end_index=1)]

    def test_it_belongs_to_the_block_that_it_names(self) -> None:
        content = (thinking("hm"), text("one"), text("two"))
        cited = [citation(0, 1, DOCUMENT), citation(0, 2, DOCUMENT, content_index=2)]
        response = both(answer(*content, citations=cited))
        assert [[one.end_index for one in part.citations] for part in response.message.parts] == [[], [1], [2]]

    def test_of_plans_and_thoughts(self) -> None:
        cited = [citation(0, 1, TOOL, type="PLAN"), citation(0, 1, TOOL, type="THINKING_CONTENT", content_index=0)]
        message: dict[str, Any] = {"tool_plan": "I do", "tool_calls": [call("f", "{}")], "citations": cited}
        response = both(answer(thinking("hm"), finish="TOOL_CALL", **message))
        assert [len(part.citations) for part in response.message.parts] == [0, 1, 0]

    def test_of_nothing_that_is_there(self) -> None:
        cited = [citation(0, 1, TOOL), citation(0, 1, TOOL, content_index=7), citation(0, 1, TOOL, type="PLAN")]
        response = both(answer(thinking("hm"), citations=cited))
        assert [len(part.citations) for part in response.message.parts] == [0]

    @pytest.mark.parametrize("fields", [{"title": 7, "url": None}, {}, None])
    def test_fields_of_documents_are_whatever_their_author_made_them(self, fields: Any) -> None:
        source = {"type": "document", "id": None, "document": fields}
        response = both(answer(text("x"), citations=[citation(0, 1, source)]))
        assert list(response.message.parts[0].citations) == [v1.Citation(start_index=0, end_index=1)]


class TestLogprobs:
    ENTRY = {"text": " Hi", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}  # noqa: RUF012  # never changed

    def test_of_whole_answers_and_streams(self) -> None:
        expected = [v1.TokenLogprob(token=" Hi", logprob=-0.75)]
        assert list(unary({**answer(text(" Hi")), "logprobs": [self.ENTRY]}).logprobs) == expected
        opened = event("content-start", {"content": {"type": "text", "text": ""}}, index=0)
        response = streamed(begin(), opened, delta(" Hi", logprobs=self.ENTRY), delta("!"), end())
        assert list(response.logprobs) == expected
        assert response.message.parts[0].text == " Hi!"


contents = st.lists(st.one_of(st.builds(text, texts), st.builds(thinking, texts)), max_size=3)
calls = st.lists(st.builds(call, words, texts.filter(bool), words), max_size=3)
cited = st.lists(
    st.builds(
        citation,
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([DOCUMENT, TOOL]),
        content_index=st.none() | st.integers(0, 3),
    ),
    max_size=2,
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    message = {"tool_plan": draw(texts), "tool_calls": draw(calls), "citations": draw(cited)}
    return answer(*draw(contents), finish=draw(st.sampled_from(["COMPLETE", "MAX_TOKENS", "TOOL_CALL"])), **message)


class TestStreams:
    def test_the_order_of_events(self) -> None:
        found = heard([wire(*events_of(answer(thinking("Hm"), text("Hi"))))])
        assert [one.WhichOneof("event") for one in found] == [
            "started",
            "part_started",
            "part_delta",
            "part_completed",
            "part_started",
            "part_delta",
            "usage",
            "part_completed",
            "completed",
        ]

    @given(answers(), st.integers(1, 5), st.data())
    def test_any_split_adds_up_to_the_whole_answer(self, whole: dict[str, Any], size: int, data: st.DataObject) -> None:
        stream = wire(*events_of(whole, size))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert fold(heard(pieces)) == unary(whole)

    @given(answers(), st.data())
    def test_a_prefix_is_interrupted(self, whole: dict[str, Any], data: st.DataObject) -> None:
        stream = wire(*events_of(whole), done=False)
        prefix = stream[: data.draw(st.integers(0, len(stream) - 3))]  # the last brace of the last event is missing
        with pytest.raises(StreamInterrupted):
            heard([prefix])

    @given(st.lists(texts, max_size=8), st.sampled_from(["", "text", '"', "content-delta", '"text":"', "-"]))
    def test_deltas_that_look_alike(self, fragments: list[str], spoiler: str) -> None:
        """What is kept of one delta to read the next faster must not mistake one for another."""
        opened = [event("content-start", {"content": {"type": "text", "text": ""}}, index=index) for index in (0, 1)]
        said = [delta(spoiler), *map(delta, fragments), delta("b", 1), delta(spoiler), *map(delta, fragments)]
        response = streamed(begin(), *opened, *said, end())
        once = spoiler + "".join(fragments)
        assert [part.text for part in response.message.parts] == [once + once, "b"]

    def test_a_delta_with_something_beside_its_text_is_not_overlooked(self) -> None:
        opened = event("content-start", {"content": {"type": "text", "text": ""}}, index=0)
        entry = {"text": "b", "token_ids": [1], "logprobs": [-1.0]}
        response = streamed(begin(), opened, delta("a"), delta("b", logprobs=entry), delta("c"), end())
        assert response.message.parts[0].text == "abc"
        assert len(response.logprobs) == 1

    def test_events_that_are_yet_to_come_say_nothing(self) -> None:
        opened = event("content-start", {"content": {"type": "hologram"}}, index=0)
        more = event("content-delta", {"content": {"hologram": "?"}}, index=0)
        closed = event("content-end", index=0)
        response = streamed(begin(), event("debug", prompt="…"), opened, more, closed, event("weather"), end())
        assert response.message.parts == [v1.Part(text="")]

    def test_what_stays_open_is_closed_at_the_end(self) -> None:
        opened = event("content-start", {"content": {"type": "thinking", "thinking": "a"}}, index=0)
        begun = event("tool-call-start", {"tool_calls": call("f", "")}, index=0)
        response = streamed(begin(), opened, begun, end("MAX_TOKENS"))
        assert response.message.parts[0].replay_state.provider == "cohere"
        assert response.message.parts[0].reasoning.text == "a"
        assert response.message.parts[1].tool_call.arguments_json == "{}"

    def test_a_stream_without_its_first_event(self) -> None:
        found = heard([wire(end())])
        assert found[0].WhichOneof("event") == "started"

    @pytest.mark.parametrize(
        "frame", [b"{", b"[]", b"7", b"{}", b'{"type":"content-delta"}', json.dumps(delta("x") | {"delta": 7}).encode()]
    )
    def test_nonsense(self, frame: bytes) -> None:
        with pytest.raises(ProtocolError):
            DIALECT.decoder(TARGET).feed([frame])
