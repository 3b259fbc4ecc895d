"""Answers and streams as OpenAI and its followers send them, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks

OPENAI = Target("openai", "gpt-4o")
SERVER = Target("local", "some-model")
COMPATIBLE = Quirks.compatible()
DONE = b"[DONE]"


def answer(message: dict[str, Any], finish: str | None = "stop", **rest: Any) -> bytes:
    """A unary body."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        **rest.pop("choice", {}),
    }
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06"}
    return json.dumps(head | {"choices": [choice]} | rest).encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **rest: Any) -> bytes:
    """A chunk of a stream; without a delta one with empty choices."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **rest.pop("choice", {})}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
    return json.dumps(head | {"choices": [] if delta is None else [choice]} | rest).encode()


def texts(*words: str) -> list[bytes]:
    """Chunks of text, the first with the role."""
    return [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words)]


def call(index: int | None, arguments: str | None = None, *, id: str | None = None, name: str | None = None) -> bytes:
    """A chunk with a fragment of one tool call."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    said = {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return chunk({"tool_calls": [said | {"function": function}]})


def events(
    frames: Iterable[bytes], target: Target = OPENAI, quirks: Quirks | None = None, *, one_read: bool = False
) -> list[v1.StreamChatResponse]:
    """All events of a stream whose frames arrive one by one, or all in one read."""
    decoder = OpenAIChat(quirks).decoder(target)
    reads = [list(frames)] if one_read else [[frame] for frame in frames]
    found = [event for read in reads for event in decoder.feed(read)]
    return found + decoder.finish()


def streamed(frames: Iterable[bytes], target: Target = OPENAI, quirks: Quirks | None = None) -> v1.ChatResponse:
    """The answer that a stream adds up to."""
    return fold(events(frames, target, quirks))


def kinds(found: list[v1.StreamChatResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in found]


def calls(response: v1.ChatResponse) -> list[tuple[str, str, str]]:
    return [
        (part.tool_call.id, part.tool_call.name, part.tool_call.arguments_json)
        for part in response.message.parts
        if part.HasField("tool_call")
    ]
