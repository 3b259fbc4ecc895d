"""The event stream of ConverseStream as stream events, incrementally."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.bedrock import answers
from parley_server.dialects.bedrock.answers import NONSENSE, SERVER_TOOL
from parley_server.dialects.bedrock.errors import error_inside
from parley_server.dialects.bedrock.learned import Plain
from parley_server.dialects.framing.eventstream import opened
from parley_server.dialects.learned import Shape, around, run
from parley_server.dialects.parts import PartWriter


@dataclass(slots=True)
class _Open:
    """A block that has begun."""

    kind: str
    """text, reasoning, redacted, tool; anything else has no unified form and goes out whole."""
    block: dict[str, Any] = field(default_factory=dict)
    """Of one without a unified form: what there is so far."""
    kept: list[Any] = field(default_factory=list)
    """Citations, pieces of a signature or of what is withheld, pieces of input (of a tool call's only one)."""


class ConverseDecoder:
    """Reads frames of the event stream.

    The answer is over with `metadata`, the last event, which has the usage; a stream that ends behind `messageStop`
    lacks nothing but that. Blocks of text and of reasoning begin with their first delta.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = PartWriter()
        self._blocks: dict[int, _Open] = {}
        self._started = False
        self._stop: dict[str, Any] | None = None
        self._over = False
        self._shape: Shape | None = None  # of the deltas of the block below, which is one of text
        self._shape_block = -1

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some frames. Raises the error that the provider reports, ProtocolError for nonsense."""
        try:
            at = 0
            while at < len(frames) and not self._over:
                if self._shape is not None:
                    known, words = run(self._shape, frames, at)
                    if known:
                        self._writer.append(self._shape_block, "text", words)
                        at += known
                        continue
                self._frame(frames[at])
                at += 1
            return self._writer.take()
        except NONSENSE as problem:
            raise ProtocolError("the provider sent an event that is not one of ConverseStream") from problem

    def finish(self) -> Batch:
        """The end, where only usage did not come. Raises StreamInterrupted if the answer was not complete."""
        if not self._over:
            if self._stop is None:
                raise StreamInterrupted("the provider's stream ended before its message did")
            self._end({})
        return self._writer.take()

    def _frame(self, frame: bytes) -> None:
        head, payload = opened(frame)
        if head.kind != "event":
            raise error_inside(head, payload, self._target)
        event = orjson.loads(payload)
        if head.name != "contentBlockDelta":
            self._event(head.name, event)
            return
        index, delta = event["contentBlockIndex"], event["delta"]
        self._delta(index, delta)
        if self._shape is None and len(delta) == 1 and (words := delta.get("text")):
            self._learn(frame, payload, words, index)

    def _learn(self, frame: bytes, payload: bytes, words: str, index: int) -> None:
        """Keep what stands around the text of a delta that is nothing but text."""
        for before, behind in around(payload, words):
            try:
                delta = orjson.loads(before + b'""' + behind)["delta"]
            except orjson.JSONDecodeError:
                continue
            if delta == {"text": ""}:
                self._shape, self._shape_block = Plain(frame, before, behind), index
                return

    def _event(self, name: str, event: dict[str, Any]) -> None:
        match name:
            case "contentBlockStart":
                self._open(event["contentBlockIndex"], event["start"])
            case "contentBlockStop":
                self._close(event["contentBlockIndex"])
            case "messageStart":
                self._start()
            case "messageStop":
                self._stop = event
            case "metadata":
                self._end(event)
        # Others are yet to come and say nothing to us.

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._writer.started()

    def _open(self, index: int, start: dict[str, Any]) -> None:
        self._start()
        match start:
            case {"toolUse": {"toolUseId": str(id), "name": str(name), **use}} if use.get("type") != SERVER_TOOL:
                self._blocks[index] = _Open("tool")
                self._writer.open(index, v1.Part(tool_call=v1.ToolCall(id=id, name=name)))
            case _:
                kind = next(iter(start), "")
                self._blocks[index] = _Open(kind, {kind: dict(start.get(kind) or {})})

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        opened = self._blocks.get(index)
        text = delta.get("text")
        if text is not None:
            if opened is None:
                self._begin(index, "text", v1.Part(text=""))
            self._writer.append(index, "text", text)
            return
        match delta:
            case {"toolUse": {"input": str(fragment)}} if opened is not None:
                self._input(index, opened, fragment)
            case {"reasoningContent": _}:
                self._reasoning(index, delta["reasoningContent"])
            case {"citation": _}:
                opened = opened or self._begin(index, "text", v1.Part(text=""))
                opened.kept.append(delta["citation"])
                self._writer.cite(index, answers.citation(delta["citation"]))
            case {"toolResult": [*pieces]} if opened is not None and "toolResult" in opened.block:
                opened.block["toolResult"].setdefault("content", []).extend(pieces)
            case {"image": {**said}} if opened is not None and "image" in opened.block:
                opened.block["image"].update(said)

    def _begin(self, index: int, kind: str, part: v1.Part) -> _Open:
        self._start()
        opened = self._blocks[index] = _Open(kind)
        self._writer.open(index, part)
        return opened

    def _input(self, index: int, opened: _Open, fragment: str) -> None:
        if opened.kind != "tool":
            opened.kept.append(fragment)
        elif fragment:
            opened.kept = [fragment]
            self._writer.append(index, "arguments_json", fragment)

    def _reasoning(self, index: int, said: dict[str, Any]) -> None:
        opened = self._blocks.get(index)
        withheld = said.get("redactedContent")
        if opened is None:
            part = v1.Part(reasoning=v1.ReasoningPart(redacted=withheld is not None))
            opened = self._begin(index, "reasoning" if withheld is None else "redacted", part)
        if withheld is not None:
            opened.kept.append(base64.b64decode(withheld))
        elif said.get("signature"):
            opened.kept.append(said["signature"].encode())
        elif said.get("text"):
            self._writer.append(index, "reasoning", said["text"])

    def _close(self, index: int) -> None:
        opened = self._blocks.pop(index, None)
        if index == self._shape_block:
            self._shape = None
        if opened is None:  # a block without any content
            return
        match opened.kind:
            case "text" if opened.kept:
                self._writer.close(index, answers.citations_state(opened.kept, self._target))
            case "reasoning" | "redacted" if opened.kept:
                self._writer.close(index, answers.state(b"".join(opened.kept), self._target))
            case "tool" if not opened.kept:
                self._writer.append(index, "arguments_json", "{}")
                self._writer.close(index)
            case "text" | "reasoning" | "redacted" | "tool":
                self._writer.close(index)
            case kind:
                if kind == "toolUse":
                    opened.block[kind]["input"] = _parsed("".join(opened.kept))
                self._writer.whole(answers.opaque(opened.block, self._target))

    def _end(self, metadata: dict[str, Any]) -> None:
        self._start()
        for index in list(self._blocks):
            self._close(index)
        stop = self._stop or {}
        counts = metadata.get("usage")
        self._over = True
        self._writer.completed(
            v1.ResponseCompleted(
                usage=answers.usage(counts, v1.Usage.SOURCE_PROVIDER) if counts else None,
                route=answers.route(metadata),
                **answers.end(stop.get("stopReason"), stop.get("additionalModelResponseFields")),
            )
        )


def _parsed(fragments: str) -> Any:
    """The input of the provider's own tool: its JSON as it came, or the bare text if the model wrote none."""
    if not fragments:
        return {}
    try:
        orjson.loads(fragments)
    except orjson.JSONDecodeError:
        return fragments
    return orjson.Fragment(fragments)
