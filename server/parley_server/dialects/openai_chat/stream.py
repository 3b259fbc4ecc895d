"""From the chunks of a stream to events.

Text and tool calls stay open until the end, because citations, and fragments of an earlier call, may still come;
reasoning ends where something else begins. The answer ends with [DONE]. Where a server is not known to send it always,
the end of the connection after a finish reason will do; usage that was still to come is then lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.learned import around
from parley_server.dialects.openai_chat.blocks import DETAILS, join_blocks, split_block
from parley_server.dialects.openai_chat.decode import (
    MALFORMED,
    arguments,
    call_id,
    citations,
    content_block,
    fill_route,
    fill_usage,
    finish_reason,
    id_stamp,
    logprobs,
    provider_part,
    reasoning_state,
    replay_state,
    stop_sequence,
    text,
    told_usage,
)
from parley_server.dialects.openai_chat.errors import said_inside
from parley_server.dialects.openai_chat.pieces import Call, grow, join_details, only_words
from parley_server.dialects.openai_chat.quirks import Quirks
from parley_server.dialects.openai_chat.tags import IN_TAGS, Splitter
from parley_server.dialects.parts import PartWriter

_UNKNOWN = b"\xff"  # no chunk begins like that
_TEXT, _REASONING, _REFUSAL = "text", "reasoning", "refusal"
_LASTING = ("id", "model", "created", "service_tier", "system_fingerprint")


class ChunkDecoder:
    """Chunks in, events out."""

    def __init__(self, target: Target, quirks: Quirks) -> None:
        self._target = target
        self._quirks = quirks
        self._writer = PartWriter()
        self._head: dict[str, Any] = {}  # what chunks say about the whole answer
        self._started = False
        self._in_text = False  # the text part is open and nothing but text came last
        self._before, self._behind = _UNKNOWN, b""  # of the text of a chunk that is nothing but text
        self._done = False
        self._over = False
        self._usage: v1.Usage | None = None
        self._usage_is_news = False
        self._finish: str | None = None
        self._stop_sequence = ""
        self._reasoning_field = ""
        self._details: dict[str, list[Any]] = {}  # blocks that must go back unchanged, by field
        self._block: dict[str, Any] | None = None  # of reasoning that comes as blocks of content
        self._tags = Splitter() if quirks.think_tags else None  # until it is settled
        self._held_tokens: list[v1.TokenLogprob] = []  # of text that may be reasoning
        self._thought = False
        self._audio: dict[str, Any] = {}
        self._refused = False
        self._spoke = False
        self._calls: list[Call] = []
        self._by_index: dict[int, Call] = {}

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of the chunks that one read delivered."""
        at = 0
        while at < len(frames) and not self._done:
            if self._in_text and (run := self._known(frames, at)):
                at += run
            else:
                self._frame(frames[at])
                at += 1
        if self._usage_is_news and self._started and self._usage is not None:
            self._usage_is_news = False
            self._writer.usage(self._usage)
        if self._done and not self._over:
            self._end()
        return self._writer.take()

    def finish(self) -> Batch:
        """The end of the connection. Raises StreamInterrupted if the answer was not over."""
        if not self._over:
            if self._finish is None or self._quirks.done_marker:
                raise StreamInterrupted(f"{self._target.provider} ended the stream before its end marker")
            self._end()
        return self._writer.take()

    # --------------------------------------------------------------------------------------------------------- chunks

    def _known(self, frames: Sequence[bytes], start: int) -> int:
        """Take in the text of the chunks from `start` on that are known all around it; how many these are.

        Chunks of a stream rarely differ in anything but their text, and comparing costs less than half of parsing.
        """
        before, behind = self._before, self._behind
        first, last = len(before), -len(behind)
        words: list[str] = []
        for frame in frames[start:]:
            if not frame.startswith(before) or not frame.endswith(behind):
                break
            try:
                text = orjson.loads(frame[first:last])
            except orjson.JSONDecodeError:
                break
            if text.__class__ is not str:
                break
            words.append(text)
        self._writer.append(_TEXT, "text", "".join(words))
        return len(words)

    def _learn(self, frame: bytes, words: str) -> None:
        """Keep what stands around the text of a chunk that is nothing but text."""
        for before, behind in around(frame, words):
            try:
                found: Any = orjson.loads(before + b'""' + behind)
            except orjson.JSONDecodeError:
                continue
            if only_words(found) == "":
                self._before, self._behind = before, behind
                return

    def _frame(self, frame: bytes) -> None:
        if frame.startswith(b"[DONE]"):
            self._done = True
            return
        try:
            chunk = orjson.loads(frame)
            told = self._quirks.error_inside
            if told is not None and (error := told(chunk, self._target)) is not None:
                raise error
            if self._in_text and (words := only_words(chunk)) is not None:
                self._writer.append(_TEXT, "text", words)
                if self._before is _UNKNOWN and words:
                    self._learn(frame, words)
            else:
                self._chunk(chunk)
        except orjson.JSONDecodeError:
            raise ProtocolError("the provider sent an event that is not JSON") from None
        except MALFORMED as problem:
            raise ProtocolError("the provider sent an event that is not of the form it should have") from problem

    def _chunk(self, chunk: dict[str, Any]) -> None:
        if chunk.get("error"):
            raise said_inside(chunk, self._target)
        if "x_groq" in chunk and (chunk["x_groq"] or {}).get("error"):
            raise said_inside(chunk["x_groq"], self._target)
        for name in _LASTING:
            if value := chunk.get(name):
                self._head[name] = value
        if said := told_usage(chunk):
            self._usage, self._usage_is_news = v1.Usage(), True
            fill_usage(self._usage, said, v1.Usage.SOURCE_PARTIAL, apart=self._quirks.reasoning_apart)
        for choice in chunk.get("choices") or ():
            if not choice.get("index"):
                self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._writer.started(self._head.get("model", ""))
        self._in_text = False
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, choice)
        if choice.get("finish_reason") is not None:
            self._finish = text(choice["finish_reason"])
            self._stop_sequence = stop_sequence(choice)

    def _delta(self, delta: dict[str, Any], choice: dict[str, Any]) -> None:
        for name in self._quirks.reasoning_fields:
            if fragment := text(delta.get(name)):
                self._reasoning(fragment, name)
                break
        for name in DETAILS:
            if name in delta and (details := delta[name]):
                join_details(self._details.setdefault(name, []), details)
        tokens = logprobs(choice.get("logprobs"))
        content = delta.get("content")
        if isinstance(content, str) and (content or tokens):
            if self._tags is not None:
                self._tagged(*self._tags.feed(content), tokens)
            else:
                self._words(_TEXT, content, tokens)
                self._in_text = True
        elif isinstance(content, list):
            self._blocks(content)
        if refusal := text(delta.get("refusal")):
            self._refused = True
            self._words(_REFUSAL, refusal, tokens)
        for citation in citations(delta.get("annotations")):
            self._words(_TEXT, "", [])
            self._writer.cite(_TEXT, citation)
        for fragment in delta.get("tool_calls") or ():
            self._call(fragment)
        if isinstance(audio := delta.get("audio"), dict):
            grow(self._audio, audio)
        if isinstance(legacy := delta.get("function_call"), dict) and legacy:
            self._call({"index": 0, "function": legacy})

    def _words(self, key: str, fragment: str, tokens: list[v1.TokenLogprob]) -> None:
        self._end_reasoning()
        if not self._writer.is_open(key):
            self._spoke = True
            self._writer.open(key, v1.Part(text="") if key == _TEXT else v1.Part(refusal=v1.RefusalPart()))
        if tokens:
            self._writer.logprobs(key, tokens, fragment)
        else:
            self._writer.append(key, "text", fragment)

    def _tagged(self, thought: str, answer: str, tokens: list[v1.TokenLogprob]) -> None:
        """Text of a server that may begin it with reasoning in tags."""
        self._held_tokens += tokens
        if thought:
            self._reasoning(thought, IN_TAGS)
        if answer:
            self._words(_TEXT, answer, self._held_tokens)
            self._held_tokens = []
        if self._tags is not None and self._tags.settled:
            self._tags = None

    def _settle(self) -> None:
        """No more text comes that could be a tag."""
        if self._tags is None:
            return
        if self._tags.open:
            self._tagged(*self._tags.finish(), [])
        self._tags = None
        if self._held_tokens:
            self._words(_TEXT, "", self._held_tokens)
            self._held_tokens = []

    def _blocks(self, content: list[Any]) -> None:
        for block in content:
            if isinstance(block, dict) and (thought := split_block(block)) is not None:
                words, rest = thought
                self._reasoning(words, "")
                if self._block is None or self._block["type"] != rest["type"]:
                    self._block = rest
                else:
                    join_blocks(self._block, rest)
                continue
            for part in content_block(block, self._target):
                match part.WhichOneof("kind"):
                    case "text":
                        self._words(_TEXT, part.text, [])
                    case _:
                        self._spoke = True
                        self._writer.whole(part)

    # ------------------------------------------------------------------------------------------------------ reasoning

    def _reasoning(self, fragment: str, name: str) -> None:
        self._reasoning_field = self._reasoning_field or name
        self._thought = True
        if not self._writer.is_open(_REASONING):
            self._spoke = True
            self._writer.open(_REASONING, v1.Part(reasoning=v1.ReasoningPart()))
        self._writer.append(_REASONING, "reasoning", fragment)

    def _end_reasoning(self) -> None:
        """Blocks that must go back unchanged come in pieces until the very end: then the part waits for them."""
        if self._writer.is_open(_REASONING) and not self._details:
            self._close_reasoning()

    def _close_reasoning(self) -> None:
        kept = self._reasoning_field or self._details or self._block
        state = None
        if kept:
            state = reasoning_state(self._reasoning_field, self._target, details=self._details, block=self._block)
        self._block = None
        self._writer.close(_REASONING, state)

    # ----------------------------------------------------------------------------------------------------- tool calls

    def _call(self, fragment: dict[str, Any]) -> None:
        if self._tags is not None:
            self._settle()
        self._end_reasoning()
        call = self._which(fragment)
        if extra := fragment.get("extra_content"):
            call.extra = extra
        function = fragment.get("function")
        if not isinstance(function, dict):
            if isinstance(fragment.get("custom"), dict) or call.block:
                self._spoke = True
                grow(call.block, {name: value for name, value in fragment.items() if name != "index"})
            return
        said = arguments(function.get("arguments"))
        name = text(function.get("name"))
        if not call.opened:
            if not name:
                call.held += said
                return
            call.opened = self._spoke = True
            self._writer.open(call.key, v1.Part(tool_call=v1.ToolCall(id=call.id, name=name)))
            said, call.held = call.held + said, ""
        if said:
            call.filled = True
            self._writer.append(call.key, "arguments_json", said)

    def _which(self, fragment: dict[str, Any]) -> Call:
        """The call that a fragment belongs to.

        Servers number calls (`index`), name them (`id`), or both. Some number all calls 0: then another ID, or without
        IDs another name after arguments, begins another call. Some repeat ID or name in each fragment of a call.
        """
        index, said_id = fragment.get("index"), call_id(fragment) if "id" in fragment else ""
        named = bool((fragment.get("function") or fragment.get("custom") or {}).get("name"))
        if isinstance(index, int):
            call = self._by_index.get(index)
        elif said_id:
            call = next((c for c in self._calls if c.id == said_id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is not None and named and call.opened:
            another = said_id != call.id if said_id else call.filled
            call = None if another else call
        if call is None:
            number = len(self._calls)
            call = Call(("tool", number), said_id or f"call_{id_stamp(self._head)}_{number}")
            self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    # ------------------------------------------------------------------------------------------------------- the end

    def _end(self) -> None:
        try:
            self._complete()
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not of the form it should have") from problem

    def _complete(self) -> None:
        self._over = True
        self._settle()
        writer = self._writer
        if self._finish is None and not self._spoke:
            raise ProtocolError("the provider ended its answer without saying anything")
        if self._details and not writer.is_open(_REASONING):
            self._spoke = True
            writer.open(_REASONING, v1.Part(reasoning=v1.ReasoningPart(redacted=not self._thought)))
        if self._audio.get("id"):
            self._spoke = True
            writer.whole(provider_part(self._audio, self._target, kind="audio"))
        if not self._spoke:
            writer.whole(v1.Part(text=""))  # an answer of nothing is still a turn that can be appended
        for call in self._calls:
            if call.block:
                writer.whole(provider_part(call.block, self._target, kind="custom"))
            elif not call.opened:
                raise ProtocolError("the provider called a tool without naming it")
            elif not call.filled:
                writer.append(call.key, "arguments_json", "{}")
        for key in writer.open_keys:
            if key == _REASONING:
                self._close_reasoning()
            else:
                extra = next((call.extra for call in self._calls if call.key == key and call.extra), None)
                writer.close(key, replay_state({"extra_content": extra}, self._target) if extra else None)
        native = self._finish or ""
        completed = v1.ResponseCompleted(
            finish_reason=finish_reason(native, called=bool(self._calls), refused=self._refused),
            native_finish_reason=native,
            stop_sequence=self._stop_sequence,
        )
        fill_route(completed.route, self._head, self._target)
        if self._usage is not None:
            completed.usage.CopyFrom(self._usage)
            completed.usage.source = v1.Usage.SOURCE_PROVIDER
        writer.completed(completed)
