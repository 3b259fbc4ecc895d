"""From messages of parts to the `messages` of chat completions.

What the format cannot say is moved or said in words, by these rules. Images and documents in tool results go into a
user message behind the run of tool messages, since tool messages are text only. A failed tool's text begins with
"Error: ". Documents of type text/* are text. Content that cannot be said in any way refuses the request: an answer to
half a question helps nobody.
"""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.openai_chat.blocks import DETAILS, bare_block, fill_block
from parley_server.dialects.openai_chat.media import Media, unsayable
from parley_server.dialects.openai_chat.quirks import Quirks
from parley_server.dialects.openai_chat.tags import CLOSE, IN_TAGS, OPEN
from parley_server.dialects.openai_chat.thinking import is_off
from parley_server.dialects.openai_chat.tools import short_id
from parley_server.dialects.openai_chat.turns import one_result_each

Body = dict[str, Any]

_MOST_BREAKPOINTS = 4
_ASSISTANT = v1.ROLE_ASSISTANT
_ROLES = {v1.ROLE_SYSTEM: "system", v1.ROLE_DEVELOPER: "developer"}
_CACHE_CONTROL = "cache_control"
_ONLY_TEXT = {"type", "text"}  # keys of a text part with nothing else to say


class Messages:
    """Encodes the messages of one request."""

    def __init__(self, request: v1.ChatRequest, target: Target, quirks: Quirks, wishes: Wishes) -> None:
        self._request = request
        self._target = target
        self._quirks = quirks
        self._wishes = wishes
        self._media = Media(target, quirks, wishes)
        self.recalls = False
        """Whether reasoning is sent back; known once all is encoded."""
        self._surplus: int | None = None  # breakpoints beyond the possible ones, once there is a breakpoint

    def encode(self) -> list[Body]:
        """All messages, in order. Raises UnsupportedParameter for content that cannot be said."""
        messages: list[Body] = []
        attachments: list[Any] = []  # of the tool results since the last other message
        for index, message in enumerate(self._request.messages):
            role = message.role
            if role != _ASSISTANT and not message.name and (words := _only_words(message)) is not None:
                self._give(messages, attachments)  # nearly every message comes this way
                messages.append({"role": self._role(role), "content": words})
                continue
            path = f"messages[{index}]"
            if role == _ASSISTANT:
                self._give(messages, attachments)
                said = self._assistant(message, path)
                if self._quirks.empty_turns or said.get("content") or said.get("tool_calls"):
                    messages.append(said)
                continue
            content: list[Any] = []
            for number, part in enumerate(message.parts):
                here = f"{path}.parts[{number}]"
                if part.WhichOneof("kind") == "tool_result":
                    messages.append(self._result(part.tool_result, here, attachments))
                else:
                    content.append(self._content(part, role, here))
            if content:
                self._give(messages, attachments)
                messages.append(self._named(message, {"role": self._role(role), "content": content}, path))
        self._give(messages, attachments)
        if self._quirks.one_result_a_turn:
            messages = one_result_each(messages)
        for said in messages:
            if isinstance(said.get("content"), list):
                said["content"] = self._shortest(said["content"], "" if said["role"] == "assistant" else "\n\n")
        if self._quirks.prefix_field and messages and messages[-1]["role"] == "assistant":
            messages[-1][self._quirks.prefix_field] = True
        return messages

    def _role(self, role: v1.Role.ValueType) -> str:
        word = _ROLES.get(role, "user")
        return "system" if word == "developer" and not self._quirks.developer_role else word

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
            raise unsayable(self._target, path, f"instructions are text only, not {kind}")
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
                return self._media.image(part.image, path)
            case "audio":
                return self._media.audio(part.audio, path)
            case "document":
                return self._media.document(part.document, path)
            case "provider_part" if part.provider_part.provider == self._target.provider:
                return orjson.Fragment(part.provider_part.json)
            case "provider_part":
                raise unsayable(self._target, path, f"it does not know parts of {part.provider_part.provider}")
            case _:
                raise unsayable(self._target, path, f"{kind} cannot stand in this message")

    def _mark(self, said: Any, breakpoint_: v1.CacheBreakpoint, path: str) -> None:
        path = f"{path}.cache_breakpoint"
        if self._request.prompt_cache.mode == v1.PromptCacheOptions.MODE_OFF:
            return
        if not self._quirks.cache_breakpoints:
            self._wishes.unmet(path, f"{self._target.provider} takes no breakpoints")
        elif not isinstance(said, dict) or (
            said["type"] != "text" and self._quirks.cache_breakpoints != _CACHE_CONTROL
        ):
            self._wishes.unmet(path, "only text takes a breakpoint here")
        elif self._is_surplus():
            self._wishes.unmet(path, f"at most {_MOST_BREAKPOINTS} breakpoints are possible; the last ones count")
        elif self._quirks.cache_breakpoints == _CACHE_CONTROL:
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
        together = self._quirks.media_in_results or self._quirks.variant(self._target.model).media_in_results
        for number, part in enumerate(result.parts):
            here = f"{path}.tool_result.parts[{number}]"
            said = self._content(part, v1.ROLE_TOOL, here)
            plain = isinstance(said, dict) and said["type"] == "text"
            (texts if plain or together else others).append(said)
        if others:
            attachments.append({"type": "text", "text": f"Attached to the result of tool call {result.tool_call_id}:"})
            attachments.extend(others)
        if not texts:
            texts = [{"type": "text", "text": "The result is attached to the next user message." if others else ""}]
        if result.is_error:
            if texts[0].get("type") != "text":
                texts.insert(0, {"type": "text", "text": ""})
            texts[0]["text"] = f"Error: {texts[0]['text']}"
        return {"role": "tool", "tool_call_id": self._id(result.tool_call_id), "content": texts}

    # ------------------------------------------------------------------------------------------------ assistant turns

    def _assistant(self, message: v1.Message, path: str) -> Body:
        said: Body = {"role": "assistant", "content": None}
        content: list[Any] = []
        calls: list[Any] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            match kind:
                case "text" if not part.text and not self._quirks.empty_turns:
                    continue
                case "text":
                    content.append(self._content(part, message.role, here))
                case "refusal" if self._quirks.refusal_field:
                    said["refusal"] = said.get("refusal", "") + part.refusal.text
                case "refusal":
                    content.append({"type": "text", "text": part.refusal.text})
                case "reasoning":
                    self._reasoning(said, content, part, here)
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
                    raise unsayable(self._target, here, f"{kind} cannot stand in an assistant message")
        if content:
            said["content"] = content
        elif not calls and "refusal" not in said and "audio" not in said:
            said["content"] = ""
        if calls:
            said["tool_calls"] = calls
            self._stand_in(said)
        return self._named(message, said, path)

    def _call(self, part: v1.Part, path: str) -> Body:
        call = part.tool_call
        arguments = call.arguments_json or "{}"
        said: Body = {
            "id": self._id(call.id),
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }
        if part.HasField("replay_state"):
            extra = self._state(part.replay_state, same_model=True).get("extra_content")
            if isinstance(extra, dict):
                said["extra_content"] = extra
            else:
                self._drop_state(path)
        return said

    def _reasoning(self, said: Body, content: list[Any], part: v1.Part, path: str) -> None:
        quirks, text = self._quirks, part.reasoning.text
        state = part.replay_state if part.HasField("replay_state") else None
        foreign = state is not None and state.provider != self._target.provider
        if foreign or not quirks.reasoning_replay or not (quirks.reasoning_fields or quirks.reasoning_blocks):
            self._wishes.unmet(path, f"reasoning is not sent back to {self._target.provider}", "REPLAY_STATE_DROPPED")
            return
        self.recalls = True
        own = state is not None and state.model == self._target.model
        kept = self._state(state, same_model=False) if state is not None else {}
        field, block = kept.get("field"), kept.get("block")
        if isinstance(block, dict) or quirks.reasoning_blocks:
            if isinstance(block, dict) and own:
                content.append(fill_block(block, text))
            elif text:
                kind = block.get("type") if isinstance(block, dict) else quirks.reasoning_blocks
                content.append(bare_block(kind, text))
                if isinstance(block, dict) and block != bare_block(kind, ""):
                    self._drop_state(path)
        elif field == IN_TAGS:
            content.append({"type": "text", "text": f"{OPEN}{text}{CLOSE}\n\n"})
        elif text:
            name = field if field in quirks.reasoning_fields else quirks.reasoning_fields[0]
            said[name] = said.get(name, "") + text
        for name in DETAILS:
            if isinstance(details := kept.get(name), list):
                if own:
                    said.setdefault(name, []).extend(details)
                else:
                    self._drop_state(path)

    def _stand_in(self, said: Body) -> None:
        """One space for reasoning that the server wants to see and nobody has any more."""
        quirks = self._quirks
        if not quirks.reasoning_placeholder or is_off(self._request.reasoning):
            return
        if not any(name in said for name in quirks.reasoning_fields):
            said[quirks.reasoning_fields[0]] = " "

    def _id(self, call_id: str) -> str:
        return short_id(call_id) if self._quirks.short_tool_ids else call_id

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


def _field(text: str, name: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value.get(name) if isinstance(value, dict) else None
