"""Conversations as the JSON that OpenTelemetry's GenAI conventions give them, for content capture.

Always valid JSON: long texts are cut, and of a long conversation the newest messages are kept. Never in it: bytes of
media, replay state, and whatever looks like a credential.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from parley import v1
from parley.fold import Fold
from parley_server.core.reply import Batches, Outcome, Reply
from parley_server.core.scrub import scrub

LIMIT = 32 * 1024
"""Characters of content in one attribute."""
PREVIEW = 1024
"""The same where a glance is enough."""

_ROLES = {
    v1.ROLE_SYSTEM: "system",
    v1.ROLE_DEVELOPER: "developer",
    v1.ROLE_USER: "user",
    v1.ROLE_ASSISTANT: "assistant",
    v1.ROLE_TOOL: "tool",
}


class _Room:
    """Characters that are left for content."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def text(self, text: str) -> str:
        """`text` as far as it fits."""
        kept = scrub(text[: max(0, self.left)])
        cut = len(text) - self.left
        self.left -= len(text)
        return f"{kept}… (and {cut} more characters)" if cut > 0 else kept


def conversation(messages: Iterable[v1.Message], limit: int = LIMIT) -> str:
    """The messages of a request."""
    room, kept = _Room(limit), list[dict[str, Any]]()
    for message in reversed(list(messages)):
        if room.left <= 0:
            break
        kept.append({"role": _ROLES.get(message.role, ""), "parts": _parts(message.parts, room)})
    return json.dumps(kept[::-1], ensure_ascii=False)


def answer(response: v1.ChatResponse, finish_reason: str, limit: int = LIMIT) -> str:
    """The one message of a response."""
    parts = _parts(response.message.parts, _Room(limit))
    return json.dumps([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}], ensure_ascii=False)


def definitions(tools: Iterable[v1.Tool], limit: int = LIMIT) -> str:
    """The tools of a request."""
    room, kept = _Room(limit), list[dict[str, Any]]()
    for tool in tools:
        if room.left <= 0:
            break
        match tool.WhichOneof("kind"):
            case "function":
                f = tool.function
                schema = {"parameters": room.text(f.parameters_json_schema)} if f.parameters_json_schema else {}
                kept.append({"type": "function", "name": f.name, "description": room.text(f.description), **schema})
            case "provider_tool":
                kept.append({"type": tool.provider_tool.provider, "definition": room.text(tool.provider_tool.json)})
    return json.dumps(kept, ensure_ascii=False)


def _parts(parts: Iterable[v1.Part], room: _Room) -> list[dict[str, Any]]:
    return [shown for part in parts if room.left > 0 for shown in _part(part, room)]


def _part(part: v1.Part, room: _Room) -> Iterator[dict[str, Any]]:
    match part.WhichOneof("kind"):
        case "text":
            yield {"type": "text", "content": room.text(part.text)}
        case "refusal":
            yield {"type": "refusal", "content": room.text(part.refusal.text)}
        case "reasoning":
            yield {"type": "reasoning", "content": room.text(part.reasoning.text)}
        case "tool_call":
            call = part.tool_call
            yield {"type": "tool_call", "id": call.id, "name": call.name, "arguments": room.text(call.arguments_json)}
        case "tool_result":
            result = part.tool_result
            yield {"type": "tool_call_response", "id": result.tool_call_id, "response": _parts(result.parts, room)}
        case "image":
            yield _media("image", part.image.source, room)
        case "audio":
            yield _media("audio", part.audio.source, room)
        case "document":
            yield _media("document", part.document.source, room)
        case "provider_part":
            yield {"type": part.provider_part.type or "generic", "content": room.text(part.provider_part.json)}


def _media(modality: str, source: v1.MediaSource, room: _Room) -> dict[str, Any]:
    if source.WhichOneof("source") == "uri":
        return {"type": "uri", "modality": modality, "mime_type": source.mime_type, "uri": room.text(source.uri)}
    return {"type": "blob", "modality": modality, "mime_type": source.mime_type, "size": len(source.data)}


class Overheard:
    """Listens to an answer as it passes, up to a limit of characters, and remembers what was said."""

    def __init__(self, reply: Reply[Any], limit: int = LIMIT) -> None:
        self._fold = Fold()
        self._room = limit
        reply.through(self._listen)

    async def _listen(self, batches: Batches) -> Batches:
        async for batch in batches:
            for event in batch:
                if event.HasField("part_delta"):
                    if self._room <= 0:
                        continue
                    delta = event.part_delta
                    self._room -= len(delta.text) + len(delta.reasoning) + len(delta.arguments_json)
                self._fold.feed(event)
            yield batch

    def response(self, outcome: Outcome) -> v1.ChatResponse:
        """The response so far."""
        return outcome.final if isinstance(outcome.final, v1.ChatResponse) else self._fold.response()
