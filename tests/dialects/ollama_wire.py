"""Answers and streams as an Ollama server sends them, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaChat

DIALECT = OllamaChat()
TARGET = Target("ollama", "qwen3:4b")
CREATED = "2026-08-06T06:29:40.054952Z"
COUNTS: dict[str, Any] = {"prompt_eval_count": 7, "eval_count": 5}


def line(message: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    """A line of a stream that is not the last."""
    message = {"role": "assistant", "content": "", **(message or {})}
    return {"model": "qwen3:4b", "created_at": CREATED, "message": message, "done": False, **rest}


def last(message: dict[str, Any] | None = None, reason: str | None = "stop", **rest: Any) -> dict[str, Any]:
    """The last line of a stream, and a whole answer."""
    said = {} if reason is None else {"done_reason": reason}
    return {**line(message), "done": True, **said, "total_duration": 1234567890123, **rest}


def call(name: str, arguments: Any, **rest: Any) -> dict[str, Any]:
    """A tool call as the server says it: whole, and with index 0 whichever it is."""
    return {"function": {"index": 0, "name": name, "arguments": arguments}, **rest}


def wire(*lines: dict[str, Any]) -> bytes:
    """Lines on the wire."""
    return b"".join(json.dumps(said, ensure_ascii=False).encode() + b"\n" for said in lines)


def events(pieces: Sequence[bytes], target: Target = TARGET) -> list[v1.StreamChatResponse]:
    """All events of a stream that arrives in `pieces`."""
    framing, decoder = DIALECT.framing(), DIALECT.decoder(target)
    found: list[v1.StreamChatResponse] = []
    for piece in pieces:
        found += decoder.feed(framing.feed(piece))
    return found + decoder.feed(framing.finish()) + decoder.finish()


def streamed(*lines: dict[str, Any]) -> v1.ChatResponse:
    """The answer that a stream adds up to."""
    return fold(events([wire(*lines)]))


def unary(answer: dict[str, Any]) -> v1.ChatResponse:
    """A whole answer, decoded."""
    return DIALECT.decode(json.dumps(answer).encode(), TARGET)
