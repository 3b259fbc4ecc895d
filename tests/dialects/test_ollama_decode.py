"""Whole answers and streams of Ollama."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import ModelNotFound, Overloaded, ProtocolError, StreamInterrupted, Unavailable
from tests.dialects.ollama_wire import COUNTS, DIALECT, TARGET, call, events, last, line, streamed, unary, wire
from tests.strategies import texts, words


def kinds(response: v1.ChatResponse) -> list[str | None]:
    return [part.WhichOneof("kind") for part in response.message.parts]


class TestAnswers:
    def test_text(self) -> None:
        response = unary(last({"content": "Hello"}, **COUNTS))
        assert response.message == v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Hello")])
        assert (response.finish_reason, response.native_finish_reason) == (v1.FINISH_REASON_STOP, "stop")
        assert response.usage == v1.Usage(
            source=v1.Usage.SOURCE_PROVIDER, input_tokens=7, output_tokens=5, total_tokens=12
        )
        assert response.route.model == "qwen3:4b"

    def test_thinking_then_text_then_calls(self) -> None:
        response = unary(last({"thinking": "Hm", "content": "So", "tool_calls": [call("add", {"x": 2, "y": 3})]}))
        assert kinds(response) == ["reasoning", "text", "tool_call"]
        reasoning = response.message.parts[0]
        assert (reasoning.reasoning.text, reasoning.replay_state.provider) == ("Hm", "ollama")
        assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
        assert response.native_finish_reason == "stop"

    @pytest.mark.parametrize(
        ("counts", "expected"),
        [
            ({}, {}),
            ({"eval_count": 5}, {"output_tokens": 5}),
            ({"prompt_eval_count": 7}, {"input_tokens": 7}),
            ({"prompt_eval_count": 7, "eval_count": 0}, {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7}),
        ],
    )
    def test_counts_that_are_absent_are_not_zero(self, counts: dict[str, Any], expected: dict[str, int]) -> None:
        for response in (unary(last({"content": "x"}, **counts)), streamed(last({"content": "x"}, **counts))):
            assert response.HasField("usage") == bool(counts)
            said = {field.name: value for field, value in response.usage.ListFields() if field.name != "source"}
            assert said == expected

    @pytest.mark.parametrize(
        ("reason", "called", "expected"),
        [
            ("stop", False, v1.FINISH_REASON_STOP),
            ("stop", True, v1.FINISH_REASON_TOOL_CALL),
            ("length", False, v1.FINISH_REASON_LENGTH),
            ("length", True, v1.FINISH_REASON_LENGTH),
            ("", True, v1.FINISH_REASON_TOOL_CALL),
            (None, False, v1.FINISH_REASON_UNSPECIFIED),
            ("load", False, v1.FINISH_REASON_UNSPECIFIED),
            ("something new", False, v1.FINISH_REASON_UNSPECIFIED),
        ],
    )
    def test_finish_reasons(self, reason: str | None, called: bool, expected: v1.FinishReason.ValueType) -> None:
        message = {"content": "x", **({"tool_calls": [call("f", {})]} if called else {})}
        for response in (unary(last(message, reason)), streamed(last(message, reason))):
            assert response.finish_reason == expected
            assert response.native_finish_reason == (reason or "")

    def test_an_answer_of_nothing_is_a_turn_that_can_be_appended(self) -> None:
        for response in (unary(last()), streamed(last()), streamed({"model": "m", "done": True})):
            assert response.message == v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="")])

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"not json", b"{}", b'{"message":"text"}', b'{"message":{"content":7}}'],
    )
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            DIALECT.decode(body, TARGET)

    def test_an_error_with_status_200(self) -> None:
        with pytest.raises(ModelNotFound):
            unary({"error": "model 'x' not found, try pulling it first"})


class TestToolCalls:
    def test_calls_are_numbered_whatever_the_provider_says(self) -> None:
        calls = [call("add", {"x": 1}), call("add", {"x": 2})]
        for response in (
            unary(last({"tool_calls": calls})),
            streamed(line({"tool_calls": calls[:1]}), line({"tool_calls": calls[1:]}), last()),
            streamed(line({"tool_calls": calls}), last()),
        ):
            said = [part.tool_call for part in response.message.parts]
            assert [json.loads(one.arguments_json) for one in said] == [{"x": 1}, {"x": 2}]
            assert [one.id for one in said] == [
                "call_20260806T062940054952Z_0",
                "call_20260806T062940054952Z_1",
            ]
            assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL

    def test_ids_of_the_provider_are_kept(self) -> None:
        response = unary(last({"tool_calls": [call("f", {}, id="call_abc"), call("f", {}, id="")]}))
        assert [part.tool_call.id for part in response.message.parts] == [
            "call_abc",
            "call_20260806T062940054952Z_1",
        ]

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({}, "{}"),
            (None, "{}"),
            ({"b": 1, "a": [3, 3.0, None]}, '{"b":1,"a":[3,3.0,null]}'),
            ({"n": 123456789012345678901234567890}, '{"n":123456789012345678901234567890}'),
            ({"n": 2**63}, '{"n":9223372036854775808}'),
            ('{"already": "text"}', '{"already": "text"}'),
            ({"ü": "😀"}, '{"ü":"😀"}'),
        ],
    )
    def test_arguments_are_exact(self, arguments: Any, expected: str) -> None:
        message = {"tool_calls": [call("f", arguments)]}
        for response in (unary(last(message)), streamed(line(message), last())):
            assert response.message.parts[0].tool_call.arguments_json == expected

    @pytest.mark.parametrize("broken", [{}, {"function": {}}, {"function": {"name": ""}}, {"function": "f"}, "f"])
    def test_a_call_without_a_name_is_nonsense(self, broken: Any) -> None:
        with pytest.raises(ProtocolError):
            unary(last({"tool_calls": [broken]}))
        with pytest.raises(ProtocolError):
            streamed(line({"tool_calls": [broken]}), last())


class TestLogprobs:
    ENTRY = {  # noqa: RUF012  # never changed
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [{"token": "\ufffd", "logprob": -1.5, "bytes": [0xF0, 0x9F]}],
    }
    EXPECTED = v1.TokenLogprob(
        token="Hi",
        logprob=-0.5,
        top_logprobs=[v1.TokenLogprob(token="\ufffd", logprob=-1.5, token_bytes=b"\xf0\x9f")],
    )

    def test_of_a_whole_answer(self) -> None:
        assert list(unary(last({"content": "Hi"}, logprobs=[self.ENTRY])).logprobs) == [self.EXPECTED]

    def test_of_a_stream_travel_with_the_text(self) -> None:
        found = events([wire(line({"content": "Hi"}, logprobs=[self.ENTRY]), last())])
        deltas = [event.part_delta for event in found if event.HasField("part_delta")]
        assert [(delta.text, list(delta.logprobs)) for delta in deltas] == [("Hi", [self.EXPECTED])]

    def test_those_of_thoughts_are_left_out_and_those_before_their_text_are_kept(self) -> None:
        response = streamed(
            line({"thinking": "Hm"}, logprobs=[self.ENTRY]),
            line(logprobs=[self.ENTRY]),
            line({"content": "Hi there"}, logprobs=[self.ENTRY]),
            line(logprobs=[self.ENTRY]),
            last(),
        )
        assert list(response.logprobs) == [self.EXPECTED] * 3
        assert [part.text or part.reasoning.text for part in response.message.parts] == ["Hm", "Hi there"]


fragments = st.one_of(
    st.builds(lambda text: {"content": text}, texts),
    st.builds(lambda text: {"thinking": text}, texts),
    st.builds(
        lambda name, values: {"tool_calls": [call(name, values)]}, words, st.dictionaries(words, texts, max_size=2)
    ),
)
endings = st.sampled_from([("stop", {}), ("stop", COUNTS), ("length", {"eval_count": 5}), (None, {})])


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    reason, counts = draw(endings)
    return [*(line(said) for said in draw(st.lists(fragments, max_size=6))), last(reason=reason, **counts)]


class TestStreams:
    def test_the_order_of_events(self) -> None:
        found = events([wire(line({"thinking": "Hm"}), line({"content": "Hi"}), last(**COUNTS))])
        assert [event.WhichOneof("event") for event in found] == [
            "started",
            "part_started",
            "part_delta",
            "part_completed",
            "part_started",
            "part_delta",
            "part_completed",
            "usage",
            "completed",
        ]
        assert found[0].started.provider_model == "qwen3:4b"
        assert found[3].part_completed.part.replay_state == v1.ReplayState(provider="ollama", model="qwen3:4b")
        assert found[-1].completed.route.model == "qwen3:4b"

    def test_what_one_read_delivers_becomes_one_delta(self) -> None:
        found = events([wire(*(line({"content": word}) for word in "abc")), wire(line({"content": "d"}), last())])
        assert [event.part_delta.text for event in found if event.HasField("part_delta")] == ["abc", "d"]

    def test_thinking_between_texts_is_a_part_of_its_own(self) -> None:
        response = streamed(
            line({"content": "a"}), line({"thinking": "b"}), line({"content": "c"}), line({"content": "d"}), last()
        )
        assert kinds(response) == ["text", "reasoning", "text"]
        assert response.message.parts[2].text == "cd"

    def test_the_last_line_may_bring_content(self) -> None:
        response = streamed(line({"content": "Have a"}), last({"content": " great day!"}))
        assert response.message.parts[0].text == "Have a great day!"

    def test_what_follows_the_last_line_is_ignored(self) -> None:
        assert streamed(last({"content": "x"}), line({"content": "y"})).message.parts[0].text == "x"

    @given(streams(), st.data())
    def test_any_split_of_the_bytes_gives_the_same_answer(
        self, lines: list[dict[str, Any]], data: st.DataObject
    ) -> None:
        body = wire(*lines)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
        pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        whole, cut = fold(events([body])), fold(events(pieces))
        assert whole == cut
        said = "".join(one["message"]["content"] for one in lines)
        thought = "".join(one["message"].get("thinking", "") for one in lines)
        assert "".join(part.text for part in cut.message.parts) == said
        assert "".join(part.reasoning.text for part in cut.message.parts) == thought
        called = [one for said in lines for one in said["message"].get("tool_calls", ())]
        calls = [part.tool_call for part in cut.message.parts if part.HasField("tool_call")]
        assert [(one.name, json.loads(one.arguments_json)) for one in calls] == [
            (one["function"]["name"], one["function"]["arguments"]) for one in called
        ]
        assert len({one.id for one in calls}) == len(calls)

    @given(streams(), st.data())
    def test_every_strict_prefix_is_interrupted(self, lines: list[dict[str, Any]], data: st.DataObject) -> None:
        body = wire(*lines).rstrip(b"\n")  # the newline behind the last line says nothing
        end = data.draw(st.integers(0, len(body) - 1))
        with pytest.raises(StreamInterrupted):
            events([body[:end]])

    def test_every_prefix_of_one_stream_is_interrupted(self) -> None:
        body = wire(line({"thinking": "😀"}), line({"tool_calls": [call("f", {"ü": 1})]}), last(**COUNTS)).rstrip()
        for end in range(len(body)):
            with pytest.raises(StreamInterrupted):
                events([body[:end]])
        assert events([body])[-1].HasField("completed")

    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            ("an error was encountered while running the model: CUDA error", Unavailable),
            ("server busy, please try again.  maximum pending requests exceeded", Overloaded),
            ("model 'x' not found", ModelNotFound),
        ],
    )
    def test_an_error_line(self, words: str, kind: type[Exception]) -> None:
        for before in ([], [line({"content": "so far"})]):
            with pytest.raises(Unavailable if issubclass(kind, Unavailable) else kind) as failed:
                events([wire(*before, {"error": words})])
            assert type(failed.value) is kind

    @pytest.mark.parametrize("broken", [b"nonsense\n", b"[]\n", b'{"message":[]}\n', b'{"message":{"content":7}}\n'])
    def test_nonsense_in_a_stream(self, broken: bytes) -> None:
        with pytest.raises(ProtocolError):
            events([wire(line({"content": "fine"})) + broken])
