"""The lines of a streamed `POST /api/chat` as stream events, incrementally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.ollama import answers
from parley_server.dialects.ollama.errors import error_inside
from parley_server.dialects.parts import PartWriter


class LineDecoder:
    """Reads lines until the one that is done. Thinking, text and tool calls come one after another, in any order.

    Kept: which part is open, how many tool calls there were, and log probabilities whose text has yet to come.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = PartWriter()
        self._open: Literal["", "text", "reasoning"] = ""
        self._parts = 0
        self._calls = 0
        self._logprobs: list[v1.TokenLogprob] = []
        self._started = False
        self._over = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some lines. Raises the error that the provider reports, ProtocolError for nonsense."""
        try:
            for frame in frames:
                if self._over:
                    break
                line = orjson.loads(frame)
                if not self._started:
                    self._start(line)
                message = line.get("message")
                if message is None:
                    self._other(line)
                    continue
                if thinking := message.get("thinking"):
                    self._text("reasoning", thinking)
                content = message.get("content")
                if line.get("logprobs"):
                    self._logprobs_of(line, content or "", thinking)
                elif content:
                    self._text("text", content)
                if message.get("tool_calls"):
                    self._tool_calls(answers.load(frame))
                if line.get("done"):
                    self._end(line)
            return self._writer.take()
        except answers.MALFORMED as problem:
            raise ProtocolError("a line of the provider is not of the form it should have") from problem

    def finish(self) -> Batch:
        """Nothing: the line that is done has ended the answer. Raises StreamInterrupted if it never came."""
        if not self._over:
            raise StreamInterrupted("the provider's stream ended before its answer did")
        return []

    def _start(self, line: dict[str, Any]) -> None:
        if line.get("error"):
            raise error_inside(line, self._target)
        self._started = True
        self._writer.started(line.get("model") or "")

    def _other(self, line: dict[str, Any]) -> None:
        if line.get("error"):
            raise error_inside(line, self._target)
        if line.get("done"):
            self._end(line)

    def _text(self, kind: Literal["text", "reasoning"], fragment: str) -> None:
        if kind != self._open:
            self._close()
            self._writer.open(kind, v1.Part(text="") if kind == "text" else v1.Part(reasoning=v1.ReasoningPart()))
            self._open = kind
            self._parts += 1
        self._writer.append(kind, kind, fragment)

    def _logprobs_of(self, line: dict[str, Any], content: str, thinking: str | None) -> None:
        """Text goes out with the log probabilities of its tokens, also of those that came before it was shown."""
        if not thinking:  # those of thoughts are not those of the text
            self._logprobs += answers.logprobs(line["logprobs"])
        if content:
            self._text("text", "")
            self._writer.logprobs("text", self._logprobs, content)
            self._logprobs = []

    def _tool_calls(self, line: dict[str, Any]) -> None:
        self._close()
        for call in line["message"]["tool_calls"]:
            self._writer.whole(answers.tool_call(call, self._calls, line.get("created_at") or ""))
            self._calls += 1
            self._parts += 1

    def _close(self) -> None:
        if self._open:
            self._writer.close(self._open, answers.reasoning_state(self._target) if self._open == "reasoning" else None)
            self._open = ""

    def _end(self, line: dict[str, Any]) -> None:
        if self._logprobs and self._open == "text":
            self._writer.logprobs("text", self._logprobs, "")
        self._close()
        if not self._parts:
            self._writer.whole(v1.Part(text=""))  # an answer of nothing is still a turn that can be appended
        native = line.get("done_reason") or ""
        usage = answers.usage(line)
        if usage is not None:
            self._writer.usage(usage)
        self._writer.completed(
            v1.ResponseCompleted(
                finish_reason=answers.finish_reason(native, called=self._calls > 0),
                native_finish_reason=native,
                usage=usage,
                route=v1.RouteInfo(model=line.get("model") or ""),
            )
        )
        self._over = True
