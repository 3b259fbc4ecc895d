"""From messages of parts to the `input` of the Responses API: a flat list of items.

Instructions go as messages of their role rather than as `instructions`, which not every server knows and which cannot
mark a prefix. A failed tool's text begins with "Error: ". Documents of type text/* are text. Content that cannot be
said in any way refuses the request: an answer to half a question helps nobody.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes, web_address
from parley_server.dialects.openai_chat.messages import cache_ttl
from parley_server.dialects.openai_responses import answers
from parley_server.dialects.openai_responses.quirks import ResponsesQuirks

Body = dict[str, Any]

_MOST_BREAKPOINTS = 4
_ROLES = {v1.ROLE_SYSTEM: "system", v1.ROLE_DEVELOPER: "developer"}
_DETAILS = {v1.IMAGE_DETAIL_LOW: "low", v1.IMAGE_DETAIL_HIGH: "high", v1.IMAGE_DETAIL_ORIGINAL: "original"}
_DROPPED = "REPLAY_STATE_DROPPED"


class Items:
    """Encodes the messages of one request."""

    def __init__(self, request: v1.ChatRequest, target: Target, quirks: ResponsesQuirks, wishes: Wishes) -> None:
        self._request = request
        self._target = target
        self._quirks = quirks
        self._wishes = wishes
        self._surplus: int | None = None  # breakpoints beyond the possible ones, once there is a breakpoint
        self._thoughts: dict[int, str] = {}  # by identity of an encrypted reasoning item: the path of its part

    def encode(self) -> list[Any]:
        """All items, in order. Raises UnsupportedParameter for content that cannot be said."""
        items: list[Any] = []
        for index, message in enumerate(self._request.messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "there are no names of participants in the Responses API")
            if message.role == v1.ROLE_ASSISTANT:
                items += self._assistant(message, path)
            elif (words := _only_words(message)) is not None:  # nearly every message
                items.append(_message(_ROLES.get(message.role, "user"), words))
            else:
                items += self._others(message, path)
        return self._without_loose_thoughts(items)

    # ------------------------------------------------------------------------------------------------ user and system

    def _others(self, message: v1.Message, path: str) -> list[Any]:
        role = _ROLES.get(message.role, "user")
        items: list[Any] = []
        content: list[Any] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            own = kind == "provider_part" and part.provider_part.provider == self._target.provider
            if kind == "tool_result":
                item: Any = self._result(part, here)
            elif own and not answers.is_content(part.provider_part.type):
                item = orjson.Fragment(part.provider_part.json)  # what a provider's own tool is answered with, say
            else:
                if kind not in ("text", "provider_part") and role != "user":
                    raise self._unsayable(here, f"instructions are text only, not {kind}")
                if not content:
                    items.append(_message(role, content))
                content.append(self._content(part, here))
                continue
            content = []
            items.append(item)
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("content"), list):
                item["content"] = _shortest(item["content"])
        return items

    def _content(self, part: v1.Part, path: str) -> Any:
        match part.WhichOneof("kind"):
            case "text":
                said: Any = {"type": "input_text", "text": part.text}
            case "image":
                said = self._image(part.image, path)
            case "document":
                said = self._document(part.document, path)
            case "provider_part" if part.provider_part.provider == self._target.provider:
                said = orjson.Fragment(part.provider_part.json)
            case "provider_part":
                raise self._unsayable(path, f"it does not know parts of {part.provider_part.provider}")
            case "audio":
                raise self._unsayable(path, "there is no audio in the Responses API")
            case kind:
                raise self._unsayable(path, f"{kind} cannot stand in this message")
        if part.HasField("replay_state"):
            self._drop_state(path)
        if part.HasField("cache_breakpoint"):
            self._mark(said, part.cache_breakpoint, path)
        return said

    def _image(self, image: v1.ImagePart, path: str) -> Body:
        url = web_address(image.source, f"{path}.image.source", self._target)
        said: Body = {"type": "input_image", "image_url": url or _data_url(image.source)}
        if image.detail == v1.IMAGE_DETAIL_MEDIUM:
            self._wishes.unmet(f"{path}.image.detail", "there is no medium detail; the provider chooses")
        elif image.detail:
            said["detail"] = _DETAILS[image.detail]
        return said

    def _document(self, document: v1.DocumentPart, path: str) -> Body:
        source = document.source
        by_uri = source.WhichOneof("source") == "uri"
        if document.citations_enabled:
            self._wishes.unmet(f"{path}.document.citations_enabled", "there are no citations into documents here")
        if not by_uri and source.mime_type.startswith("text/"):
            above = [line for line in (document.title, document.context) if line]
            return {"type": "input_text", "text": "\n\n".join((*above, source.data.decode("utf-8", "replace")))}
        if document.context:
            self._wishes.unmet(f"{path}.document.context", "there is no place for context beside a document here")
        if by_uri:
            if document.title:
                self._wishes.unmet(f"{path}.document.title", "a document that is fetched keeps the name it has")
            return {"type": "input_file", "file_url": web_address(source, f"{path}.document.source", self._target)}
        name = document.title or ("document.pdf" if source.mime_type == "application/pdf" else "document")
        return {"type": "input_file", "filename": name, "file_data": _data_url(source)}

    def _result(self, part: v1.Part, path: str) -> Body:
        result = part.tool_result
        if part.HasField("replay_state"):
            self._drop_state(path)
        said = [self._content(p, f"{path}.tool_result.parts[{n}]") for n, p in enumerate(result.parts)]
        if result.is_error:
            if not said or not _is_text(said[0]):
                said.insert(0, {"type": "input_text", "text": ""})
            said[0]["text"] = f"Error: {said[0]['text']}"
        if part.HasField("cache_breakpoint"):
            self._mark(said[-1] if said else None, part.cache_breakpoint, path)
        return {
            "type": "function_call_output",
            "call_id": result.tool_call_id,
            "output": _shortest(said) if said else "",
        }

    # ------------------------------------------------------------------------------------------------ assistant turns

    def _assistant(self, message: v1.Message, path: str) -> list[Any]:
        items: list[Any] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            match part.WhichOneof("kind"):
                case "text":
                    self._say(items, {"type": "output_text", "text": part.text}, part, here)
                case "refusal" if self._quirks.refusals:
                    self._say(items, {"type": "refusal", "refusal": part.refusal.text}, part, here)
                case "refusal":
                    self._say(items, {"type": "output_text", "text": part.refusal.text}, part, here)
                case "reasoning":
                    if (item := self._reasoning(part, here)) is not None:
                        items.append(item)
                        if item.get("encrypted_content"):
                            self._thoughts[id(item)] = here
                case "tool_call":
                    items.append(self._call(part, here))
                case "provider_part" if part.provider_part.provider != self._target.provider:
                    foreign = part.provider_part.provider
                    self._wishes.unmet(here, f"a part of {foreign} is left out", _DROPPED)
                case "provider_part" if answers.is_content(part.provider_part.type):
                    self._say(items, orjson.Fragment(part.provider_part.json), part, here)
                case "provider_part":
                    items.append(orjson.Fragment(part.provider_part.json))
                case kind:
                    raise self._unsayable(here, f"{kind} cannot stand in an assistant message")
            if part.HasField("cache_breakpoint"):
                self._mark(None, part.cache_breakpoint, here)
        if self._quirks.calls_last:
            items.sort(key=lambda item: isinstance(item, dict) and item["type"] == "function_call")  # stable
        for item in items:
            if isinstance(item, dict) and item["type"] == "message" and "phase" not in item:
                item["content"] = _shortest(item["content"])
        return items

    def _say(self, items: list[Any], content: Any, part: v1.Part, path: str) -> None:
        """Add to the message that the turn is saying, unless the phase is another: then a new one begins."""
        kept = self._kept(part, path)
        phase = kept.get("phase")
        last = items[-1] if items else None
        if not isinstance(last, dict) or last["type"] != "message" or last.get("phase") != phase:
            last = _message("assistant", [])
            if phase:
                last["phase"] = phase
            items.append(last)
        last["content"].append(content)

    def _call(self, part: v1.Part, path: str) -> Body:
        call = part.tool_call
        said = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments_json}
        return self._kept(part, path) | said | {"arguments": call.arguments_json or "{}"}

    def _reasoning(self, part: v1.Part, path: str) -> Body | None:
        """The item as it came; None where it cannot go back."""
        state = part.replay_state
        kept = answers.kept(state) if state.provider == self._target.provider else {}
        sealed = bool(kept.get("encrypted_content"))
        if not kept or (sealed and state.model != self._target.model):
            why = f"reasoning that {self._target} did not mint is left out"
        elif not sealed and self._quirks.reasoning_replay == "encrypted":
            why = f"reasoning without encrypted content cannot be sent back to {self._target.provider}"
        else:
            for name in ("summary", "content"):
                match kept.get(name):
                    case [{"text": ""} as only]:
                        only["text"] = part.reasoning.text
            return {"type": "reasoning", **kept, "summary": kept.get("summary") or []}
        self._wishes.unmet(path, why, _DROPPED)
        return None

    def _without_loose_thoughts(self, items: list[Any]) -> list[Any]:
        """All but the encrypted reasoning with nothing of its turn behind it, which OpenAI refuses."""
        if not self._thoughts or self._quirks.loose_reasoning:
            return items
        kept: list[Any] = []
        for item in reversed(items):
            behind = kept[-1] if kept else None
            if id(item) in self._thoughts and not _goes_on(behind):
                self._wishes.unmet(self._thoughts[id(item)], "reasoning that led to nothing is left out", _DROPPED)
            else:
                kept.append(item)
        kept.reverse()
        return kept

    # ---------------------------------------------------------------------------------------------------- whose state

    def _kept(self, part: v1.Part, path: str) -> Body:
        """What this dialect put into the state of a part; where somebody else did, that is dropped."""
        if not part.HasField("replay_state"):
            return {}
        kept = answers.kept(part.replay_state) if part.replay_state.provider == self._target.provider else {}
        if not kept:
            self._drop_state(path)
        return kept

    def _drop_state(self, path: str) -> None:
        self._wishes.unmet(f"{path}.replay_state", f"state that {self._target} did not mint is left out", _DROPPED)

    # ---------------------------------------------------------------------------------------------------- breakpoints

    def _mark(self, said: Any, breakpoint_: v1.CacheBreakpoint, path: str) -> None:
        path = f"{path}.cache_breakpoint"
        if self._request.prompt_cache.mode == v1.PromptCacheOptions.MODE_OFF:
            return
        if not self._quirks.cache_breakpoints:
            self._wishes.unmet(path, f"{self._target.provider} takes no breakpoints")
        elif not isinstance(said, dict):
            self._wishes.unmet(path, "only texts, images and documents of the input take a breakpoint here")
        elif self._is_surplus():
            self._wishes.unmet(path, f"at most {_MOST_BREAKPOINTS} breakpoints are possible; the last ones count")
        else:
            said["prompt_cache_breakpoint"] = {"mode": "explicit"}
            if breakpoint_.HasField("ttl"):
                said["prompt_cache_breakpoint"]["ttl"] = cache_ttl(breakpoint_.ttl, f"{path}.ttl", self._wishes)

    def _is_surplus(self) -> bool:
        """Whether the next breakpoint is one of the first, which give way to the last ones where there are too many."""
        if self._surplus is None:
            parts = (part for message in self._request.messages for part in message.parts)
            self._surplus = max(sum(part.HasField("cache_breakpoint") for part in parts) - _MOST_BREAKPOINTS, 0)
        self._surplus -= 1
        return self._surplus >= 0

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        message = f"{self._target}: {why}"
        return UnsupportedParameter(message, violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def _message(role: str, content: str | list[Any]) -> Body:
    return {"type": "message", "role": role, "content": content}


def _only_words(message: v1.Message) -> str | None:
    """The text of a message that is one text and nothing else; None for any other."""
    parts = message.parts
    if len(parts) != 1 or (part := parts[0]).WhichOneof("kind") != "text":
        return None
    return None if part.HasField("cache_breakpoint") or part.HasField("replay_state") else part.text


def _goes_on(item: Any) -> bool:
    """Whether an item belongs to a turn of the model. What the provider's own tools left there has come as it was."""
    if isinstance(item, dict):
        return item["type"] in ("function_call", "reasoning") or item.get("role") == "assistant"
    return item is not None


def _is_text(content: Any) -> bool:
    return isinstance(content, dict) and content["type"] in ("input_text", "output_text")


def _shortest(content: list[Any]) -> str | list[Any]:
    """A string where that says the same."""
    if len(content) == 1 and _is_text(content[0]) and content[0].keys() == {"type", "text"}:
        text: str = content[0]["text"]
        return text
    return content


def _data_url(source: v1.MediaSource) -> str:
    return f"data:{source.mime_type};base64,{b64encode(source.data).decode()}"
