"""What providers put on the wire, as scripts for `tests.upstream`, after their documentation and not our code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.upstream import Exchange, Script

EVENT_STREAM = {"content-type": "text/event-stream"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def by_model(plays: Mapping[str, Script], listing: Mapping[str, Any] | None = None) -> Script:
    """A script by the model that the request names; a GET gets `listing`, on a connection that closes.

    Nothing more is told of a model in the listing (Ollama's `/api/show`).
    """

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer(200, listing or {"object": "list", "data": []}, {"connection": "close"})
            await exchange.hang_up()
        elif exchange.request.path == "/api/show":
            await exchange.answer(404, {"error": "no such path"}, {"connection": "close"})
            await exchange.hang_up()
        else:
            await plays[exchange.request.json["model"]](exchange)

    return script


def sse(*events: Any) -> bytes:
    """Each event as one SSE frame; a string goes as it is."""
    return b"".join(b"data: " + _text(event) + b"\n\n" for event in events)


def _text(event: Any) -> bytes:
    return event.encode() if isinstance(event, str) else json.dumps(event).encode()


# ------------------------------------------------------------------------------------------------------ OpenAI's family


def openai_chunk(delta: Mapping[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **fields}


def openai_stream(*words: str) -> bytes:
    """A whole stream that says `words`, a chunk each, with usage at its end."""
    ends = [openai_chunk({}, "stop"), openai_chunk({}, usage=USAGE) | {"choices": []}, "[DONE]"]
    return sse(openai_chunk({"role": "assistant"}), *(openai_chunk({"content": word}) for word in words), *ends)


def openai_answer(text: str, **fields: Any) -> dict[str, Any]:
    """A whole answer that says `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **fields}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": USAGE}


def openai_says(text: str) -> Script:
    """Answers `text`, word by word if it is asked for a stream."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.json.get("stream"):
            await exchange.stream(openai_stream(*text.split(" ")))
        else:
            await exchange.answer(200, openai_answer(text), {"x-request-id": "req_up"})

    return script


def openai_fails(status: int, message: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Script:
    """Refuses in OpenAI's form."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, {"error": {"message": message, "param": None, **fields}}, headers)

    return script


# ------------------------------------------------------------------------------------------------------------ Anthropic


def anthropic_stream(*words: str, stop_reason: str = "end_turn") -> bytes:
    """A whole stream that says `words`."""
    return named_events(
        {"type": "message_start", "message": anthropic_answer("") | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(anthropic_delta(word) for word in words),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    )


def anthropic_delta(text: str) -> dict[str, Any]:
    """A fragment of text."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def anthropic_answer(text: str) -> dict[str, Any]:
    """A whole answer that says `text`."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-up",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def anthropic_says(text: str) -> Script:
    """Answers `text`, word by word if it is asked for a stream."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.json.get("stream"):
            await exchange.stream(anthropic_stream(*text.split(" ")))
        else:
            await exchange.answer(200, anthropic_answer(text), {"request-id": "req_up"})

    return script


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """An error, as a body or as an event."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up"}


def named_events(*events: Mapping[str, Any]) -> bytes:
    """SSE frames that carry their type in the event field as well."""
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


# --------------------------------------------------------------------------------------------------------------- Ollama


def ollama_line(text: str, **fields: Any) -> dict[str, Any]:
    """One line of a stream, or, with `OLLAMA_END` among its fields, a whole answer."""
    message = {"role": "assistant", "content": text}
    return {"model": "m-1", "created_at": "2026-11-20T00:00:00Z", "message": message, "done": False, **fields}


OLLAMA_END = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}


def ollama_says(text: str) -> Script:
    """Answers `text`, word by word if it is asked for a stream."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.json["stream"]:
            lines = (*(ollama_line(word) for word in text.split(" ")), ollama_line("", **OLLAMA_END))
            await exchange.stream(ndjson(*lines), content_type="application/x-ndjson")
        else:
            await exchange.answer(200, ollama_line(text, **OLLAMA_END))

    return script


def ndjson(*lines: Mapping[str, Any]) -> bytes:
    """One JSON object a line."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
