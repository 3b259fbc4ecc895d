"""From a recorded body of `POST /responses` to a request of ours, written from the API's reference.

What `parley.v1` has no word for goes as a provider part, a provider tool or a provider option. The state that reasoning
comes with is that of the dialect: a JSON object, whose `responses` is the item as it came.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from tests.conformance.adapter import Inexpressible

_ROLES = {
    "system": v1.ROLE_SYSTEM,
    "developer": v1.ROLE_DEVELOPER,
    "user": v1.ROLE_USER,
    "assistant": v1.ROLE_ASSISTANT,
}
_DETAILS = {"low": v1.IMAGE_DETAIL_LOW, "high": v1.IMAGE_DETAIL_HIGH, "original": v1.IMAGE_DETAIL_ORIGINAL}
_EFFORTS = {name.removeprefix("REASONING_EFFORT_").lower(): effort for name, effort in v1.ReasoningEffort.items()}
_SUMMARIES = {
    "auto": v1.ReasoningOptions.VISIBILITY_SUMMARY,
    "detailed": v1.ReasoningOptions.VISIBILITY_FULL,
}
_MODES = {
    "auto": v1.ToolChoice.MODE_AUTO,
    "none": v1.ToolChoice.MODE_NONE,
    "required": v1.ToolChoice.MODE_REQUIRED,
}
_SAMPLING = ("max_output_tokens", "temperature", "top_p", "top_logprobs")
_TTL = {"30m": 1800, "12h": 43200}
_UNSENT = ("model", "stream", "stream_options", "include")
"""Said elsewhere, or added by the dialect of its own accord."""


def responses_request(body: dict[str, Any], provider: str, model: str) -> v1.ChatRequest:
    """The request that `body` makes. Raises Inexpressible for one that no request of ours can make."""
    left = {name: value for name, value in body.items() if value is not None and name not in _UNSENT}
    if not left.get("input"):
        raise Inexpressible("there is no conversation in it")
    if not 0 <= left.get("temperature", 0) <= 2:
        raise Inexpressible("its temperature is not within 0 to 2")
    request = v1.ChatRequest(model=f"{provider}/{model}")
    if instructions := left.pop("instructions", ""):
        request.messages.add(role=v1.ROLE_SYSTEM, parts=[v1.Part(text=instructions)])
    request.messages.extend(_Conversation(left.pop("input"), provider, model).messages())
    for tool in left.pop("tools", ()):
        request.tools.append(_tool(tool, provider))
    for field in _SAMPLING:
        if field in left:
            setattr(request.sampling, field, left.pop(field))
    _choice(request, left)
    _reasoning(request, left)
    _output(request, left)
    request.prompt_cache.key = left.pop("prompt_cache_key", "")
    request.routing.service_tier = left.pop("service_tier", "")
    request.end_user_id = left.pop("safety_identifier", "") or left.pop("user", "")
    if left.get("store") is False:  # as it always is
        del left["store"]
    wanted = [name for name in body.get("include") or () if name != "reasoning.encrypted_content"]
    if wanted:
        left["include"] = wanted
    if left:
        request.provider_options_json[provider] = json.dumps(left)
    return request


class _Conversation:
    """Turns of the flat list of items: all that the model said in a row is one."""

    def __init__(self, said: str | list[dict[str, Any]], provider: str, model: str) -> None:
        self._items = [{"role": "user", "content": said}] if isinstance(said, str) else said
        self._provider = provider
        self._model = model

    def messages(self) -> Iterator[v1.Message]:
        turn = v1.Message(role=v1.ROLE_ASSISTANT)
        for number, item in enumerate(self._items):
            if self._is_of_model(item):
                if item.get("type") == "reasoning" and not self._goes_on(number):
                    raise Inexpressible("reasoning with nothing of its turn behind it, which the API refuses")
                turn.parts.extend(self._said(item))
                continue
            if turn.parts:
                yield turn
                turn = v1.Message(role=v1.ROLE_ASSISTANT)
            yield self._told(item)
        if turn.parts:
            yield turn

    def _goes_on(self, number: int) -> bool:
        return number + 1 < len(self._items) and self._is_of_model(self._items[number + 1])

    @staticmethod
    def _is_of_model(item: Mapping[str, Any]) -> bool:
        kind: str = item.get("type", "message")
        if kind == "message":
            return bool(item["role"] == "assistant")
        return kind in ("reasoning", "item_reference", "compaction") or kind.endswith("_call")

    def _said(self, item: dict[str, Any]) -> Iterator[v1.Part]:
        match item.get("type", "message"):
            case "message":
                for block in _blocks(item["content"], "output_text"):
                    match block["type"]:
                        case "output_text":
                            part = v1.Part(text=block["text"])
                            if item.get("phase"):
                                part.replay_state.CopyFrom(self._state({"phase": item["phase"]}))
                            yield part
                        case "refusal":
                            yield v1.Part(refusal=v1.RefusalPart(text=block["refusal"]))
                        case _:
                            yield self._verbatim(block)
            case "reasoning":
                texts = [piece["text"] for piece in (*(item.get("summary") or ()), *(item.get("content") or ()))]
                thought = v1.ReasoningPart(text="\n\n".join(texts), redacted=not any(texts))
                yield v1.Part(reasoning=thought, replay_state=self._state(item))
            case "function_call":
                call = v1.ToolCall(id=item["call_id"], name=item["name"], arguments_json=item["arguments"])
                part = v1.Part(tool_call=call)
                if item.get("namespace"):
                    part.replay_state.CopyFrom(self._state({"namespace": item["namespace"]}))
                yield part
            case _:
                yield self._verbatim(item)

    def _told(self, item: dict[str, Any]) -> v1.Message:
        match item.get("type", "message"):
            case "message":
                parts = [self._content(block) for block in _blocks(item["content"], "input_text")]
                return v1.Message(role=_ROLES[item["role"]], parts=parts)
            case "function_call_output":
                parts = [self._content(block) for block in _blocks(item["output"], "input_text")]
                result = v1.ToolResult(tool_call_id=item["call_id"], parts=parts)
                return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
            case _:
                return v1.Message(role=_ROLES[item.get("role", "user")], parts=[self._verbatim(item)])

    def _content(self, block: dict[str, Any]) -> v1.Part:
        match block:
            case {"type": "input_text" | "text", "text": text}:
                return v1.Part(text=text)
            case {"type": "input_image", "image_url": str(url)} if block.get("detail") in (None, "auto", *_DETAILS):
                image = v1.ImagePart(source=_source(url))
                image.detail = _DETAILS.get(block.get("detail") or "", v1.IMAGE_DETAIL_UNSPECIFIED)
                return v1.Part(image=image)
            case {"type": "input_file", "file_url": url}:
                return v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri=url)))
            case {"type": "input_file", "file_data": data, "filename": name} if not data.startswith("data:text/"):
                return v1.Part(document=v1.DocumentPart(source=_source(data), title=name))
            case _:
                return self._verbatim(block)

    def _verbatim(self, block: Mapping[str, Any]) -> v1.Part:
        return v1.Part(
            provider_part=v1.ProviderPart(provider=self._provider, type=block["type"], json=json.dumps(block))
        )

    def _state(self, kept: Mapping[str, Any]) -> v1.ReplayState:
        data = json.dumps({"responses": kept}, separators=(",", ":")).encode()
        return v1.ReplayState(provider=self._provider, model=self._model, data=data)


def _blocks(content: Any, kind: str) -> list[dict[str, Any]]:
    if content in (None, [], ""):
        raise Inexpressible("a turn without content")
    return [{"type": kind, "text": content}] if isinstance(content, str) else content


def _source(url: str) -> v1.MediaSource:
    if not url.startswith("data:"):
        return v1.MediaSource(uri=url)
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return v1.MediaSource(mime_type=kind, data=base64.b64decode(data))


def _tool(tool: dict[str, Any], provider: str) -> v1.Tool:
    if tool["type"] != "function" or set(tool) - {"type", "name", "description", "parameters", "strict"}:
        return v1.Tool(provider_tool=v1.ProviderTool(provider=provider, json=json.dumps(tool)))
    function = v1.FunctionTool(name=tool["name"], description=tool.get("description") or "")
    if tool.get("parameters"):
        function.parameters_json_schema = json.dumps(tool["parameters"])
    if tool.get("strict") is not None:
        function.strict = tool["strict"]
    return v1.Tool(function=function)


def _choice(request: v1.ChatRequest, left: dict[str, Any]) -> None:
    match left.get("tool_choice"):
        case str(mode):
            request.tool_choice.mode = _MODES[mode]
        case {"type": "function", "name": name}:
            request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
            request.tool_choice.allowed_tool_names.append(name)
        case {"type": "allowed_tools", "mode": mode, "tools": [*tools]} if len(tools) > 1 or mode == "auto":
            request.tool_choice.mode = _MODES[mode]
            request.tool_choice.allowed_tool_names.extend(tool["name"] for tool in tools)
        case _:
            return
    del left["tool_choice"]
    if "parallel_tool_calls" in left:
        request.tool_choice.parallel_tool_calls = left.pop("parallel_tool_calls")


def _reasoning(request: v1.ChatRequest, left: dict[str, Any]) -> None:
    said = dict(left.pop("reasoning", None) or {})
    if said.get("effort"):
        request.reasoning.effort = _EFFORTS[said.pop("effort")]
    if said.get("summary") in _SUMMARIES:
        request.reasoning.visibility = _SUMMARIES[said.pop("summary")]
    if said:
        left["reasoning"] = said


def _output(request: v1.ChatRequest, left: dict[str, Any]) -> None:
    said = dict(left.pop("text", None) or {})
    match said.get("format"):
        case {"type": "text"}:
            del said["format"]
        case {"type": "json_object"}:
            request.output.json_object.SetInParent()
            del said["format"]
        case {"type": "json_schema", "name": name, "schema": schema}:
            form = request.output.json_schema
            form.name, form.json_schema = name, json.dumps(schema)
            form.description = said["format"].get("description") or ""
            if said["format"].get("strict") is not None:
                form.strict = said["format"]["strict"]
            del said["format"]
    request.output.verbosity = said.pop("verbosity", "") or ""
    if said:
        left["text"] = said
    options = left.pop("prompt_cache_options", None)
    if options:
        mode = {"implicit": v1.PromptCacheOptions.MODE_AUTO, "explicit": v1.PromptCacheOptions.MODE_EXPLICIT}
        request.prompt_cache.mode = mode[options.get("mode", "implicit")]
        if options.get("ttl"):
            request.prompt_cache.ttl.CopyFrom(Duration(seconds=_TTL[options["ttl"]]))
