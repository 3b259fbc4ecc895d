"""A conversation as system blocks and turns: instructions lead, roles alternate, results of tools come first."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.target import Target
from parley_server.dialects.anthropic.answers import LONG_NUMBER, compact
from parley_server.dialects.anthropic.breakpoints import Breakpoints
from parley_server.dialects.base import Wishes, web_address

Block = dict[str, Any]

SYSTEM_TURNS = "system-turns"
"""Capability of a model's card: instructions in mid-conversation may go as a turn of their own (role system)."""

_ROLES = {
    v1.ROLE_USER: "user",
    v1.ROLE_TOOL: "user",
    v1.ROLE_ASSISTANT: "assistant",
    v1.ROLE_SYSTEM: "system",
    v1.ROLE_DEVELOPER: "system",
}
_REPLAYED = ("citations", "caller")
"""Fields of a block that travel in `replay_state`, as a JSON object, because `parley.v1` has no word for them."""
_NOT_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")


class Conversation:
    """`system` and `messages` of the body, and the `container` in which a paused turn goes on."""

    def __init__(
        self, messages: Sequence[v1.Message], target: Target, breakpoints: Breakpoints, wishes: Wishes
    ) -> None:
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.container = ""
        self._target = target
        self._breakpoints = breakpoints
        self._wishes = wishes
        system_turns = target.card is not None and SYSTEM_TURNS in target.card.capabilities
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            role = _ROLES.get(message.role, "user")
            if message.name:
                wishes.unmet(f"{path}.name", "the Messages API has no names of participants")
            blocks = self._blocks(message.parts, path)
            if role == "system" and not self.turns:
                self.system += _texts(blocks, path, wishes)
            elif role == "system" and not system_turns:
                self._add("user", list(self._tagged(blocks, path)))
            else:
                self._add(role, blocks)
        for turn in self.turns:
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")  # stable: the order within is kept
        self._trim_prefill(f"messages[{len(messages) - 1}]")

    def _add(self, role: str, blocks: list[Block]) -> None:
        if role == "assistant":
            self.container = ""  # only that of the last assistant turn may still be of use
        for block in blocks:
            if block["type"] == "container":
                self.container = block.get("id", "")
        kept = [block for block in blocks if block["type"] != "container"]
        if not kept:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += kept
        else:
            self.turns.append({"role": role, "content": kept})

    def _tagged(self, blocks: list[Block], path: str) -> Iterator[Block]:
        self._wishes.unmet(
            path, "instructions in mid-conversation went as text of the user, in <system> tags", "FOLDED"
        )
        for block in _texts(blocks, path, self._wishes):
            yield {**block, "text": f"<system>\n{block['text']}\n</system>"}

    def _trim_prefill(self, path: str) -> None:
        """The API refuses a turn to be continued that ends in white space."""
        if not self.turns or self.turns[-1]["role"] != "assistant":
            return
        last = self.turns[-1]["content"][-1]
        if last["type"] == "text" and last["text"] != last["text"].rstrip():
            last["text"] = last["text"].rstrip()
            self._wishes.unmet(path, "white space at the end of the turn to be continued was left out", "TRIMMED")

    def _blocks(self, parts: Any, path: str) -> list[Block]:
        blocks: list[Block] = []
        for index, part in enumerate(parts):
            here = f"{path}.parts[{index}]"
            block = self._block(part, here)
            if block is not None:
                blocks.append(block)
            if part.HasField("cache_breakpoint"):
                self._end_prefix(blocks, part.cache_breakpoint, here)
        return blocks

    def _end_prefix(self, blocks: list[Block], breakpoint_: v1.CacheBreakpoint, path: str) -> None:
        """The prefix ends with the last block that may carry a mark: before a part that is left out, if need be."""
        for block in reversed(blocks):
            if block["type"] not in ("thinking", "redacted_thinking"):
                self._breakpoints.mark(block, breakpoint_, path)
                return
        self._wishes.unmet(f"{path}.cache_breakpoint", "there is no block here that can end a cached prefix")

    def _block(self, part: v1.Part, path: str) -> Block | None:
        match part.WhichOneof("kind"):
            case "text":
                return self._text(part, part.text, path)
            case "refusal":
                return self._text(part, part.refusal.text, path)
            case "image":
                return self._image(part.image, path)
            case "document":
                return _document(part.document, path, self._target)
            case "reasoning":
                return self._reasoning(part, path)
            case "tool_call":
                return self._tool_use(part, path)
            case "tool_result":
                return self._tool_result(part.tool_result, path)
            case "provider_part":
                return self._verbatim(part.provider_part, path)
            case kind:
                self._wishes.unmet(f"{path}.{kind}", f"the Messages API takes no {kind}")
                return None

    def _text(self, part: v1.Part, text: str, path: str) -> Block | None:
        if not text or text.isspace():
            return None  # refused by the API, and says nothing
        return {"type": "text", "text": text, **self._extras(part, path)}

    def _image(self, image: v1.ImagePart, path: str) -> Block:
        if image.detail:
            self._wishes.unmet(f"{path}.image.detail", "the Messages API has no detail levels for images")
        return {"type": "image", "source": _source(image.source, f"{path}.image.source", self._target)}

    def _reasoning(self, part: v1.Part, path: str) -> Block | None:
        state = part.replay_state
        if not self._is_ours(part) or state.model not in ("", self._target.model):
            whose = "another model" if self._is_ours(part) else "another provider, or of nobody"
            self._wishes.unmet(path, f"reasoning signed by {whose} was left out", "REPLAY_STATE_DROPPED")
            return None
        opaque = state.data.decode("utf-8", "replace")
        if part.reasoning.redacted:
            return {"type": "redacted_thinking", "data": opaque}
        return {"type": "thinking", "thinking": part.reasoning.text, "signature": opaque}

    def _tool_use(self, part: v1.Part, path: str) -> Block:
        call = part.tool_call
        return {
            "type": "tool_use",
            "id": _NOT_AN_ID.sub("_", call.id),
            "name": call.name,
            "input": _arguments(call.arguments_json),
            **self._extras(part, path),
        }

    def _tool_result(self, result: v1.ToolResult, path: str) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": _NOT_AN_ID.sub("_", result.tool_call_id)}
        content = self._blocks(result.parts, f"{path}.tool_result")
        if content:
            block["content"] = content
        if result.is_error:
            block["is_error"] = True
        return block

    def _verbatim(self, part: v1.ProviderPart, path: str) -> Block | None:
        if part.provider != self._target.provider:
            self._wishes.unmet(path, f"a block of {part.provider} was left out", "PROVIDER_PART_DROPPED")
            return None
        return {"type": part.type, **json_object(part.json, f"{path}.provider_part.json")}

    def _extras(self, part: v1.Part, path: str) -> Block:
        """Fields that a decoded part brings back in its replay state."""
        if not part.HasField("replay_state"):
            return {}
        try:
            fields = orjson.loads(part.replay_state.data) if self._is_ours(part) else None
        except orjson.JSONDecodeError:
            fields = None
        if not isinstance(fields, dict):
            self._wishes.unmet(path, "the state of another provider was left out", "REPLAY_STATE_DROPPED")
            return {}
        return {name: value for name, value in fields.items() if name in _REPLAYED}

    def _is_ours(self, part: v1.Part) -> bool:
        return bool(part.replay_state.data) and part.replay_state.provider == self._target.provider


def json_object(text: str, path: str) -> Block:
    """What the caller wrote as JSON. Raises InvalidRequest if it is no object."""
    long = LONG_NUMBER.search(text.encode())
    try:
        value = json.loads(text) if long else orjson.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()} if long else value
    problem = "must be a JSON object"
    raise InvalidRequest(f"{path} {problem}", violations=[Violation(path, problem, "INVALID_JSON")])


def _exact(value: Any) -> Any:
    """`value` so that orjson can write it: integers beyond 64 bits as the text they are."""
    try:
        orjson.dumps(value)
    except TypeError:
        return orjson.Fragment(compact(value))
    return value


def _texts(blocks: list[Block], path: str, wishes: Wishes) -> list[Block]:
    """The text blocks: instructions can hold nothing else."""
    texts = [block for block in blocks if block["type"] == "text"]
    if len(texts) != len(blocks):
        wishes.unmet(path, "the Messages API takes only text in instructions")
    return texts


def _arguments(text: str) -> Any:
    """Arguments as the object that the API wants, in the very words of the model: key order and long numbers are kept.

    A model can write what is not an object; the API would refuse the history then, so it goes wrapped in one.
    """
    if not text:
        return {}
    try:
        is_object = isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        is_object = False
    return orjson.Fragment(text) if is_object else {"arguments": text}


def _source(source: v1.MediaSource, path: str, target: Target) -> Block:
    if source.WhichOneof("source") == "uri":
        return {"type": "url", "url": web_address(source, path, target)}
    return {"type": "base64", "media_type": source.mime_type, "data": base64.b64encode(source.data).decode("ascii")}


def _document(document: v1.DocumentPart, path: str, target: Target) -> Block:
    source = document.source
    block: Block = {"type": "document", "source": _source(source, f"{path}.document.source", target)}
    if source.WhichOneof("source") == "data" and source.mime_type.startswith("text/"):
        try:
            text = source.data.decode("utf-8")
        except UnicodeDecodeError:
            problem = "must be UTF-8"
            field = f"{path}.document.source.data"
            raise InvalidRequest(f"{field} {problem}", violations=[Violation(field, problem, "INVALID_UTF8")]) from None
        block["source"] = {"type": "text", "media_type": "text/plain", "data": text}  # the one text type it knows
    if document.title:
        block["title"] = document.title
    if document.context:
        block["context"] = document.context
    if document.HasField("citations_enabled"):
        block["citations"] = {"enabled": document.citations_enabled}
    return block
