"""A conversation as instructions and turns of Converse: roles alternate, results of tools lead their turn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.bedrock import media
from parley_server.dialects.bedrock.answers import json_object, redacted
from parley_server.dialects.bedrock.cachepoints import CachePoints, Point
from parley_server.dialects.bedrock.families import ALL, Family
from parley_server.dialects.bedrock.media import Block

SYSTEM_TURNS = "system-turns"
"""Capability of a model's card: instructions in mid-conversation may go as a turn of their own (role system)."""

_MEDIA = ("text", "image", "document", "video", "audio", "guardContent", "searchResult")
_OF_TURNS = ("toolUse", "toolResult", "reasoningContent", "citationsContent", "cachePoint")
MEMBERS = frozenset((*_MEDIA, *_OF_TURNS, "toolAddition", "toolRemoval"))
"""Kinds of blocks that Converse has; a block is an object with one of these as its only key."""

_SYSTEM_MEMBERS = frozenset(("text", "guardContent", "cachePoint"))
_ROLES = {v1.ROLE_ASSISTANT: "assistant", v1.ROLE_SYSTEM: "system", v1.ROLE_DEVELOPER: "system"}
_NOTHING_TO_SAY = "."
"""Stands where the API wants text and there is none: it refuses blank text."""
_NOT_AN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_LONGEST_ID = 64
_POINTS_NEVER_BEHIND = ("document", "video")


@dataclass(slots=True)
class _Piece:
    """A block, what it is, and the cache point behind it."""

    kind: str
    block: Block
    path: str
    point: Point | None = None


@dataclass(slots=True)
class _Turn:
    role: str
    pieces: list[_Piece]


class Conversation:
    """`system` and `messages` of the body, and which tools were called."""

    def __init__(
        self,
        messages: Sequence[v1.Message],
        target: Target,
        family: Family,
        points: CachePoints,
        wishes: Wishes,
        notes: list[v1.Warning],
    ) -> None:
        self.called: dict[str, None] = {}
        """Names of the tools that the conversation calls, in order."""
        self.has_results = False
        self._target = target
        self._family = family
        self._points = points
        self._wishes = wishes
        self._notes = notes
        self._names = media.Names()
        turns = self._turns(messages, self._gathered(messages))
        if not turns:
            problem = "hold nothing to answer: Converse wants at least one turn besides instructions"
            raise UnsupportedParameter(f"messages {problem}", violations=[Violation("messages", problem, "NO_TURN")])
        self._trim_prefill(turns, f"messages[{len(messages) - 1}]")
        self.messages: list[Block] = [
            {"role": turn.role, "content": self._content(turn.pieces)} for turn in self._arranged(turns)
        ]

    # ------------------------------------------------------------------------------------------------------------ turns

    def _gathered(self, messages: Sequence[v1.Message]) -> list[tuple[str, list[_Piece], str]]:
        gathered = []
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "Converse has no names of participants")
            gathered.append((_ROLES.get(message.role, "user"), self._pieces(message.parts, path), path))
        return gathered

    def _turns(self, messages: Sequence[v1.Message], gathered: list[tuple[str, list[_Piece], str]]) -> list[_Turn]:
        """Sets `system`, and gives the turns, those of one role that follow each other joined."""
        system: list[_Piece] = []
        turns: list[_Turn] = []
        card = self._target.card
        system_turns = card is not None and SYSTEM_TURNS in card.capabilities
        for role, pieces, path in gathered:
            if role == "system":
                pieces = self._instructions(pieces, path)
                if not turns and self._family.system:
                    system += pieces
                    continue
                if not system_turns:
                    role, pieces = "user", self._tagged(pieces, path)
            if not pieces:
                continue
            if turns and turns[-1].role == role:
                turns[-1].pieces += pieces
            else:
                turns.append(_Turn(role, pieces))
        self.system: list[Block] = self._content(system)
        return turns

    def _instructions(self, pieces: list[_Piece], path: str) -> list[_Piece]:
        kept = [piece for piece in pieces if piece.block.keys() & _SYSTEM_MEMBERS]
        if len(kept) != len(pieces):
            self._wishes.unmet(path, "Converse takes only text in instructions")
        return kept

    def _tagged(self, pieces: list[_Piece], path: str) -> list[_Piece]:
        if pieces:
            self._wishes.unmet(path, "instructions went as text of the user, in <system> tags", "FOLDED")
        for piece in pieces:
            if "text" in piece.block:
                piece.block = {"text": f"<system>\n{piece.block['text']}\n</system>"}
        return pieces

    def _arranged(self, turns: list[_Turn]) -> Iterable[_Turn]:
        if turns[0].role == "assistant" and not self._family.starts_with_assistant:
            self._note("SYNTHETIC_TURN", "a turn of the user went first, since this model wants one", "messages[0]")
            yield _Turn("user", [_Piece("text", {"text": _NOTHING_TO_SAY}, "messages[0]")])
        for turn in turns:
            if turn.role != "user":
                yield turn
                continue
            results = [piece for piece in turn.pieces if piece.kind == "toolResult"]
            others = [piece for piece in turn.pieces if piece.kind != "toolResult"]
            if results and any(self._is_apart(piece.kind) for piece in others):
                here = others[0].path
                self._note("SYNTHETIC_TURN", "a turn of the model went between results and what cannot share it", here)
                yield _Turn("user", results)
                yield _Turn("assistant", [_Piece("text", {"text": _NOTHING_TO_SAY}, here)])
                results = []
            pieces = results + others
            kinds = {piece.kind for piece in pieces}
            if "document" in kinds and "text" not in kinds and "guardContent" not in kinds:
                self._note("SYNTHETIC_TEXT", "a text went with the document, since Bedrock wants one", pieces[0].path)
                pieces.append(_Piece("text", {"text": _NOTHING_TO_SAY}, pieces[0].path))
            yield _Turn("user", pieces)

    def _is_apart(self, kind: str) -> bool:
        """Whether what is of `kind` cannot share a turn with results."""
        beside = self._family.beside_results
        return not beside or (kind in ALL and kind not in beside)

    def _trim_prefill(self, turns: list[_Turn], path: str) -> None:
        """The API refuses a turn to be continued that ends in white space."""
        last = turns[-1].pieces[-1].block
        text = last.get("text", "")
        if turns[-1].role == "assistant" and text != text.rstrip():
            last["text"] = text.rstrip()
            self._wishes.unmet(path, "white space at the end of the turn to be continued was left out", "TRIMMED")

    def _content(self, pieces: list[_Piece]) -> list[Block]:
        """The blocks, each cache point at the nearest place before where it is wanted that Bedrock takes."""
        content: list[Block] = []
        kinds: list[str] = []
        for piece in pieces:
            content.append(piece.block)
            kinds.append(piece.kind)
            if piece.point is None:
                continue
            at = len(content)
            while at and kinds[at - 1] in _POINTS_NEVER_BEHIND:
                at -= 1
            if at == 0:
                problem = "no cache point can follow documents and videos that nothing precedes"
                self._wishes.unmet(f"{piece.path}.cache_breakpoint", problem)
                continue
            if at < len(content):
                problem = "the cached prefix ends before the documents: no cache point can follow one"
                self._wishes.unmet(f"{piece.path}.cache_breakpoint", problem, "CLAMPED")
            if kinds[at - 1] != "cachePoint":
                content.insert(at, {"cachePoint": piece.point})
                kinds.insert(at, "cachePoint")
        return content

    def _note(self, code: str, message: str, path: str) -> None:
        self._notes.append(v1.Warning(code=code, message=message, field=path))

    # ----------------------------------------------------------------------------------------------------------- pieces

    def _pieces(self, parts: Iterable[v1.Part], path: str) -> list[_Piece]:
        pieces: list[_Piece] = []
        for index, part in enumerate(parts):
            here = f"{path}.parts[{index}]"
            pieces += self._of(part, here)
            for mark in _marks(part):
                point = self._points.point(mark, here)
                if point is not None:
                    self._end_prefix(pieces, point, here)
        return pieces

    def _end_prefix(self, pieces: list[_Piece], point: Point, path: str) -> None:
        """The prefix ends behind the last block but reasoning: before a part that is left out, if need be."""
        for piece in reversed(pieces):
            if piece.kind != "reasoningContent":
                piece.point = point
                return
        self._wishes.unmet(f"{path}.cache_breakpoint", "there is no block here that can end a cached prefix")

    def _of(self, part: v1.Part, path: str) -> list[_Piece]:
        match part.WhichOneof("kind"):
            case "text":
                return self._text(part, part.text, path)
            case "refusal":
                return self._text(part, part.refusal.text, path)
            case "image":
                return [_Piece("image", self._image(part.image, path), path)]
            case "audio":
                return [_Piece("audio", media.audio(part.audio, path), path)]
            case "document":
                return [_Piece("document", self._document(part.document, path), path)]
            case "reasoning":
                return self._reasoning(part, path)
            case "tool_call":
                return [_Piece("toolUse", self._tool_use(part.tool_call), path)]
            case "tool_result":
                return self._tool_result(part.tool_result, path)
            case "provider_part":
                return self._verbatim(part.provider_part, path)
            case kind:
                self._wishes.unmet(f"{path}.{kind}", f"Converse takes no {kind}")
                return []

    def _text(self, part: v1.Part, text: str, path: str) -> list[_Piece]:
        if not text or text.isspace():
            return []  # refused by the API, and says nothing
        citations = self._citations(part, path)
        if citations:
            block: Block = {"citationsContent": {"content": [{"text": text}], "citations": citations}}
        else:
            block = {"text": text}
        return [_Piece("text", block, path)]

    def _citations(self, part: v1.Part, path: str) -> list[Any]:
        """The citations that a decoded part brings back in its replay state."""
        if not part.HasField("replay_state"):
            return []
        try:
            fields = orjson.loads(part.replay_state.data) if self._is_ours(part) else None
        except orjson.JSONDecodeError:
            fields = None
        if isinstance(fields, dict) and isinstance(fields.get("citationsContent"), list):
            return list(fields["citationsContent"])
        self._wishes.unmet(path, "the state of another provider or API was left out", "REPLAY_STATE_DROPPED")
        return []

    def _image(self, image: v1.ImagePart, path: str) -> Block:
        if image.detail:
            self._wishes.unmet(f"{path}.image.detail", "Converse has no detail levels for images")
        return media.image(image, path)

    def _document(self, document: v1.DocumentPart, path: str) -> Block:
        name = self._names.given(document.title)
        if document.title and name != document.title:
            self._note("DOCUMENT_RENAMED", f"Bedrock takes no such title: {name!r} was sent", f"{path}.document.title")
        return media.document(document, name, path)

    def _reasoning(self, part: v1.Part, path: str) -> list[_Piece]:
        state = part.replay_state
        foreign = state.provider not in ("", self._target.provider) or state.model not in ("", self._target.model)
        if foreign or not (state.data or self._family.unsigned_reasoning):
            whose = "reasoning of another model" if foreign else "reasoning without a signature"
            self._wishes.unmet(path, f"{whose} was left out", "REPLAY_STATE_DROPPED")
            return []
        if part.reasoning.redacted:
            block: Block = {"redactedContent": redacted(state.data)}
        else:
            said = {"text": part.reasoning.text}
            if state.data:
                said["signature"] = state.data.decode("utf-8", "replace")
            block = {"reasoningText": said}
        return [_Piece("reasoningContent", {"reasoningContent": block}, path)]

    def _tool_use(self, call: v1.ToolCall) -> Block:
        self.called[call.name] = None
        return {
            "toolUse": {"toolUseId": _id(call.id), "name": call.name, "input": _arguments(call.arguments_json)},
        }

    def _tool_result(self, result: v1.ToolResult, path: str) -> list[_Piece]:
        self.has_results = True
        content: list[Block] = []
        moved: list[_Piece] = []
        for index, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{index}]"
            for piece in self._of(part, here):
                if "text" in piece.block:
                    text = piece.block["text"]
                    content.append({"json": _as_object(text)} if self._family.results_as_json else {"text": text})
                elif self._fits_result(piece):
                    content.append(piece.block)
                else:
                    problem = f"this model takes no such {piece.kind} in a result: it went behind the results"
                    self._wishes.unmet(here, problem, "MOVED")
                    moved.append(piece)
        if not content:
            content = [{"json": {}}] if self._family.results_as_json else [{"text": _NOTHING_TO_SAY}]
        block: Block = {"toolUseId": _id(result.tool_call_id), "content": content}
        if result.is_error and self._family.result_status:
            block["status"] = "error"
        elif result.is_error:
            self._wishes.unmet(f"{path}.tool_result.is_error", "this model is not told that a tool failed")
        return [_Piece("toolResult", {"toolResult": block}, path), *moved]

    def _fits_result(self, piece: _Piece) -> bool:
        formats = self._family.result_documents
        if piece.kind == "document" and formats and piece.block["document"]["format"] not in formats:
            return False
        return piece.kind in self._family.result_media

    def _verbatim(self, part: v1.ProviderPart, path: str) -> list[_Piece]:
        if part.provider != self._target.provider:
            self._wishes.unmet(path, f"a block of {part.provider} was left out", "PROVIDER_PART_DROPPED")
            return []
        block = json_object(part.json)
        if block is None:
            field, problem = f"{path}.provider_part.json", "must be a JSON object"
            raise InvalidRequest(f"{field} {problem}", violations=[Violation(field, problem, "INVALID_JSON")])
        if not is_block(block):
            self._wishes.unmet(path, "what is no block of Converse was left out", "PROVIDER_PART_DROPPED")
            return []
        (kind,) = block
        match block:
            case {"toolUse": {"name": str(name), **more}} if more.get("type") != "server_tool_use":
                self.called[name] = None
            case {"toolResult": {}}:
                self.has_results = True
        return [_Piece(kind, block, path)]

    def _is_ours(self, part: v1.Part) -> bool:
        return bool(part.replay_state.data) and part.replay_state.provider == self._target.provider


def is_block(block: Block) -> bool:
    """Whether `block` is one of Converse, rather than of the Messages API, which the same models speak."""
    return len(block) == 1 and next(iter(block)) in MEMBERS


def _marks(part: v1.Part) -> list[v1.CacheBreakpoint]:
    """The breakpoints of a part, those inside a result last-but-one: a result itself cannot hold any."""
    inner = [p.cache_breakpoint for p in part.tool_result.parts if p.HasField("cache_breakpoint")]
    return [*inner[-1:], *([part.cache_breakpoint] if part.HasField("cache_breakpoint") else ())]


def _id(id: str) -> str:
    """The ID of a call as the API takes it: of another provider's, what fits and a digest."""
    fit = _NOT_AN_ID.sub("_", id)
    if len(fit) <= _LONGEST_ID:
        return fit
    return f"{fit[: _LONGEST_ID - 17]}_{hashlib.blake2s(id.encode(), digest_size=8).hexdigest()}"


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


def _as_object(text: str) -> Any:
    """The result of a tool as a JSON object: itself, or wrapped in one."""
    try:
        is_object = isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        is_object = False
    return orjson.Fragment(text) if is_object else {"result": text}
