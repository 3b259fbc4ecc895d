"""Turns what a decoder reads into well-formed events: part indexes, one start, merged deltas, one completion.

Every decoder writes through this one file, so the guarantees of `StreamChatResponse` are kept in one place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Literal

from parley import v1
from parley.fold import announced, hollow, pieces
from parley_server.core.reply import Batch

DeltaKind = Literal["text", "reasoning", "arguments_json"]

_LARGEST_DELTA = 1000 * 1024  # bytes; an event, which is a little larger, stays within the 1 MiB of the contract


class PartWriter:
    """Builds the events of one stream. Parts go by any hashable key of the wire (a block index, "text", ("tool", 0)).

    Adjacent deltas of one part are merged until `take()`: a merged delta costs about a microsecond, an event thirty.
    """

    def __init__(self) -> None:
        self._events: Batch = []
        self._indexes: dict[Hashable, int] = {}
        self._shells: dict[Hashable, v1.Part] = {}
        self._next_index = 0
        self._pending_key: Hashable = None
        self._pending_kind: DeltaKind = "text"
        self._pending: list[str] = []

    def started(self, model: str = "") -> None:
        """The upstream has accepted the call."""
        self._event().started.provider_model = model

    def is_open(self, key: Hashable) -> bool:
        """Whether the part `key` has begun and not been closed."""
        return key in self._shells

    @property
    def open_keys(self) -> list[Hashable]:
        """Keys of the open parts, in the order they began."""
        return list(self._shells)

    def open(self, key: Hashable, part: v1.Part) -> None:
        """A part begins. Content that `part` already has becomes its first delta."""
        self._flush()
        shell = hollow(part)
        index = self._indexes[key] = self._next_index
        self._next_index += 1
        self._shells[key] = shell
        begun = self._event().part_started
        begun.part_index = index
        begun.part.CopyFrom(announced(shell))
        match part.WhichOneof("kind"):
            case "text" if part.text:
                self.append(key, "text", part.text)
            case "refusal" if part.refusal.text:
                self.append(key, "text", part.refusal.text)
            case "reasoning" if part.reasoning.text:
                self.append(key, "reasoning", part.reasoning.text)
            case "tool_call" if part.tool_call.arguments_json:
                self.append(key, "arguments_json", part.tool_call.arguments_json)
        for citation in part.citations:
            self.cite(key, citation)

    def append(self, key: Hashable, kind: DeltaKind, fragment: str) -> None:
        """More of an open part. An empty fragment says nothing."""
        if not fragment:
            return
        if key != self._pending_key or kind != self._pending_kind:
            self._flush()
            self._pending_key, self._pending_kind = key, kind
        self._pending.append(fragment)

    def logprobs(self, key: Hashable, logprobs: Iterable[v1.TokenLogprob], text: str) -> None:
        """A text fragment with the log probabilities of its tokens; never merged, so that both stay together."""
        self._flush()
        delta = v1.PartDelta(part_index=self._indexes[key], text=text, logprobs=logprobs)
        if delta.ByteSize() <= _LARGEST_DELTA:
            self._events.append(v1.StreamChatResponse(part_delta=delta))
            return
        self.append(key, "text", text)
        self._flush()
        for some in _batches(delta.logprobs):
            part = v1.PartDelta(part_index=delta.part_index, text="", logprobs=some)
            self._events.append(v1.StreamChatResponse(part_delta=part))

    def cite(self, key: Hashable, citation: v1.Citation) -> None:
        """One more citation of an open text part."""
        self._flush()
        delta = v1.PartDelta(part_index=self._indexes[key], citation=citation)
        self._events.append(v1.StreamChatResponse(part_delta=delta))

    def close(self, key: Hashable, replay_state: v1.ReplayState | None = None) -> None:
        """A part is complete. Its key may be used again for another part."""
        self._flush()
        shell = self._shells.pop(key)
        if replay_state is not None:
            shell.replay_state.CopyFrom(replay_state)
        ended = self._event().part_completed
        ended.part_index = self._indexes.pop(key)
        ended.part.CopyFrom(shell)

    def close_all(self) -> None:
        """Complete every open part, in the order they began."""
        for key in self.open_keys:
            self.close(key)

    def whole(self, part: v1.Part) -> None:
        """A part that the provider sends in one piece."""
        key = object()
        self.open(key, part)
        self.close(key)

    def usage(self, usage: v1.Usage) -> None:
        """Cumulative usage so far."""
        self._flush()
        self._event().usage.CopyFrom(usage)

    def completed(self, completed: v1.ResponseCompleted) -> None:
        """The answer is complete; open parts are closed first."""
        self.close_all()
        self._event().completed.CopyFrom(completed)

    def take(self) -> Batch:
        """The events since the last call."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        if not self._pending:
            return
        index, kind = self._indexes[self._pending_key], self._pending_kind
        for text in pieces("".join(self._pending)):
            delta = self._event().part_delta
            delta.part_index = index
            setattr(delta, kind, text)
        self._pending = []

    def _event(self) -> v1.StreamChatResponse:
        """The next event, to be filled in place: what is made on its own costs twice as much, since it is copied in."""
        event = v1.StreamChatResponse()
        self._events.append(event)
        return event


def _batches(logprobs: Iterable[v1.TokenLogprob]) -> Iterator[list[v1.TokenLogprob]]:
    """`logprobs` in batches that fit into one delta each."""
    batch: list[v1.TokenLogprob] = []
    size = 0
    for entry in logprobs:
        entry_size = entry.ByteSize() + 8  # with its tag and length
        if batch and size + entry_size > _LARGEST_DELTA - 64:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry_size
    if batch:
        yield batch
