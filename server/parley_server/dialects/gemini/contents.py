"""A conversation as `systemInstruction` and `contents`: instructions apart, roles alternate, responses on their own."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.gemini.answers import is_made_up
from parley_server.dialects.gemini.families import Traits
from parley_server.dialects.gemini.hosting import Hosting

Wire = dict[str, Any]

NO_SIGNATURE = "skip_thought_signature_validator"
"""Stands for the signature of a function call that this model did not make, and would refuse without one."""

_INSTRUCTIONS = (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER)
_RESOLUTIONS = {
    v1.IMAGE_DETAIL_LOW: "MEDIA_RESOLUTION_LOW",
    v1.IMAGE_DETAIL_MEDIUM: "MEDIA_RESOLUTION_MEDIUM",
    v1.IMAGE_DETAIL_HIGH: "MEDIA_RESOLUTION_HIGH",
    v1.IMAGE_DETAIL_ORIGINAL: "MEDIA_RESOLUTION_ULTRA_HIGH",
}


class Contents:
    """Encodes the messages of one request. `system` and `turns` are what becomes of them."""

    def __init__(self, target: Target, hosting: Hosting, row: Traits, wishes: Wishes, *, breakpoints: bool) -> None:
        self.system: list[Wire] = []
        self.turns: list[Wire] = []
        self._target = target
        self._hosting = hosting
        self._row = row
        self._wishes = wishes
        self._breakpoints = breakpoints
        self._calls: dict[str, tuple[int, str]] = {}
        """By the ID of a call: how many came before it, and the name of the function."""

    def encode(self, messages: Sequence[v1.Message]) -> None:
        """All messages, in order. Raises UnsupportedParameter for content that cannot be said."""
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "the Gemini API has no names of participants")
            if message.role in _INSTRUCTIONS:
                self._instruct(message, path)
            elif message.role == v1.ROLE_ASSISTANT:
                self._add("model", self._parts(message, path))
            else:
                self._listen(message, path)
        if self._row.signatures:
            _sign(self.turns)

    def _instruct(self, message: v1.Message, path: str) -> None:
        if self.turns:
            problem = "instructions in mid-conversation went with those at its beginning"
            self._wishes.unmet(path, problem, "FOLDED")
        for index, part in enumerate(message.parts):
            here = f"{path}.parts[{index}]"
            self._extras(part, here)
            match part.WhichOneof("kind"):
                case "text" if part.text:
                    self.system.append({"text": part.text})
                case "text":
                    pass
                case kind:
                    self._wishes.unmet(here, f"instructions are text here: a {kind} was left out")

    def _listen(self, message: v1.Message, path: str) -> None:
        """A turn of the user. Responses to calls stand in a content of their own, in the order of the calls."""
        responses: list[tuple[int, Wire]] = []
        rest: list[Wire] = []
        for index, part in enumerate(message.parts):
            here = f"{path}.parts[{index}]"
            if part.WhichOneof("kind") == "tool_result":
                self._extras(part, here)
                order = self._calls.get(part.tool_result.tool_call_id, (len(self._calls), ""))[0]
                responses.append((order, self._response(part.tool_result, here, rest)))
            else:
                rest += self._part(part, here)
        if responses:
            self._respond(responses)
        elif not rest and message.parts and all(part.WhichOneof("kind") == "text" for part in message.parts):
            rest = [{"text": ""}]  # nothing but what says nothing: the provider may judge that
        self._add("user", rest)

    def _respond(self, responses: list[tuple[int, Wire]]) -> None:
        """Where there are no IDs, order alone tells the responses of two calls of one function apart."""
        last = self.turns[-1] if self.turns else None
        if last is not None and "order" in last:
            last["order"] += responses
        else:
            last = {"role": "user", "order": responses, "parts": []}
            self.turns.append(last)
        last["order"].sort(key=lambda response: response[0])
        last["parts"] = [wire for _, wire in last["order"]]

    def _add(self, role: str, parts: list[Wire]) -> None:
        if not parts:
            return
        last = self.turns[-1] if self.turns else None
        if last is not None and last["role"] == role and "order" not in last:
            last["parts"] += parts
        else:
            self.turns.append({"role": role, "parts": parts})

    def _parts(self, message: v1.Message, path: str) -> list[Wire]:
        return [wire for index, part in enumerate(message.parts) for wire in self._part(part, f"{path}.parts[{index}]")]

    def _part(self, part: v1.Part, path: str) -> Iterator[Wire]:
        """The part on the wire, with its signature; nothing if it says nothing."""
        if part.WhichOneof("kind") == "reasoning":
            yield from self._thought(part, path)
            return
        wire = self._wire(part, path)
        if wire is None:
            return
        if signature := self._signature(part, path):
            wire["thoughtSignature"] = signature
        self._extras(part, path)
        if wire.get("text") != "" or signature:  # an empty text is refused, unless it carries a signature
            yield wire

    def _wire(self, part: v1.Part, path: str) -> Wire | None:
        match part.WhichOneof("kind"):
            case "text":
                return {"text": part.text}
            case "refusal":
                return {"text": part.refusal.text}
            case "image":
                return self._media(part.image.source, f"{path}.image.source", detail=part.image.detail)
            case "audio":
                return self._media(part.audio.source, f"{path}.audio.source")
            case "document":
                return self._document(part.document, f"{path}.document")
            case "tool_call":
                return self._call(part.tool_call)
            case "provider_part" if part.provider_part.provider == self._target.provider:
                return _object(part.provider_part.json, f"{path}.provider_part.json")
            case "provider_part":
                foreign = part.provider_part.provider
                self._wishes.unmet(path, f"a block of {foreign} was left out", "PROVIDER_PART_DROPPED")
                return None
            case kind:
                raise self._unsayable(path, f"{kind} cannot stand in this message")

    def _thought(self, part: v1.Part, path: str) -> Iterator[Wire]:
        """Thoughts go back to the model that had them; whose they are, their state says, with a signature or not."""
        self._extras(part, path)
        if not self._is_own(part):
            whose = "another model" if part.replay_state.provider == self._target.provider else "another provider"
            whose = whose if part.HasField("replay_state") else "nobody knows whom"
            self._wishes.unmet(path, f"reasoning of {whose} was left out", "REPLAY_STATE_DROPPED")
            return
        signature = _text(part.replay_state.data)
        if part.reasoning.text or signature:
            wire: Wire = {"text": part.reasoning.text, "thought": True}
            yield {**wire, "thoughtSignature": signature} if signature else wire

    def _signature(self, part: v1.Part, path: str) -> str:
        if not part.HasField("replay_state"):
            return ""
        if not self._is_own(part):
            self._wishes.unmet(
                f"{path}.replay_state", "the state of another model or provider was left out", "REPLAY_STATE_DROPPED"
            )
            return ""
        return _text(part.replay_state.data)

    def _is_own(self, part: v1.Part) -> bool:
        state = part.replay_state
        mine = state.provider == self._target.provider and state.model in ("", self._target.model)
        return part.HasField("replay_state") and mine

    def _media(self, source: v1.MediaSource, path: str, *, detail: int = 0, title: str = "") -> Wire:
        """Bytes or a URI. Raises UnsupportedParameter for a URI that cannot be fetched here."""
        if source.WhichOneof("source") == "uri":
            if source.uri.startswith(self._hosting.refused_uris):
                raise self._unsayable(f"{path}.uri", f"{self._target.provider} cannot read that file")
            file = {"fileUri": source.uri}
            wire: Wire = {"fileData": {"mimeType": source.mime_type, **file} if source.mime_type else file}
        else:
            data = base64.b64encode(source.data).decode("ascii")
            wire = {"inlineData": {"mimeType": source.mime_type, "data": data}}
        if title:
            next(iter(wire.values()))["displayName"] = title
        if detail and self._row.third:
            wire["mediaResolution"] = {"level": _RESOLUTIONS[v1.ImageDetail.ValueType(detail)]}
        elif detail:
            self._wishes.unmet(f"{path.removesuffix('.source')}.detail", "this model takes no detail by image")
        return wire

    def _document(self, document: v1.DocumentPart, path: str) -> Wire:
        if document.title and not self._hosting.titles:
            self._wishes.unmet(f"{path}.title", "the Gemini API takes no titles of documents")
        if document.context:
            self._wishes.unmet(f"{path}.context", "the Gemini API takes no context of documents")
        if document.citations_enabled:
            self._wishes.unmet(f"{path}.citations_enabled", "the Gemini API cites no documents of the request")
        title = document.title if self._hosting.titles else ""
        return self._media(document.source, f"{path}.source", title=title)

    def _call(self, call: v1.ToolCall) -> Wire:
        self._calls[call.id] = (len(self._calls), call.name)
        said: Wire = {"name": call.name, "args": _arguments(call.arguments_json)}
        return {"functionCall": {**self._id(call.id), **said}}

    def _id(self, id: str) -> Wire:
        return {"id": id} if id and self._hosting.call_ids and not is_made_up(id) else {}

    def _response(self, result: v1.ToolResult, path: str, rest: list[Wire]) -> Wire:
        """The response to a call. Media that the model takes in no response go into `rest`, behind it."""
        name = result.name or self._calls.get(result.tool_call_id, (0, ""))[1]
        if not name:
            raise self._unsayable(f"{path}.tool_result.name", "results are matched by the name of their function")
        texts: list[str] = []
        media: list[Wire] = []
        for index, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{index}]"
            wire = self._wire(part, here)
            self._extras(part, here)
            if wire is not None and "text" in wire:
                texts.append(wire["text"])
            elif wire is not None:
                media.append(wire)
        said: Wire = {**self._id(result.tool_call_id), "name": name}
        said["response"] = _answer("\n".join(texts), is_error=result.is_error, bare=bool(media) and not texts)
        if media and self._row.third:
            said["parts"] = media
        elif media:
            rest += [{"text": f"Attached to the response of {name}:"}, *media]
        return {"functionResponse": said}

    def _extras(self, part: v1.Part, path: str) -> None:
        if part.HasField("cache_breakpoint") and self._breakpoints:
            self._wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        return UnsupportedParameter(f"{self._target}: {why}", violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def on_the_wire(turns: Iterable[Wire]) -> list[Wire]:
    """The turns without our notes."""
    return [{"role": turn["role"], "parts": turn["parts"]} for turn in turns]


def _sign(turns: Iterable[Wire]) -> None:
    """The first call of each turn of the model must be signed; the model signs no other of a turn."""
    for turn in turns:
        first = next((wire for wire in turn["parts"] if "functionCall" in wire), None)
        if first is not None and turn["role"] == "model":
            first.setdefault("thoughtSignature", NO_SIGNATURE)


def _text(data: bytes) -> str:
    return data.decode("ascii", "ignore")


def _answer(text: str, *, is_error: bool, bare: bool) -> Any:
    """What a tool said, as the object that it must be here: a JSON object as it is, anything else in a field."""
    if bare and not is_error:
        return {}
    found = _parsed(text)
    if isinstance(found, dict) and (not is_error or "error" in found):
        return orjson.Fragment(text)
    return {"error" if is_error else "output": text}


def _arguments(text: str) -> Any:
    """Arguments in the very words of the model; what is no object, because a model wrote it, stands as text in one."""
    if not text:
        return {}
    return orjson.Fragment(text) if isinstance(_parsed(text), dict) else {"arguments": text}


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _object(text: str, path: str) -> Wire:
    """What the caller wrote as JSON. Raises InvalidRequest if it is no object."""
    value = _parsed(text)
    if isinstance(value, dict):
        return value
    problem = "must be a JSON object"
    raise InvalidRequest(f"{path} {problem}", violations=[Violation(path, problem, "INVALID_JSON")])
