"""A recorded body of the Messages API as a `ChatRequest`, written from the API's reference.

What `parley.v1` has no word for goes as a provider part, a provider tool or a provider option.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.target import Target
from tests.conformance.adapter import Inexpressible

_ROLES = {"user": v1.ROLE_USER, "assistant": v1.ROLE_ASSISTANT, "system": v1.ROLE_SYSTEM}
_WORDS = {
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "stream",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
}
_WORDS |= {"stop_sequences", "thinking", "output_config", "output_format", "cache_control", "metadata", "service_tier"}
_EFFORTS = {
    "low": v1.REASONING_EFFORT_LOW,
    "medium": v1.REASONING_EFFORT_MEDIUM,
    "high": v1.REASONING_EFFORT_HIGH,
    "xhigh": v1.REASONING_EFFORT_XHIGH,
    "max": v1.REASONING_EFFORT_MAX,
}
_DISPLAY = {
    "summarized": v1.ReasoningOptions.VISIBILITY_SUMMARY,
    "omitted": v1.ReasoningOptions.VISIBILITY_OMITTED,
}


class Importer:
    """Reads one body for one target."""

    def __init__(self, body: Mapping[str, Any], target: Target) -> None:
        self._body = body
        self._target = target
        self._options: dict[str, Any] = {name: value for name, value in body.items() if name not in _WORDS}

    def request(self) -> v1.ChatRequest:
        """The request. Raises Inexpressible if it breaks a rule of `parley.v1`."""
        body = self._body
        request = v1.ChatRequest(model=str(self._target))
        request.messages.extend(self._messages())
        for tool in body.get("tools") or ():
            request.tools.append(self._tool(tool))
        self._choice(request, body.get("tool_choice"))
        request.sampling.max_output_tokens = body["max_tokens"]
        for name in ("temperature", "top_p", "top_k"):
            if body.get(name) is not None:
                setattr(request.sampling, name, body[name])
        request.sampling.stop_sequences.extend(body.get("stop_sequences") or ())
        self._reasoning(request)
        self._output(request)
        if body.get("cache_control"):
            request.prompt_cache.mode = v1.PromptCacheOptions.MODE_AUTO
            if body["cache_control"].get("ttl"):
                request.prompt_cache.ttl.FromSeconds(_seconds(body["cache_control"]["ttl"]))
        request.end_user_id = (body.get("metadata") or {}).get("user_id") or ""
        request.routing.service_tier = body.get("service_tier") or ""
        if self._options:
            request.provider_options_json[self._target.provider] = json.dumps(self._options)
        return request

    def _messages(self) -> Iterator[v1.Message]:
        system = self._body.get("system")
        if system:
            yield v1.Message(role=v1.ROLE_SYSTEM, parts=self._parts(system))
        for message in self._body["messages"]:
            if not message["content"]:
                raise Inexpressible("a turn without content")
            answer = v1.Message(role=_ROLES[message["role"]], parts=self._parts(message["content"]))
            if message["role"] == "system" and any(part.HasField("provider_part") for part in answer.parts):
                raise Inexpressible("instructions that hold something else than text")
            yield answer

    def _parts(self, content: Any) -> Iterator[v1.Part]:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            part = self._part(block)
            if part is None:
                yield self._verbatim(block)
                continue
            if block.get("cache_control"):
                part.cache_breakpoint.CopyFrom(_breakpoint(block["cache_control"]))
            yield part

    def _part(self, block: Mapping[str, Any]) -> v1.Part | None:
        match block:
            case {"type": "text", "text": text} if not block.get("citations"):
                return v1.Part(text=text)
            case {"type": "image", "source": {"type": "base64" | "url"} as source}:
                return v1.Part(image=v1.ImagePart(source=_source(source)))
            case {"type": "document", "source": {"type": "base64" | "url" | "text"} as source}:
                document = v1.DocumentPart(
                    source=_source(source), title=block.get("title") or "", context=block.get("context") or ""
                )
                if block.get("citations"):
                    document.citations_enabled = block["citations"]["enabled"]
                return v1.Part(document=document)
            case {"type": "thinking", "thinking": text, "signature": signature}:
                return v1.Part(reasoning=v1.ReasoningPart(text=text), replay_state=self._state(signature))
            case {"type": "redacted_thinking", "data": data}:
                return v1.Part(reasoning=v1.ReasoningPart(redacted=True), replay_state=self._state(data))
            case {"type": "tool_use", "id": id, "name": name, "input": input} if _direct(block):
                return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments_json=json.dumps(input)))
            case {"type": "tool_result", "tool_use_id": id}:
                result = v1.ToolResult(tool_call_id=id, is_error=bool(block.get("is_error")))
                result.parts.extend(self._parts(block.get("content") or ()))
                if all(part.WhichOneof("kind") != "provider_part" for part in result.parts):
                    return v1.Part(tool_result=result)
        return None

    def _verbatim(self, block: Mapping[str, Any]) -> v1.Part:
        part = v1.ProviderPart(provider=self._target.provider, type=block["type"], json=json.dumps(block))
        return v1.Part(provider_part=part)

    def _state(self, opaque: str) -> v1.ReplayState:
        return v1.ReplayState(provider=self._target.provider, model=self._target.model, data=opaque.encode())

    def _tool(self, tool: Mapping[str, Any]) -> v1.Tool:
        plain = {"name", "description", "input_schema", "strict", "cache_control"}
        if set(tool) - plain - ({"type"} if tool.get("type") == "custom" else set()):
            return v1.Tool(provider_tool=v1.ProviderTool(provider=self._target.provider, json=json.dumps(tool)))
        if not isinstance(tool["input_schema"], dict):
            raise Inexpressible("a schema that is no JSON object")
        function = v1.FunctionTool(
            name=tool["name"],
            description=tool.get("description") or "",
            parameters_json_schema=json.dumps(tool["input_schema"]),
        )
        if tool.get("strict") is not None:
            function.strict = tool["strict"]
        answer = v1.Tool(function=function)
        if tool.get("cache_control"):
            answer.cache_breakpoint.CopyFrom(_breakpoint(tool["cache_control"]))
        return answer

    def _choice(self, request: v1.ChatRequest, choice: Mapping[str, Any] | None) -> None:
        if choice is None:
            return
        match choice["type"]:
            case "auto":
                request.tool_choice.mode = v1.ToolChoice.MODE_AUTO
            case "any":
                request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
            case "tool":
                request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
                request.tool_choice.allowed_tool_names.append(choice["name"])
            case "none":
                request.tool_choice.mode = v1.ToolChoice.MODE_NONE
        if choice.get("disable_parallel_tool_use") is not None:
            request.tool_choice.parallel_tool_calls = not choice["disable_parallel_tool_use"]

    def _reasoning(self, request: v1.ChatRequest) -> None:
        effort = (self._body.get("output_config") or {}).get("effort")
        thinking: dict[str, Any] = self._body.get("thinking") or {}
        match thinking.get("type"):
            case "enabled" if effort is None:
                request.reasoning.budget_tokens = thinking["budget_tokens"]
            case "disabled" if effort is None:
                request.reasoning.effort = v1.REASONING_EFFORT_NONE
            case "adaptive" if effort is not None:
                request.reasoning.effort = _EFFORTS[effort]
            case _:  # there is no word for "think as you like", nor for an effort without thinking
                if thinking:
                    self._options["thinking"] = thinking
                if effort is not None:
                    self._options["output_config"] = {"effort": effort}
                return
        if thinking.get("display"):
            request.reasoning.visibility = _DISPLAY[thinking["display"]]

    def _output(self, request: v1.ChatRequest) -> None:
        config = dict(self._body.get("output_config") or {})
        config.pop("effort", None)
        form = config.pop("format", None) or self._body.get("output_format")
        if form is not None:
            request.output.json_schema.json_schema = json.dumps(form["schema"])
        if config:
            self._options.setdefault("output_config", {}).update(config)


def _source(source: Mapping[str, Any]) -> v1.MediaSource:
    match source["type"]:
        case "url":
            return v1.MediaSource(uri=source["url"])
        case "text":
            return v1.MediaSource(data=source["data"].encode(), mime_type=source["media_type"])
    return v1.MediaSource(data=base64.b64decode(source["data"]), mime_type=source["media_type"])


def _breakpoint(control: Mapping[str, Any]) -> v1.CacheBreakpoint:
    answer = v1.CacheBreakpoint()
    if control.get("ttl"):
        answer.ttl.FromSeconds(_seconds(control["ttl"]))
    return answer


def _seconds(ttl: str) -> int:
    return {"5m": 300, "1h": 3600}[ttl]


def _direct(block: Mapping[str, Any]) -> bool:
    return block.get("caller") in (None, {"type": "direct"})
