"""Whatever a decoder writes, in whatever order it learns of it, comes out as a well-formed stream."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parley import v1
from parley.fold import fold
from parley_server.core.reply import Batch
from parley_server.dialects.parts import DeltaKind, PartWriter
from tests.strategies import answer_parts, citations, logprobs, replay_states, texts, usages

MIB = 1024 * 1024
DELTAS: dict[str | None, DeltaKind] = {
    "text": "text",
    "refusal": "text",
    "reasoning": "reasoning",
    "tool_call": "arguments_json",
}
KEYS = st.sampled_from(["text", "reasoning", 0, 1, ("tool", 0), ("tool", 1), None])
long_texts = st.builds(
    lambda piece, times: piece * times, st.sampled_from(["ab", "é", "語", "😀"]), st.sampled_from([1, 1000, 300_000])
)
fragments = texts | st.just("") | long_texts


def check(events: Batch) -> None:
    """Every promise in the comments of `StreamChatResponse` that holds before the edge numbers the events."""
    started: set[int] = set()
    done: set[int] = set()
    kinds: dict[int, str | None] = {}
    for position, event in enumerate(events):
        assert event.ByteSize() <= MIB
        assert not (position and events[position - 1].HasField("completed")), "something follows the end"
        match event.WhichOneof("event"):
            case "started":
                assert position == 0
            case "part_started":
                part = event.part_started.part
                assert event.part_started.part_index == len(started), "indexes grow from 0"
                started.add(len(started))
                kinds[event.part_started.part_index] = part.WhichOneof("kind")
                assert part.WhichOneof("kind")
                assert content(part) == ""
                assert not part.citations
                assert not part.HasField("replay_state")
                assert not part.provider_part.json
            case "part_delta":
                delta = event.part_delta
                assert delta.part_index in started - done
                kind = delta.WhichOneof("delta")
                assert kind in ("citation", DELTAS.get(kinds[delta.part_index]))
                assert kind == "citation" or delta.logprobs or getattr(delta, str(kind)), "a delta says something"
            case "part_completed":
                index = event.part_completed.part_index
                assert index in started - done
                done.add(index)
                assert event.part_completed.part.WhichOneof("kind") == kinds[index]
                assert content(event.part_completed.part) == ""
            case "completed":
                assert started == done


def content(part: v1.Part) -> str:
    """What travels in deltas."""
    return part.text + part.refusal.text + part.reasoning.text + part.tool_call.arguments_json


def extended(part: v1.Part, fragment: str) -> None:
    match part.WhichOneof("kind"):
        case "text":
            part.text += fragment
        case "refusal":
            part.refusal.text += fragment
        case "reasoning":
            part.reasoning.text += fragment
        case "tool_call":
            part.tool_call.arguments_json += fragment


class Writing(RuleBasedStateMachine):
    """Any order of writes; beside the writer a model that just keeps the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = PartWriter()
        self.events: Batch = []
        self.parts: list[v1.Part] = []
        self.open: dict[Hashable, v1.Part] = {}
        self.logprobs: list[v1.TokenLogprob] = []
        self.usage: v1.Usage | None = None
        self.end: v1.ResponseCompleted | None = None

    @initialize(model=st.sampled_from(["", "m-1"]))
    def start(self, model: str) -> None:
        self.writer.started(model)

    def _extendable(self) -> list[Hashable]:
        return [key for key, part in self.open.items() if part.WhichOneof("kind") in DELTAS]

    @precondition(lambda self: self.end is None)
    @rule(key=KEYS, part=answer_parts())
    def open_part(self, key: Hashable, part: v1.Part) -> None:
        if key in self.open:
            return
        self.writer.open(key, part)
        kept = v1.Part()
        kept.CopyFrom(part)
        self.open[key] = kept
        self.parts.append(kept)

    @precondition(lambda self: self.end is None and self._extendable())
    @rule(data=st.data(), fragment=fragments, times=st.integers(1, 3))
    def append(self, data: st.DataObject, fragment: str, times: int) -> None:
        key = data.draw(st.sampled_from(self._extendable()))
        for _ in range(times):
            self.writer.append(key, DELTAS[self.open[key].WhichOneof("kind")], fragment)
            extended(self.open[key], fragment)

    @precondition(lambda self: self.end is None and self._of_kind("text"))
    @rule(data=st.data(), text=texts, said=st.lists(logprobs, min_size=1, max_size=3))
    def append_with_logprobs(self, data: st.DataObject, text: str, said: list[v1.TokenLogprob]) -> None:
        key = data.draw(st.sampled_from(self._of_kind("text")))
        self.writer.logprobs(key, said, text)
        extended(self.open[key], text)
        self.logprobs += said

    @precondition(lambda self: self.end is None and self._of_kind("text"))
    @rule(data=st.data(), citation=citations)
    def cite(self, data: st.DataObject, citation: v1.Citation) -> None:
        key = data.draw(st.sampled_from(self._of_kind("text")))
        self.writer.cite(key, citation)
        self.open[key].citations.append(citation)

    def _of_kind(self, kind: str) -> list[Hashable]:
        return [key for key, part in self.open.items() if part.WhichOneof("kind") == kind]

    @precondition(lambda self: self.end is None and self.open)
    @rule(data=st.data(), state=st.none() | replay_states)
    def close(self, data: st.DataObject, state: v1.ReplayState | None) -> None:
        key = data.draw(st.sampled_from(list(self.open)))
        self.writer.close(key, state)
        if state is not None:
            self.open[key].replay_state.CopyFrom(state)
        del self.open[key]

    @precondition(lambda self: self.end is None)
    @rule(part=answer_parts())
    def whole(self, part: v1.Part) -> None:
        self.writer.whole(part)
        self.parts.append(part)

    @precondition(lambda self: self.end is None)
    @rule()
    def close_all(self) -> None:
        self.writer.close_all()
        self.open.clear()

    @precondition(lambda self: self.end is None)
    @rule(usage=usages())
    def report(self, usage: v1.Usage) -> None:
        self.writer.usage(usage)
        self.usage = usage

    @rule()
    def take(self) -> None:
        self.events += self.writer.take()
        assert self.writer.take() == []

    @precondition(lambda self: self.end is None and len(self.parts) > 2)
    @rule()
    def complete(self) -> None:
        self.end = v1.ResponseCompleted(finish_reason=v1.FINISH_REASON_STOP, native_finish_reason="stop")
        self.writer.completed(self.end)
        self.open.clear()

    @invariant()
    def open_keys_are_those_of_the_model(self) -> None:
        assert self.writer.open_keys == list(self.open)
        assert all(self.writer.is_open(key) for key in self.open)

    def teardown(self) -> None:
        if self.end is None:
            self.writer.close_all()  # replay state and the like come with the completion of a part
        self.events += self.writer.take()
        check(self.events)
        folded = fold(self.events)
        assert list(folded.message.parts) == self.parts
        assert list(folded.logprobs) == self.logprobs
        if self.usage is not None:
            assert folded.usage == self.usage
        assert folded.finish_reason == (v1.FINISH_REASON_STOP if self.end else 0)


TestWriting: Any = Writing.TestCase
TestWriting.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def written(*steps: tuple[Any, ...]) -> Batch:
    """The events of a sequence of calls."""
    writer = PartWriter()
    for name, *arguments in steps:
        getattr(writer, name)(*arguments)
    return writer.take()


def test_adjacent_deltas_of_a_part_are_one_and_others_stay_apart() -> None:
    text, thought = v1.Part(text=""), v1.Part(reasoning=v1.ReasoningPart())
    events = written(
        ("open", "r", thought),
        ("open", "t", text),
        ("append", "t", "text", "a"),
        ("append", "t", "text", "b"),
        ("append", "r", "reasoning", "x"),
        ("append", "t", "text", "c"),
        ("close", "r"),
        ("append", "t", "text", "d"),
    )
    kinds = [(e.WhichOneof("event"), e.part_delta.text or e.part_delta.reasoning) for e in events]
    assert kinds == [
        ("part_started", ""),
        ("part_started", ""),
        ("part_delta", "ab"),
        ("part_delta", "x"),
        ("part_delta", "c"),
        ("part_completed", ""),
        ("part_delta", "d"),
    ]


def test_deltas_are_not_merged_across_reads() -> None:
    writer = PartWriter()
    writer.open("t", v1.Part(text="a"))
    assert [event.part_delta.text for event in writer.take()] == ["", "a"]
    writer.append("t", "text", "b")
    assert [event.part_delta.text for event in writer.take()] == ["b"]


@pytest.mark.parametrize("character", ["a", "é", "語", "😀", "\x00", '"'])
@pytest.mark.parametrize("kind", ["text", "refusal", "reasoning", "tool_call"])
def test_no_event_is_over_a_mebibyte(character: str, kind: str) -> None:
    long = character * (3 * MIB // len(character.encode()))
    part = v1.Part()
    match kind:
        case "text":
            part.text = long
        case "refusal":
            part.refusal.text = long
        case "reasoning":
            part.reasoning.text = long
        case "tool_call":
            part.tool_call.id, part.tool_call.name, part.tool_call.arguments_json = "call_0", "f", long
    events = written(("started", "m"), ("whole", part), ("completed", v1.ResponseCompleted()))
    check(events)
    assert list(fold(events).message.parts) == [part]


def test_log_probabilities_of_a_whole_answer_at_once_stay_below_a_mebibyte() -> None:
    likely = v1.TokenLogprob(token="字" * 8, logprob=-1.5, token_bytes=b"x" * 24)
    said = [v1.TokenLogprob(token="字" * 8, logprob=-0.5, top_logprobs=[likely] * 20) for _ in range(4000)]
    events = written(("open", "t", v1.Part(text="")), ("logprobs", "t", said, "字" * 32_000), ("close", "t"))
    check(events)
    folded = fold(events)
    assert list(folded.logprobs) == said
    assert folded.message.parts[0].text == "字" * 32_000


def test_a_key_may_be_used_again_for_another_part() -> None:
    events = written(
        ("open", "t", v1.Part(text="one")),
        ("close", "t"),
        ("open", "t", v1.Part(text="two")),
        ("completed", v1.ResponseCompleted()),
    )
    check(events)
    assert [part.text for part in fold(events).message.parts] == ["one", "two"]
    assert [e.part_started.part_index for e in events if e.HasField("part_started")] == [0, 1]


def test_what_the_caller_keeps_of_a_part_is_not_changed() -> None:
    part = v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments_json="{}"))
    before = part.SerializeToString()
    written(("open", "t", part), ("append", "t", "arguments_json", " "), ("close", "t", v1.ReplayState(provider="p")))
    assert part.SerializeToString() == before
