"""From messages of parts to the `messages` of chat completions.

What the format cannot say is moved or said in words, by these rules. Images and documents in tool results go into a
user message behind the run of tool messages, since tool messages are text only. A failed tool's text begins with
"Error: ". Documents of type text/* are text. Content that cannot be said in any way refuses the request: an answer to
half a question helps nobody.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.openai_chat.quirks import Quirks

Body = dict[str, Any]

_MOST_BREAKPOINTS = 4
_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_DETAILS = {v1.IMAGE_DETAIL_LOW: "low", v1.IMAGE_DETAIL_HIGH: "high", v1.IMAGE_DETAIL_ORIGINAL: "original"}


_ONLY_TEXT = {"type", "text"}  # keys of a text part with nothing else to say


class Messages:
    """Encodes the messages of one request."""

    def __init__(self, request: v1.ChatRequest, target: Target, quirks: Quirks, wishes: Wishes) -> None:
        self._request = request
        self._target = target
        self._quirks = quirks
        self._wishes = wishes
        self._surplus: int | None = None  # breakpoints beyond the possible ones, once there is a breakpoint

    def encode(self) -> list[Body]:
        """All messages, in order. Raises UnsupportedParameter for content that cannot be said."""
        messages: list[Body] = []
        attachments: list[Any] = []  # of the tool results since the last other message
        for index, message in enumerate(self._request.messages):
            path = f"messages[{index}]"
            if message.role == v1.ROLE_ASSISTANT:
                self._give(messages, attachments)
                messages.append(self._assistant(message, path))
                continue
            if (words := _only_words(message)) is not None:  # nearly every message
                self._give(messages, attachments)
                messages.append(self._named(message, {"role": self._role(message.role), "content": words}, path))
                continue
            content: list[Any] = []
            for number, part in enumerate(message.parts):
                here = f"{path}.parts[{number}]"
                if part.WhichOneof("kind") == "tool_result":
                    messages.append(self._result(part.tool_result, here, attachments))
                else:
                    content.append(self._content(part, message.role, here))
            if content:
                self._give(messages, attachments)
                messages.append(self._named(message, {"role": self._role(message.role), "content": content}, path))
        self._give(messages, attachments)
        for said in messages:
            if isinstance(said.get("content"), list):
                said["content"] = self._shortest(said["content"], "" if said["role"] == "assistant" else "\n\n")
        return messages

    def _role(self, role: v1.Role.ValueType) -> str:
        match role:
            case v1.ROLE_SYSTEM:
                return "system"
            case v1.ROLE_DEVELOPER:
                return "developer" if self._quirks.developer_role else "system"
            case _:
                return "user"

    def _named(self, message: v1.Message, said: Body, path: str) -> Body:
        if message.name:
            if self._quirks.participant_names:
                said["name"] = message.name
            else:
                self._wishes.unmet(f"{path}.name", f"{self._target.provider} takes no names of participants")
        return said

    def _shortest(self, content: list[Any], joint: str) -> str | list[Any]:
        """One string where that says the same."""
        texts = [part["text"] for part in content if isinstance(part, dict) and part.keys() == _ONLY_TEXT]
        if len(texts) == len(content) and (len(texts) == 1 or self._quirks.text_as_string):
            return joint.join(texts)
        return content

    @staticmethod
    def _give(messages: list[Body], attachments: list[Any]) -> None:
        if attachments:
            messages.append({"role": "user", "content": attachments.copy()})
            attachments.clear()

    # ------------------------------------------------------------------------------------------------ user and system

    def _content(self, part: v1.Part, role: v1.Role.ValueType, path: str) -> Any:
        kind = part.WhichOneof("kind")
        if kind not in ("text", "provider_part") and role in (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER):
            raise self._unsayable(path, f"instructions are text only, not {kind}")
        said = self._said(part, kind, path)
        if part.HasField("replay_state"):
            self._drop_state(path)
        if part.HasField("cache_breakpoint"):
            self._mark(said, part.cache_breakpoint, path)
        return said

    def _said(self, part: v1.Part, kind: str | None, path: str) -> Any:
        match kind:
            case "text":
                return {"type": "text", "text": part.text}
            case "image":
                return self._image(part.image, path)
            case "audio":
                return self._audio(part.audio, path)
            case "document":
                return self._document(part.document, path)
            case "provider_part" if part.provider_part.provider == self._target.provider:
                return orjson.Fragment(part.provider_part.json)
            case "provider_part":
                raise self._unsayable(path, f"it does not know parts of {part.provider_part.provider}")
            case _:
                raise self._unsayable(path, f"{kind} cannot stand in this message")

    def _image(self, image: v1.ImagePart, path: str) -> Body:
        said: Body = {"url": image.source.uri or _data_url(image.source)}
        if image.detail == v1.IMAGE_DETAIL_MEDIUM:
            self._wishes.unmet(f"{path}.image.detail", "there is no medium detail; the provider chooses")
        elif image.detail:
            said["detail"] = _DETAILS[image.detail]
        return {"type": "image_url", "image_url": said}

    def _audio(self, audio: v1.AudioPart, path: str) -> Body:
        source = audio.source
        if source.WhichOneof("source") == "uri":
            raise self._unsayable(f"{path}.audio.source.uri", "audio goes as bytes only, not by URI")
        form = _AUDIO_FORMATS.get(source.mime_type.partition(";")[0].strip().lower())
        if form is None:
            raise self._unsayable(f"{path}.audio.source.mime_type", "audio is WAV or MP3 here")
        return {"type": "input_audio", "input_audio": {"data": b64encode(source.data).decode(), "format": form}}

    def _document(self, document: v1.DocumentPart, path: str) -> Body:
        source = document.source
        if document.citations_enabled:
            self._wishes.unmet(f"{path}.document.citations_enabled", "there are no citations into documents here")
        if source.WhichOneof("source") == "uri":
            raise self._unsayable(f"{path}.document.source.uri", "documents go as bytes only, not by URI")
        if source.mime_type.startswith("text/"):
            above = [line for line in (document.title, document.context) if line]
            return {"type": "text", "text": "\n\n".join((*above, source.data.decode("utf-8", "replace")))}
        if document.context:
            self._wishes.unmet(f"{path}.document.context", "there is no place for context beside a document here")
        name = document.title or ("document.pdf" if source.mime_type == "application/pdf" else "document")
        return {"type": "file", "file": {"filename": name, "file_data": _data_url(source)}}

    def _mark(self, said: Any, breakpoint_: v1.CacheBreakpoint, path: str) -> None:
        path = f"{path}.cache_breakpoint"
        if self._request.prompt_cache.mode == v1.PromptCacheOptions.MODE_OFF:
            return
        if not self._quirks.cache_breakpoints:
            self._wishes.unmet(path, f"{self._target.provider} takes no breakpoints")
        elif not isinstance(said, dict) or said["type"] != "text":
            self._wishes.unmet(path, "only text takes a breakpoint here")
        elif self._is_surplus():
            self._wishes.unmet(path, f"at most {_MOST_BREAKPOINTS} breakpoints are possible; the last ones count")
        elif self._quirks.cache_breakpoints == "cache_control":
            said["cache_control"] = {"type": "ephemeral"}
            if breakpoint_.ttl.ToSeconds() > 300:
                said["cache_control"]["ttl"] = "1h"
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

    # --------------------------------------------------------------------------------------------------- tool results

    def _result(self, result: v1.ToolResult, path: str, attachments: list[Any]) -> Body:
        texts: list[Body] = []
        others: list[Any] = []
        for number, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{number}]"
            said = self._content(part, v1.ROLE_TOOL, here)
            (texts if isinstance(said, dict) and said["type"] == "text" else others).append(said)
        if others:
            attachments.append({"type": "text", "text": f"Attached to the result of tool call {result.tool_call_id}:"})
            attachments.extend(others)
        if not texts:
            texts = [{"type": "text", "text": "The result is attached to the next user message." if others else ""}]
        if result.is_error:
            texts[0]["text"] = f"Error: {texts[0]['text']}"
        return {"role": "tool", "tool_call_id": result.tool_call_id, "content": texts}

    # ------------------------------------------------------------------------------------------------ assistant turns

    def _assistant(self, message: v1.Message, path: str) -> Body:
        said: Body = {"role": "assistant", "content": None}
        content: list[Any] = []
        calls: list[Any] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            match kind:
                case "text":
                    content.append(self._content(part, message.role, here))
                case "refusal" if self._quirks.refusal_field:
                    said["refusal"] = said.get("refusal", "") + part.refusal.text
                case "refusal":
                    content.append({"type": "text", "text": part.refusal.text})
                case "reasoning":
                    self._reasoning(said, part, here)
                case "tool_call":
                    calls.append(self._call(part, here))
                case "provider_part" if part.provider_part.provider != self._target.provider:
                    foreign = part.provider_part.provider
                    self._wishes.unmet(here, f"a part of {foreign} is left out", "REPLAY_STATE_DROPPED")
                case "provider_part":
                    block = orjson.Fragment(part.provider_part.json)
                    match part.provider_part.type:
                        case "custom":
                            calls.append(block)
                        case "audio":
                            said["audio"] = {"id": _field(part.provider_part.json, "id")}
                        case _:
                            content.append(block)
                case _:
                    raise self._unsayable(here, f"{kind} cannot stand in an assistant message")
        if content:
            said["content"] = content
        elif not calls and "refusal" not in said and "audio" not in said:
            said["content"] = ""
        if calls:
            said["tool_calls"] = calls
        return self._named(message, said, path)

    def _call(self, part: v1.Part, path: str) -> Body:
        call = part.tool_call
        arguments = call.arguments_json or "{}"
        said: Body = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
        if part.HasField("replay_state"):
            extra = self._state(part.replay_state, same_model=True).get("extra_content")
            if isinstance(extra, dict):
                said["extra_content"] = extra
            else:
                self._drop_state(path)
        return said

    def _reasoning(self, said: Body, part: v1.Part, path: str) -> None:
        state = part.replay_state if part.HasField("replay_state") else None
        foreign = state is not None and state.provider != self._target.provider
        if foreign or not self._quirks.reasoning_replay or not self._quirks.reasoning_fields:
            self._wishes.unmet(path, f"reasoning is not sent back to {self._target.provider}", "REPLAY_STATE_DROPPED")
            return
        kept = self._state(state, same_model=False) if state is not None else {}
        field = kept.get("field")
        if field not in self._quirks.reasoning_fields:
            field = self._quirks.reasoning_fields[0]
        if part.reasoning.text:
            said[field] = said.get(field, "") + part.reasoning.text
        details = kept.get("reasoning_details")
        if isinstance(details, list):
            if state is not None and state.model == self._target.model:
                said.setdefault("reasoning_details", []).extend(details)
            else:
                self._drop_state(path)

    def _state(self, state: v1.ReplayState, *, same_model: bool) -> Body:
        """What this dialect once put into `state`; empty if it did not mint it."""
        if state.provider != self._target.provider or (same_model and state.model != self._target.model):
            return {}
        try:
            kept = orjson.loads(state.data)
        except orjson.JSONDecodeError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _drop_state(self, path: str) -> None:
        self._wishes.unmet(
            f"{path}.replay_state", f"state that {self._target} did not mint is left out", "REPLAY_STATE_DROPPED"
        )

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        message = f"{self._target}: {why}"
        return UnsupportedParameter(message, violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def cache_ttl(ttl: Duration, path: str, wishes: Wishes) -> str:
    """The lifetime OpenAI offers that is nearest above `ttl`; there are 30 minutes and 12 hours."""
    seconds = ttl.ToSeconds()
    offered, word = (1800, "30m") if seconds <= 1800 else (43200, "12h")
    if seconds != offered:
        wishes.unmet(path, f"lifetimes are 30 minutes or 12 hours; {word} is asked for", code="CLAMPED")
    return word


def _only_words(message: v1.Message) -> str | None:
    """The text of a message that is one text and nothing else; None for any other."""
    parts = message.parts
    if len(parts) != 1 or (part := parts[0]).WhichOneof("kind") != "text":
        return None
    return None if part.HasField("cache_breakpoint") or part.HasField("replay_state") else part.text


def _data_url(source: v1.MediaSource) -> str:
    return f"data:{source.mime_type};base64,{b64encode(source.data).decode()}"


def _field(text: str, name: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value.get(name) if isinstance(value, dict) else None
