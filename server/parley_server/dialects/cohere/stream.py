"""The events of a streamed `POST /v2/chat` as stream events, incrementally.

Texts stay open until the end, because citations may still come. The answer ends with `message-end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.cohere import answers
from parley_server.dialects.learned import Alike, Shape, around, run
from parley_server.dialects.parts import PartWriter


class EventDecoder:
    """Reads the data of events; the type inside says what the event's name says.

    Kept: which blocks are open and of what kind, the first text (for citations that do not say where), and the shape of
    a delta, which is the same for all deltas of a block.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = PartWriter()
        self._id = ""
        self._kinds: dict[int, str] = {}
        self._first_text: int | None = None
        self._calls = 0
        self._bare: set[tuple[str, int]] = set()  # calls without arguments so far
        self._shape: Shape | None = None  # of the deltas of the block below, which is one of text
        self._shape_block = -1
        self._started = False
        self._spoke = False
        self._over = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some frames. Raises the error that the provider reports, ProtocolError for nonsense."""
        try:
            at = 0
            while at < len(frames) and not self._over:  # behind the end there is [DONE]
                if self._shape is not None:
                    known, words = run(self._shape, frames, at)
                    if known:
                        self._writer.append(self._shape_block, "text", words)
                        at += known
                        continue
                self._frame(frames[at])
                at += 1
            return self._writer.take()
        except answers.MALFORMED as problem:
            raise ProtocolError("an event of the provider is not of its protocol") from problem

    def finish(self) -> Batch:
        """Nothing: `message-end` has ended the answer. Raises StreamInterrupted if it never came."""
        if not self._over:
            raise StreamInterrupted("the provider's stream ended before its answer did")
        return []

    # ----------------------------------------------------------------------------------------------------------- text

    def _frame(self, frame: bytes) -> None:
        event = orjson.loads(frame)
        if event["type"] == "content-delta":
            self._delta(event, frame)
        else:
            self._event(event)

    def _delta(self, event: dict[str, Any], frame: bytes) -> None:
        index, content = event["index"], event["delta"]["message"]["content"]
        if self._kinds.get(index) == "text":
            words = content["text"]
            if (entries := event.get("logprobs")) is not None:
                self._writer.logprobs(index, answers.logprobs(entries), words)
                return
            self._writer.append(index, "text", words)
            if words and index != self._shape_block:
                self._learn(frame, words, event)
        elif self._kinds.get(index) == "thinking":
            self._writer.append(index, "reasoning", content["thinking"])

    def _learn(self, frame: bytes, words: str, event: dict[str, Any]) -> None:
        """Keep what stands around the text of a delta that says nothing else."""
        event["delta"]["message"]["content"]["text"] = ""
        for before, behind in around(frame, words):
            try:
                same = orjson.loads(before + b'""' + behind) == event
            except orjson.JSONDecodeError:
                continue
            if same:
                self._shape, self._shape_block = Alike(before, behind), event["index"]
                return

    # --------------------------------------------------------------------------------------------------- other events

    def _event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "tool-plan-delta":
                self._plan(event["delta"]["message"]["tool_plan"])
            case "tool-call-delta":
                key = ("call", event["index"])
                if fragment := event["delta"]["message"]["tool_calls"]["function"].get("arguments"):
                    self._bare.discard(key)
                    self._writer.append(key, "arguments_json", fragment)
            case "message-start":
                self._id = event.get("id") or ""
                self._start()
            case "content-start":
                self._open(event["index"], event["delta"]["message"]["content"])
            case "content-end" if self._kinds.get(event["index"]) == "thinking":
                self._writer.close(event["index"], answers.reasoning_state(self._target))
            case "tool-call-start":
                self._call(event["index"], event["delta"]["message"]["tool_calls"])
            case "tool-call-end":
                self._end_call(("call", event["index"]))
            case "citation-start":
                self._cite(event["delta"]["message"]["citations"])
            case "message-end":
                self._end(event["delta"])
        # Others (debug, citation-end, and kinds that are yet to come) say nothing to us.

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._writer.started(self._target.model)

    def _plan(self, fragment: str) -> None:
        if fragment and not self._writer.is_open(answers.PLAN):
            self._spoke = True
            self._writer.open(answers.PLAN, v1.Part(text=""))
        self._writer.append(answers.PLAN, "text", fragment)

    def _open(self, index: int, content: dict[str, Any]) -> None:
        self._start()
        kind = content["type"]
        self._kinds[index] = kind
        if kind == "text":
            self._first_text = index if self._first_text is None else self._first_text
            self._writer.open(index, v1.Part(text=content.get("text") or ""))
        elif kind == "thinking":
            self._writer.open(index, v1.Part(reasoning=v1.ReasoningPart(text=content.get("thinking") or "")))
        self._spoke = self._spoke or kind in ("text", "thinking")

    def _call(self, index: int, call: dict[str, Any]) -> None:
        self._start()
        self._spoke = True
        part = answers.tool_call(call, self._calls, self._id)
        self._calls += 1
        key = ("call", index)
        if not part.tool_call.arguments_json:
            self._bare.add(key)
        self._writer.open(key, part)

    def _end_call(self, key: tuple[str, int]) -> None:
        if key in self._bare:
            self._bare.discard(key)
            self._writer.append(key, "arguments_json", "{}")
        self._writer.close(key)

    def _cite(self, citation: dict[str, Any]) -> None:
        cited = answers.cited_block(citation, self._first_text)
        if cited is not None and self._kinds.get(cited, "text") == "text" and self._writer.is_open(cited):  # type: ignore[arg-type]
            for one in answers.citations(citation):
                self._writer.cite(cited, one)

    def _end(self, delta: dict[str, Any]) -> None:
        self._start()
        end = answers.end(delta, self._target, called=self._calls > 0)
        for key in self._writer.open_keys:
            match key:
                case int() if self._kinds[key] == "thinking":
                    self._writer.close(key, answers.reasoning_state(self._target))
                case ("call", int(index)):
                    self._end_call(("call", index))
        if not self._spoke:
            self._writer.whole(v1.Part(text=""))  # an answer of nothing is still a turn that can be appended
        usage = answers.usage(delta.get("usage"), self._target)
        if usage is not None:
            self._writer.usage(usage)
        route = v1.RouteInfo(model=self._target.model, provider_response_id=self._id)
        self._writer.completed(v1.ResponseCompleted(usage=usage, route=route, **end))
        self._over = True
