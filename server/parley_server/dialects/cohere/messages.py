"""From messages of parts to those of Cohere, and the documents that stand beside them.

A document belongs to the request, not to a turn: those of all user turns are listed together, in order, under IDs that
say their place among all documents of the request, those in tool results included. Citations come back with these IDs.
A text/* document goes as its text with its title; one of application/json goes as the fields it has. Images in tool
results go into a user message behind the run of tool messages. A failed tool's text begins with "Error: ". Text before
tool calls goes as the plan that Cohere's own models write there. A turn that says nothing is left out: it is refused.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes, web_address

Body = dict[str, Any]

DOCUMENT_ID = "doc:"
"""Begins the IDs of documents; the number of the document follows."""

_ROLES = {
    v1.ROLE_SYSTEM: "system",
    v1.ROLE_DEVELOPER: "system",
    v1.ROLE_USER: "user",
    v1.ROLE_TOOL: "user",
}
_DETAILS = {
    v1.IMAGE_DETAIL_LOW: "low",
    v1.IMAGE_DETAIL_MEDIUM: "high",
    v1.IMAGE_DETAIL_HIGH: "high",
    v1.IMAGE_DETAIL_ORIGINAL: "high",
}


class Messages:
    """Encodes the messages of one request. `documents` and `citations` are known once they are encoded."""

    def __init__(self, target: Target, wishes: Wishes, *, breakpoints: bool) -> None:
        self.documents: list[Body] = []
        self._target = target
        self._wishes = wishes
        self._breakpoints = breakpoints
        self._numbered = 0
        self._cited: dict[str, bool] = {}  # what documents say about citations, by path

    def encode(self, messages: Iterable[v1.Message]) -> list[Body]:
        """All messages, in order. Raises UnsupportedParameter for content that cannot be said."""
        said: list[Body] = []
        attached: list[Body] = []  # to the tool results since the last other message
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "there are no names of participants here")
            if message.role == v1.ROLE_ASSISTANT:
                attached = _give(said, attached)
                if turn := self._assistant(message, path):
                    said.append(turn)
                continue
            content: list[Body] = []
            for number, part in enumerate(message.parts):
                here = f"{path}.parts[{number}]"
                self._extras(part, here)
                if part.WhichOneof("kind") == "tool_result":
                    said.append(self._result(part.tool_result, here, attached))
                else:
                    self._content(content, part, here, message.role)
            if content:
                attached = _give(said, attached)
                said.append({"role": _ROLES[message.role], "content": _content(content)})
        _give(said, attached)
        return said

    def citation_mode(self) -> str:
        """How to cite: OFF if all documents that say anything say no; empty: as the model does by default."""
        wanted = set(self._cited.values())
        if wanted == {True, False}:
            why = "citations are on or off for all documents; they were left on"
            for path in (path for path, on in self._cited.items() if not on):
                self._wishes.unmet(f"{path}.document.citations_enabled", why)
        return "OFF" if wanted == {False} else ""

    def _content(self, content: list[Body], part: v1.Part, path: str, role: v1.Role.ValueType) -> None:
        kind = part.WhichOneof("kind")
        instructing = role in (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER)
        match kind:
            case "text":
                content.append({"type": "text", "text": part.text})
            case "image" if not instructing:
                content.append(self._image(part.image, f"{path}.image"))
            case "document" if not instructing:
                self.documents.append(self._document(part.document, path))
            case _:
                raise self._unsayable(path, f"{kind} cannot stand in this message")

    def _image(self, image: v1.ImagePart, path: str) -> Body:
        source = image.source
        url = web_address(source, f"{path}.source", self._target)
        if source.WhichOneof("source") == "data":
            url = f"data:{source.mime_type};base64,{b64encode(source.data).decode()}"
        said: Body = {"url": url}
        if image.detail:
            said["detail"] = detail = _DETAILS[image.detail]
            if image.detail in (v1.IMAGE_DETAIL_MEDIUM, v1.IMAGE_DETAIL_ORIGINAL):
                self._wishes.unmet(
                    f"{path}.detail", f"there is low and high detail here; {detail} is asked for", "CLAMPED"
                )
        return {"type": "image_url", "image_url": said}

    def _document(self, document: v1.DocumentPart, path: str) -> Body:
        """A document with its ID and its fields; `text` and `title` are those that the models are trained to cite."""
        source = document.source
        if source.WhichOneof("source") == "uri":
            raise self._unsayable(f"{path}.document.source.uri", "documents go as text only, not by URI")
        data = self._fields(source, path)
        if document.title:
            data["title"] = document.title
        if document.context:
            data["context"] = document.context
        if document.HasField("citations_enabled"):
            self._cited[path] = document.citations_enabled
        number, self._numbered = self._numbered, self._numbered + 1
        return {"id": f"{DOCUMENT_ID}{number}", "data": data}

    def _fields(self, source: v1.MediaSource, path: str) -> Body:
        if source.mime_type.startswith("text/"):
            return {"text": source.data.decode("utf-8", "replace")}
        if source.mime_type == "application/json":
            try:
                fields = orjson.loads(source.data)
            except orjson.JSONDecodeError:
                fields = None
            if isinstance(fields, dict):
                return fields
            raise self._unsayable(f"{path}.document.source.data", "a document of JSON is an object here")
        raise self._unsayable(path, f"documents of type {source.mime_type} are not read here: extract the text")

    def _result(self, result: v1.ToolResult, path: str, attached: list[Body]) -> Body:
        content: list[Body] = []
        images: list[Body] = []
        for number, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{number}]"
            self._extras(part, here)
            match part.WhichOneof("kind"):
                case "text":
                    content.append({"type": "text", "text": part.text})
                case "document":
                    content.append({"type": "document", "document": self._document(part.document, here)})
                case "image":
                    images.append(self._image(part.image, f"{here}.image"))
                case kind:
                    raise self._unsayable(here, f"{kind} cannot stand in the result of a tool")
        if images:
            attached.append({"type": "text", "text": f"Attached to the result of tool call {result.tool_call_id}:"})
            attached += images
            if not content:
                content.append({"type": "text", "text": "The result is attached to the next user message."})
        if result.is_error:
            if content and content[0]["type"] == "text":
                content[0] = {"type": "text", "text": f"Error: {content[0]['text']}"}
            else:
                content.insert(0, {"type": "text", "text": "Error"})
        return {"role": "tool", "tool_call_id": result.tool_call_id, "content": _content(content)}

    def _assistant(self, message: v1.Message, path: str) -> Body | None:
        """The turn; None if there is nothing in it."""
        content: list[Body] = []
        calls: list[Body] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            match kind:
                case "text":
                    content.append({"type": "text", "text": part.text})
                case "refusal":
                    content.append({"type": "text", "text": part.refusal.text})
                case "reasoning" if self._is_foreign(part) or part.reasoning.redacted:
                    self._wishes.unmet(here, "reasoning of another model is left out", "REPLAY_STATE_DROPPED")
                    continue
                case "reasoning":
                    content.append({"type": "thinking", "thinking": part.reasoning.text})
                case "tool_call":
                    function = {"name": part.tool_call.name, "arguments": part.tool_call.arguments_json or "{}"}
                    calls.append({"id": part.tool_call.id, "type": "function", "function": function})
                case "provider_part":
                    foreign = part.provider_part.provider
                    self._wishes.unmet(here, f"a part of {foreign} is left out", "REPLAY_STATE_DROPPED")
                case _:
                    raise self._unsayable(here, f"{kind} cannot stand in an assistant message")
            self._extras(part, here)
        content = [block for block in content if block.get("text") or block.get("thinking")]
        turn: Body = {"role": "assistant"}
        if calls:
            if plan := "".join(block["text"] for block in content if block["type"] == "text"):
                turn["tool_plan"] = plan
            content = [block for block in content if block["type"] == "thinking"]
            turn["tool_calls"] = calls
        if content:
            turn["content"] = _content(content)
        return turn if len(turn) > 1 else None

    def _extras(self, part: v1.Part, path: str) -> None:
        if part.HasField("cache_breakpoint") and self._breakpoints:
            self._wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")
        if self._is_foreign(part):
            what = f"state that {self._target} did not mint is left out"
            self._wishes.unmet(f"{path}.replay_state", what, "REPLAY_STATE_DROPPED")

    def _is_foreign(self, part: v1.Part) -> bool:
        state = part.replay_state
        mine = (state.provider, state.model) == (self._target.provider, self._target.model)
        return part.HasField("replay_state") and not mine

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        return UnsupportedParameter(f"{self._target}: {why}", violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def _content(blocks: list[Body]) -> Any:
    """One text goes as a string, which every model of Cohere takes; anything else as it is."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


def _give(said: list[Body], attached: list[Body]) -> list[Body]:
    """Say what is attached to tool results, if anything; what is attached from here on."""
    if attached:
        said.append({"role": "user", "content": attached})
    return []
