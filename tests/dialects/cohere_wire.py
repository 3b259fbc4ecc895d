"""Answers of Cohere, whole and as streams, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.cohere import CohereChat

DIALECT = CohereChat()
TARGET = Target("cohere", "command-a-03-2025")
USAGE: dict[str, Any] = {
    "billed_units": {"input_tokens": 3.0, "output_tokens": 5.0},
    "tokens": {"input_tokens": 70.0, "output_tokens": 9.0},
    "cached_tokens": 64.0,
}


def text(words: str) -> dict[str, Any]:
    """A content block."""
    return {"type": "text", "text": words}


def thinking(words: str) -> dict[str, Any]:
    """A content block of thoughts."""
    return {"type": "thinking", "thinking": words}


def call(name: str, arguments: str, call_id: str = "c0") -> dict[str, Any]:
    """A tool call."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def citation(start: int, end: int, *sources: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """A citation."""
    return {"start": start, "end": end, "text": "…", "sources": list(sources), **rest}


def answer(*content: dict[str, Any], finish: str = "COMPLETE", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    """A whole answer."""
    said = {"role": "assistant", "content": list(content), **message}
    return {"id": "a-1", "message": said, "finish_reason": finish, "usage": usage}


def event(kind: str, message: Any = None, **rest: Any) -> dict[str, Any]:
    """An event of a stream."""
    return {"type": kind, **rest, **({} if message is None else {"delta": {"message": message}})}


def begin() -> dict[str, Any]:
    """The first event."""
    return event("message-start", {"role": "assistant", "content": [], "tool_calls": []}, id="a-1")


def delta(words: str, index: int = 0, **rest: Any) -> dict[str, Any]:
    """More of a text."""
    return event("content-delta", {"content": {"text": words}}, index=index, **rest)


def end(finish: str = "COMPLETE", usage: Any = USAGE, **rest: Any) -> dict[str, Any]:
    """The last event."""
    return {"type": "message-end", "delta": {"finish_reason": finish, "usage": usage, **rest}}


def events_of(whole: Mapping[str, Any], size: int = 3) -> Iterator[dict[str, Any]]:
    """A stream that says what `whole` says, in fragments of `size` characters, in the order the API documents."""
    message = whole["message"]
    yield begin()
    content = message.get("content") or []
    for index, block in enumerate(content):
        if block["type"] == "thinking":
            yield from _block(index, block, size)
    for fragment in _pieces(message.get("tool_plan") or "", size):
        yield event("tool-plan-delta", {"tool_plan": fragment})
    for index, block in enumerate(content):
        if block["type"] == "text":
            yield from _block(index, block, size)
    for index, one in enumerate(message.get("citations") or []):
        yield event("citation-start", {"citations": one}, index=index)
        yield event("citation-end", index=index)
    for index, one in enumerate(message.get("tool_calls") or []):
        function = one["function"]
        yield event("tool-call-start", {"tool_calls": {**one, "function": {**function, "arguments": ""}}}, index=index)
        for fragment in _pieces(function["arguments"], size):
            yield event("tool-call-delta", {"tool_calls": {"function": {"arguments": fragment}}}, index=index)
        yield event("tool-call-end", index=index)
    yield end(whole["finish_reason"], whole["usage"])


def _block(index: int, block: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    kind = block["type"]
    yield event("content-start", {"content": {"type": kind, kind: ""}}, index=index)
    for fragment in _pieces(block[kind], size):
        yield event("content-delta", {"content": {kind: fragment}}, index=index)
    yield event("content-end", index=index)


def _pieces(words: str, size: int) -> Iterator[str]:
    for start in range(0, len(words), size):
        yield words[start : start + size]


def wire(*events: Mapping[str, Any], done: bool = True) -> bytes:
    """Events on the wire."""
    frames = [f"event: {one['type']}\ndata: {json.dumps(one, separators=(',', ':'))}\n\n" for one in events]
    return "".join([*frames, "data: [DONE]\n\n" if done else ""]).encode()


def heard(pieces: Sequence[bytes]) -> list[v1.StreamChatResponse]:
    """All events of a stream that arrives in `pieces`."""
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    found: list[v1.StreamChatResponse] = []
    for piece in pieces:
        found += decoder.feed(framing.feed(piece))
    return found + decoder.feed(framing.finish()) + decoder.finish()


def streamed(*events: Mapping[str, Any]) -> v1.ChatResponse:
    """The answer that a stream adds up to."""
    return fold(heard([wire(*events)]))


def unary(whole: Mapping[str, Any]) -> v1.ChatResponse:
    """A whole answer, decoded."""
    return DIALECT.decode(json.dumps(whole).encode(), TARGET)


def both(whole: Mapping[str, Any]) -> v1.ChatResponse:
    """An answer decoded in both ways, which must give the same."""
    response = unary(whole)
    assert streamed(*events_of(whole)) == response
    return response
