"""The event stream of the Messages API as stream events, incrementally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.anthropic import answers
from parley_server.dialects.anthropic.errors import error_inside
from parley_server.dialects.anthropic.hosting import Hosting
from parley_server.dialects.learned import Shape, around, run
from parley_server.dialects.parts import PartWriter


@dataclass(slots=True)
class _Open:
    """A block that has begun. `unified`: it has a part, whose content goes out as it comes; else it goes out whole."""

    block: dict[str, Any]
    unified: bool
    fragments: list[str] = field(default_factory=list)
    """Of the JSON input of a provider's own tool; of a unified one only the first, which tells that there is one."""


class AnthropicDecoder:
    """Reads the data of server-sent events; the type inside says what the event's name says.

    Kept besides open parts: what a part needs at its end (signature, citations), blocks without unified form, the
    counts so far, and the head and end of the message, which arrive apart.
    """

    def __init__(self, target: Target, hosting: Hosting) -> None:
        self._target = target
        self._hosting = hosting
        self._writer = PartWriter()
        self._blocks: dict[int, _Open] = {}
        self._message: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._usage: v1.Usage | None = None
        self._started = False
        self._over = False
        self._shape: Shape | None = None  # of the deltas of the block below, which is one of text
        self._shape_block = -1

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some frames. Raises the error that the provider reports, ProtocolError for nonsense."""
        try:
            at = 0
            while at < len(frames) and not self._over:  # some gateways append a `[DONE]`
                if self._shape is not None:
                    known, words = run(self._shape, frames, at)
                    if known:
                        self._writer.append(self._shape_block, "text", words)
                        at += known
                        continue
                self._frame(frames[at])
                at += 1
            return self._writer.take()
        except answers.NONSENSE as error:
            raise ProtocolError("an event of the provider is not of its protocol") from error

    def finish(self) -> Batch:
        """Nothing: `message_stop` has ended the answer. Raises StreamInterrupted if it never came."""
        if not self._over:
            raise StreamInterrupted("the provider's stream ended before its message did")
        return []

    def _frame(self, frame: bytes) -> None:
        data = self._hosting.unpack(frame, self._target)
        if not data:
            return
        event = orjson.loads(data)
        if event["type"] != "content_block_delta":
            self._event(event)
            return
        index, delta = event["index"], event["delta"]
        opened = self._blocks[index]
        if delta["type"] == "text_delta" and opened.unified:
            words = delta["text"]
            self._writer.append(index, "text", words)
            if words and self._shape is None:
                self._learn(frame, data, words, index)
        else:
            self._delta(index, opened, delta)

    def _learn(self, frame: bytes, data: bytes, words: str, index: int) -> None:
        """Keep what stands around the text of a delta that is nothing but text."""
        for before, behind in around(data, words):
            try:
                delta = orjson.loads(before + b'""' + behind)["delta"]
            except orjson.JSONDecodeError:
                continue
            if delta == {"type": "text_delta", "text": ""}:
                self._shape, self._shape_block = self._hosting.shape(frame, before, behind), index
                return

    def _event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "content_block_start":
                self._open(event["index"], event["content_block"])
            case "content_block_stop":
                self._close(event["index"])
            case "message_start":
                self._message = event["message"]
                self._start()
                self._count(self._message.get("usage"))
            case "message_delta":
                self._message.update(_given(event["delta"]))
                self._count(event.get("usage"))
            case "message_stop":
                self._end()
            case "error":
                raise error_inside(event, self._target)
        # Others (ping, and kinds that are yet to come) say nothing to us; the API asks to skip what one does not know.

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._writer.started(self._message.get("model", ""))

    def _open(self, index: int, block: dict[str, Any]) -> None:
        self._start()
        part = answers.opened(block, self._message.get("id", ""), index, self._target)
        self._blocks[index] = _Open(block, unified=part is not None)
        if part is not None:
            self._writer.open(index, part)

    def _delta(self, index: int, opened: _Open, delta: dict[str, Any]) -> None:
        block = opened.block
        match delta["type"]:
            case "thinking_delta":
                self._writer.append(index, "reasoning", delta["thinking"])
            case "input_json_delta" if not opened.unified:
                opened.fragments.append(delta["partial_json"])
            case "input_json_delta" if delta["partial_json"]:
                opened.fragments = [delta["partial_json"]]
                self._writer.append(index, "arguments_json", delta["partial_json"])
            case "signature_delta":
                block["signature"] = block.get("signature", "") + delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
                self._writer.cite(index, answers.citation(delta["citation"]))
            case _ if not opened.unified:
                _extend(block, delta)

    def _close(self, index: int) -> None:
        opened = self._blocks.pop(index)
        if index == self._shape_block:
            self._shape = None
        block, fragments = opened.block, "".join(opened.fragments)
        if not opened.unified:
            if fragments:
                block["input"] = _parsed(fragments)
            self._writer.whole(answers.opaque(block, self._target))
            return
        if block["type"] == "tool_use" and not fragments and not block.get("input"):
            self._writer.append(index, "arguments_json", "{}")
        self._writer.close(index, answers.closing_state(block, self._target))

    def _count(self, counts: dict[str, Any] | None) -> None:
        """Counts are cumulative: a later one, 0 too, replaces an earlier one, and an absent one changes nothing."""
        if counts:
            self._counts.update(_given(counts))
            self._usage = answers.usage(self._counts, v1.Usage.SOURCE_PARTIAL)
            self._writer.usage(self._usage)

    def _end(self) -> None:
        self._start()
        for index in list(self._blocks):
            self._close(index)
        for part in answers.trailers(self._message, self._target):
            self._writer.whole(part)
        self._over = True
        if self._usage is not None:
            self._usage.source = v1.Usage.SOURCE_PROVIDER
        self._writer.completed(
            v1.ResponseCompleted(
                usage=self._usage,
                route=answers.route({**self._message, "usage": self._counts}),
                **answers.end(self._message),
            )
        )


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _extend(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Grow a block that has no unified form by a delta of any kind: texts are appended, everything else replaces."""
    for name, value in delta.items():
        if name == "type":
            continue
        before = block.get(name)
        block[name] = before + value if isinstance(before, str) and isinstance(value, str) else value


def _parsed(fragments: str) -> Any:
    """The input of a provider's own tool: its JSON as it came, or the bare text if the model wrote none."""
    try:
        orjson.loads(fragments)
    except orjson.JSONDecodeError:
        return fragments
    return orjson.Fragment(fragments)
