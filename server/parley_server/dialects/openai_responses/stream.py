"""From the typed events of a stream to events.

An item's deltas become the deltas of its parts; what the deltas did not say (citations, state, whole items of servers
that send no deltas) is taken from the complete item, which comes with `response.output_item.done` and once more in the
last event. The answer ends with `response.completed`, `.incomplete` or `.failed`; there need be no [DONE].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.learned import Shape, run
from parley_server.dialects.openai_chat.decode import MALFORMED, logprobs
from parley_server.dialects.openai_chat.errors import said_inside
from parley_server.dialects.openai_responses import answers
from parley_server.dialects.openai_responses.decode import reasoning_beside
from parley_server.dialects.openai_responses.learned import learn
from parley_server.dialects.openai_responses.quirks import ResponsesQuirks
from parley_server.dialects.parts import PartWriter

Event = Mapping[str, Any]
Key = tuple[int, int]
"""Of a part: the index of its item, and that of the piece within a message."""

_LESSONS = 20
"""Attempts to learn what deltas of text look like: a server whose deltas differ in more will not be understood."""


@dataclass(slots=True)
class _Item:
    """An item that is arriving."""

    kind: str
    place: tuple[str, int] | None = None
    """Of reasoning: which of its texts spoke last."""
    filled: bool = False
    """Of a function call: there were arguments."""
    told: dict[Key, _Told] = field(default_factory=dict)
    """Of a message: the pieces that have begun."""


@dataclass(slots=True)
class _Told:
    """What of a piece of a message has gone out."""

    words: bool = False
    tokens: bool = False
    citations: int = 0


class EventDecoder:
    """Events of the API in, events of ours out."""

    def __init__(self, target: Target, quirks: ResponsesQuirks) -> None:
        self._target = target
        self._quirks = quirks
        self._writer = PartWriter()
        self._response: dict[str, Any] = {}  # as it began; the last event has it whole
        self._started = False
        self._over = False
        self._spoke = False
        self._items: dict[int, _Item] = {}
        self._done: set[int] = set()
        self._seen = answers.Seen()
        self._shape: Shape | None = None  # of the deltas of the part that speaks
        self._shape_key: Key = (0, 0)
        self._lessons = _LESSONS

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of the frames that one read delivered."""
        try:
            at = 0
            while at < len(frames) and not self._over:
                if self._shape is not None:
                    known, words = run(self._shape, frames, at)
                    self._writer.append(self._shape_key, "text", words)
                    at += known
                    if at == len(frames):
                        break
                self._frame(frames[at])
                at += 1
            return self._writer.take()
        except orjson.JSONDecodeError:
            raise ProtocolError("the provider sent an event that is not JSON") from None
        except MALFORMED as problem:
            raise ProtocolError("the provider sent an event that is not of the form it should have") from problem

    def finish(self) -> Batch:
        """The end of the connection. Raises StreamInterrupted if the answer was not over."""
        if not self._over:
            raise StreamInterrupted(f"{self._target.provider} ended the stream before its end marker")
        return self._writer.take()

    # --------------------------------------------------------------------------------------------------------- events

    def _frame(self, frame: bytes) -> None:
        if frame == b"[DONE]":
            return
        event = orjson.loads(frame)
        match event.get("type"):
            case "response.output_text.delta":
                self._text(event, frame)
            case "response.function_call_arguments.delta":
                self._arguments(event)
            case "response.reasoning_summary_text.delta":
                self._reasoning(event, ("summary", event.get("summary_index") or 0))
            case "response.reasoning_text.delta":
                self._reasoning(event, ("content", event.get("content_index") or 0))
            case "response.refusal.delta":
                self._refusal(event)
            case "response.output_text.annotation.added":
                self._annotation(event)
            case "response.content_part.added":
                self._content_part(event)
            case "response.output_item.added":
                self._added(event["output_index"], event["item"])
            case "response.output_item.done":
                self._complete(event["output_index"], event["item"])
            case "response.created" | "response.queued" | "response.in_progress":
                self._response |= event.get("response") or {}
                self._start()
            case "response.completed" | "response.incomplete" | "response.cancelled":
                self._end(event["response"])
            case "response.failed":
                raise answers.failure(event["response"], self._target)
            case "error":
                raise said_inside(_as_error(event), self._target)
            case None if event.get("error"):
                raise said_inside(event, self._target)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._writer.started(self._response.get("model") or "")

    def _open(self, key: Key, part: v1.Part) -> None:
        self._start()
        self._spoke = True
        self._writer.open(key, part)

    def _item(self, event: Event, kind: str) -> _Item:
        index = event["output_index"]
        if index not in self._items:
            self._items[index] = _Item(kind)
        return self._items[index]

    def _added(self, index: int, item: Event) -> None:
        self._start()
        self._items[index] = _Item(item["type"])
        if item["type"] == "function_call" and item.get("name"):
            key = (index, 0)
            self._open(key, self._call_part(item))
            self._fill(key, item.get("arguments"))

    # ------------------------------------------------------------------------------------------------------- messages

    def _piece(self, event: Event) -> tuple[Key, _Told]:
        """The key of a piece of a message, and what has been told of it."""
        key = event["output_index"], event.get("content_index") or 0
        return key, self._item(event, "message").told.setdefault(key, _Told())

    def _content_part(self, event: Event) -> None:
        match event["part"].get("type"):
            case "output_text" | "text":
                part = v1.Part(text="")
            case "refusal":
                part = v1.Part(refusal=v1.RefusalPart())
            case _:  # reasoning begins with its first words, and what is unknown comes whole
                return
        key, _ = self._piece(event)
        if not self._writer.is_open(key):
            self._open(key, part)

    def _text(self, event: Event, frame: bytes) -> None:
        key, told = self._piece(event)
        words, tokens = event["delta"], event.get("logprobs")
        if not isinstance(words, str):
            raise TypeError("a delta of text is text")
        if not self._writer.is_open(key):
            self._open(key, v1.Part(text=""))
        told.words = True
        if tokens:
            told.tokens = True
            self._writer.logprobs(key, logprobs({"content": tokens}), words)
        else:
            self._writer.append(key, "text", words)
            if words and self._lessons:
                self._lessons -= 1
                self._shape, self._shape_key = learn(frame, words), key

    def _refusal(self, event: Event) -> None:
        key, told = self._piece(event)
        told.words = self._seen.refused = True
        if not self._writer.is_open(key):
            self._open(key, v1.Part(refusal=v1.RefusalPart()))
        self._writer.append(key, "text", event["delta"])

    def _annotation(self, event: Event) -> None:
        key, told = self._piece(event)
        if not self._writer.is_open(key):
            self._open(key, v1.Part(text=""))
        told.citations += 1
        for citation in answers.citations([event.get("annotation")]):
            self._writer.cite(key, citation)

    def _end_message(self, index: int, item: Event) -> None:
        told = self._items[index].told if index in self._items else {}
        contents = item.get("content") or ()
        keys = [(index, number) for number in range(len(contents))]
        if told and max(told) not in keys:  # vLLM counts the reasoning in front of a message as a piece of it
            keys = [*sorted(told), *((index, -1 - number) for number in range(len(contents)))]
        for key, content in zip(keys, contents, strict=False):
            part = answers.content_part(content, item, self._target)
            if part.HasField("provider_part"):
                self._spoke = True
                self._writer.whole(part)
                continue
            self._end_piece(key, content, part, told.get(key, _Told()))
        for key in told:
            if self._writer.is_open(key):
                self._writer.close(key, answers.message_state(item, self._target))

    def _end_piece(self, key: Key, content: Event, part: v1.Part, told: _Told) -> None:
        """Say what of a complete piece the deltas did not say, and close it."""
        refusal = part.HasField("refusal")
        if not self._writer.is_open(key):
            self._open(key, v1.Part(refusal=v1.RefusalPart()) if refusal else v1.Part(text=""))
        words = "" if told.words else part.refusal.text or part.text
        tokens = () if told.tokens else logprobs({"content": content.get("logprobs")})
        if tokens:
            self._writer.logprobs(key, tokens, words)
        else:
            self._writer.append(key, "text", words)
        for citation in answers.citations((content.get("annotations") or [])[told.citations :]):
            self._writer.cite(key, citation)
        self._writer.close(key, part.replay_state if part.HasField("replay_state") else None)

    # -------------------------------------------------------------------------------------------- reasoning and calls

    def _reasoning(self, event: Event, place: tuple[str, int]) -> None:
        if not event["delta"]:
            return
        item = self._item(event, "reasoning")
        key = (event["output_index"], 0)
        if not self._writer.is_open(key):
            self._open(key, v1.Part(reasoning=v1.ReasoningPart()))
        if item.place not in (None, place):
            self._writer.append(key, "reasoning", answers.JOINT)
        item.place = place
        self._writer.append(key, "reasoning", event["delta"])

    def _call_part(self, item: Event) -> v1.Part:
        return answers.call_part(item, self._response.get("id") or "", ids_repeat=self._quirks.call_ids_repeat)

    def _arguments(self, event: Event) -> None:
        key = (event["output_index"], 0)
        if self._writer.is_open(key):  # else its name is not known yet, and the complete item will have it all
            self._fill(key, event["delta"])

    def _fill(self, key: Key, fragment: str | None) -> None:
        if fragment:
            self._items[key[0]].filled = True
            self._writer.append(key, "arguments_json", fragment)

    # ------------------------------------------------------------------------------------------------------- the end

    def _complete(self, index: int, item: Event) -> None:
        """An item is complete."""
        if index in self._done:
            return
        self._done.add(index)
        self._start()
        self._seen.item(item)
        key = (index, 0)
        match item["type"]:
            case "message":
                self._end_message(index, item)
            case "reasoning" if self._writer.is_open(key):
                self._writer.close(key, answers.reasoning_state(item, self._target))
            case "function_call" if self._writer.is_open(key):
                if not self._items[index].filled:
                    self._writer.append(key, "arguments_json", item.get("arguments") or "{}")
                self._writer.close(key, answers.call_state(item, self._target))
            case _:
                response_id = self._response.get("id") or ""
                repeat = self._quirks.call_ids_repeat
                for part in answers.parts(item, response_id, self._target, ids_repeat=repeat):
                    self._spoke = True
                    self._writer.whole(part)
        self._items.pop(index, None)
        if self._shape_key[0] == index:
            self._shape = None

    def _end(self, response: Event) -> None:
        self._over = True
        self._response |= response
        self._start()
        output = response.get("output") or ()
        if len(output) > len(self._done):  # some servers leave out the events of items, others the items here
            for index, item in enumerate(output):
                self._complete(index, item)
        for index, item in list(self._items.items()):  # begun, and nothing more was heard of them
            if self._writer.is_open((index, 0)) or item.told:
                self._complete(index, {"type": item.kind})
            elif item.kind == "function_call" and response.get("status") == "completed":
                raise ProtocolError("the provider called a tool without naming it")
        writer = self._writer
        if (beside := reasoning_beside(self._response, self._quirks)) is not None:
            self._spoke = True
            writer.whole(beside)
        if not self._spoke:
            writer.whole(v1.Part(text=""))  # an answer of nothing is still a turn that can be appended
        completed = v1.ResponseCompleted()
        completed.finish_reason, completed.native_finish_reason = answers.end(response, self._seen)
        answers.fill_route(completed.route, self._response, self._target)
        if isinstance(said := response.get("usage"), dict):
            answers.fill_usage(completed.usage, said, self._seen.server_calls)
        writer.completed(completed)


def _as_error(event: Event) -> Event:
    """An error event in the form of an error body: some servers nest the error, others have its fields in the event."""
    if event.get("error"):
        return event
    return {"error": {name: value for name, value in event.items() if name not in ("type", "sequence_number")}}
