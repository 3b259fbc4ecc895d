"""From messages of parts to those of Ollama: one plain text each, with images, thinking and tool calls beside it.

What the format cannot say is moved or said in words. Text parts are joined by blank lines, and images lose their place
among them. Images in tool results go into a user message behind the run of tool messages. A failed tool's text begins
with "Error: ". Documents of type text/* are text. Content that cannot be said in any way refuses the request: an answer
to half a question helps nobody.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes

Body = dict[str, Any]


@dataclass(slots=True)
class _Content:
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def message(self, role: str) -> Body:
        said: Body = {"role": role, "content": "\n\n".join(self.texts)}
        if self.images:
            said["images"] = self.images
        return said


class Messages:
    """Encodes the messages of one request."""

    def __init__(self, target: Target, wishes: Wishes, *, breakpoints: bool) -> None:
        self._target = target
        self._wishes = wishes
        self._breakpoints = breakpoints
        self._names: dict[str, str] = {}  # of the tools that were called, by the call's ID

    def encode(self, messages: Iterable[v1.Message]) -> list[Body]:
        """All messages, in order. Raises UnsupportedParameter for content that cannot be said."""
        said: list[Body] = []
        attached = _Content()  # to the tool results since the last other message
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "there are no names of participants here")
            if message.role == v1.ROLE_ASSISTANT:
                attached = _give(said, attached)
                said.append(self._assistant(message, path))
                continue
            content = _Content()
            for number, part in enumerate(message.parts):
                here = f"{path}.parts[{number}]"
                self._extras(part, here)
                if part.WhichOneof("kind") == "tool_result":
                    said.append(self._result(part.tool_result, here, attached))
                else:
                    self._content(content, part, here, message.role)
            if content.texts or content.images:
                attached = _give(said, attached)
                said.append(content.message("user" if message.role in (v1.ROLE_USER, v1.ROLE_TOOL) else "system"))
        _give(said, attached)
        return said

    def _content(self, content: _Content, part: v1.Part, path: str, role: v1.Role.ValueType) -> None:
        kind = part.WhichOneof("kind")
        match kind:
            case "text":
                content.texts.append(part.text)
            case "document" if part.document.source.mime_type.startswith("text/"):
                content.texts.append(self._document(part.document, path))
            case "image" if role not in (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER):
                content.images.append(self._image(part.image, path))
            case _:
                raise self._unsayable(path, f"{kind} cannot stand in this message")

    def _image(self, image: v1.ImagePart, path: str) -> str:
        if image.source.WhichOneof("source") == "uri":
            raise self._unsayable(f"{path}.image.source.uri", "images go as bytes only, not by URI")
        if image.detail:
            self._wishes.unmet(f"{path}.image.detail", "there is no choice of detail here")
        return b64encode(image.source.data).decode()

    def _document(self, document: v1.DocumentPart, path: str) -> str:
        if document.source.WhichOneof("source") == "uri":
            raise self._unsayable(f"{path}.document.source.uri", "documents go as bytes only, not by URI")
        if document.citations_enabled:
            self._wishes.unmet(f"{path}.document.citations_enabled", "there are no citations into documents here")
        text = document.source.data.decode("utf-8", "replace")
        return "\n\n".join(line for line in (document.title, document.context, text) if line)

    def _result(self, result: v1.ToolResult, path: str, attached: _Content) -> Body:
        content = _Content()
        for number, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{number}]"
            self._extras(part, here)
            self._content(content, part, here, v1.ROLE_TOOL)
        if content.images:
            attached.texts.append(f"Attached to the result of tool call {result.tool_call_id}:")
            attached.images += content.images
        text = "\n\n".join(content.texts)
        if not text and content.images:
            text = "The result is attached to the next user message."
        said: Body = {"role": "tool", "content": f"Error: {text}" if result.is_error else text}
        if name := result.name or self._names.get(result.tool_call_id, ""):
            said["tool_name"] = name
        return {**said, "tool_call_id": result.tool_call_id}

    def _assistant(self, message: v1.Message, path: str) -> Body:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Body] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            match kind:
                case "text":
                    texts.append(part.text)
                case "refusal":
                    texts.append(part.refusal.text)
                case "reasoning" if self._is_foreign(part):
                    self._wishes.unmet(here, "reasoning of another provider is left out", "REPLAY_STATE_DROPPED")
                    continue
                case "reasoning":
                    thoughts.append(part.reasoning.text)
                case "tool_call":
                    calls.append(self._call(part.tool_call))
                case "provider_part":
                    foreign = part.provider_part.provider
                    self._wishes.unmet(here, f"a part of {foreign} is left out", "REPLAY_STATE_DROPPED")
                case _:
                    raise self._unsayable(here, f"{kind} cannot stand in an assistant message")
            self._extras(part, here)
        said: Body = {"role": "assistant", "content": "".join(texts)}
        if any(thoughts):
            said["thinking"] = "".join(thoughts)
        if calls:
            said["tool_calls"] = calls
        return said

    def _call(self, call: v1.ToolCall) -> Body:
        self._names[call.id] = call.name
        return {"id": call.id, "function": {"name": call.name, "arguments": _arguments(call.arguments_json)}}

    def _extras(self, part: v1.Part, path: str) -> None:
        if part.HasField("cache_breakpoint") and self._breakpoints:
            self._wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")
        if self._is_foreign(part):
            what = f"state that {self._target.provider} did not mint is left out"
            self._wishes.unmet(f"{path}.replay_state", what, "REPLAY_STATE_DROPPED")

    def _is_foreign(self, part: v1.Part) -> bool:
        return part.HasField("replay_state") and part.replay_state.provider != self._target.provider

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        return UnsupportedParameter(f"{self._target}: {why}", violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def _give(said: list[Body], attached: _Content) -> _Content:
    """Say what is attached to tool results, if anything; what is attached from here on."""
    if attached.images:
        said.append(attached.message("user"))
    return _Content()


def _arguments(text: str) -> Any:
    """Arguments as the object they must be here; what is none, because a model wrote it, stands as text in one."""
    try:
        is_object = isinstance(orjson.loads(text or "{}"), dict)
    except orjson.JSONDecodeError:
        is_object = False
    return orjson.Fragment(text or "{}") if is_object else {"arguments": text}
