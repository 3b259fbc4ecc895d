"""From a recorded body of `POST /chat/completions` or `POST /embeddings` to a request of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from tests.conformance.adapter import Inexpressible

_ROLES = {
    "system": v1.ROLE_SYSTEM,
    "developer": v1.ROLE_DEVELOPER,
    "user": v1.ROLE_USER,
    "assistant": v1.ROLE_ASSISTANT,
    "tool": v1.ROLE_TOOL,
}
_DETAILS = {"low": v1.IMAGE_DETAIL_LOW, "high": v1.IMAGE_DETAIL_HIGH, "original": v1.IMAGE_DETAIL_ORIGINAL}
_EFFORTS = {name.removeprefix("REASONING_EFFORT_").lower(): effort for name, effort in v1.ReasoningEffort.items()}
_SAMPLING = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}
_TTL = {"30m": 1800, "12h": 43200}


def chat_request(body: dict[str, Any], provider: str, *, reasoning_fields: tuple[str, ...] = ()) -> v1.ChatRequest:
    """The request that `body` makes. Raises Inexpressible for one that no request of ours can make."""
    left = {name: value for name, value in body.items() if value is not None and name not in ("model", "stream")}
    left.pop("stream_options", None)
    if "max_tokens" in left and "max_completion_tokens" in left:
        raise Inexpressible("it has two limits for the output")
    if not 0 <= left.get("temperature", 0) <= 2:
        raise Inexpressible("its temperature is not within 0 to 2")
    request = v1.ChatRequest(model=f"{provider}/{body.get('model', '')}")
    for message in left.pop("messages"):
        request.messages.append(_message(message, provider, reasoning_fields))
    for tool in left.pop("tools", ()):
        request.tools.append(_tool(tool, provider))
    for field, ours in _SAMPLING.items():
        if field in left:
            setattr(request.sampling, ours, left.pop(field))
    stop = left.pop("stop", [])
    request.sampling.stop_sequences.extend([stop] if isinstance(stop, str) else stop)
    if left.pop("logprobs", False) is True:
        request.sampling.top_logprobs = left.pop("top_logprobs", 0)
    for token, bias in left.pop("logit_bias", {}).items():
        request.sampling.logit_bias[int(token)] = bias
    if "tool_choice" in left:
        choice = left.pop("tool_choice")
        if not _choose(request.tool_choice, choice):
            left["tool_choice"] = choice
    if "parallel_tool_calls" in left:
        request.tool_choice.parallel_tool_calls = left.pop("parallel_tool_calls")
    if left.get("reasoning_effort") in _EFFORTS:
        request.reasoning.effort = _EFFORTS[left.pop("reasoning_effort")]
    _output(request, left)
    _rest(request, left)
    if left:
        request.provider_options_json[provider] = json.dumps(left)
    return request


def embed_request(body: dict[str, Any], provider: str) -> v1.EmbedRequest:
    """The request that `body` makes."""
    left = {
        name: value for name, value in body.items() if value is not None and name not in ("model", "encoding_format")
    }
    request = v1.EmbedRequest(model=f"{provider}/{body.get('model', '')}")
    given = left.pop("input")
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    for one in given:
        if isinstance(one, str):
            request.inputs.add(text=one)
        else:
            request.inputs.add(tokens=v1.TokenIds(ids=one))
    if "dimensions" in left:
        request.dimensions = left.pop("dimensions")
    if "user" in left:
        request.end_user_id = left.pop("user")
    if left:
        request.provider_options_json[provider] = json.dumps(left)
    return request


def _output(request: v1.ChatRequest, left: dict[str, Any]) -> None:
    form: Any = left.get("response_format")
    match form:
        case {"type": "text"}:
            request.output.text.SetInParent()
            del left["response_format"]
        case {"type": "json_object", **rest} if not rest:
            request.output.json_object.SetInParent()
            del left["response_format"]
        case {"type": "json_schema", "json_schema": {"schema": schema}, **rest} if not rest:
            named: dict[str, Any] = form["json_schema"]
            asked = request.output.json_schema
            asked.json_schema = json.dumps(schema)
            asked.name = named.get("name") or ""
            asked.description = named.get("description") or ""
            if named.get("strict") is not None:
                asked.strict = named["strict"]
            del left["response_format"]
    if "verbosity" in left:
        request.output.verbosity = left.pop("verbosity")
    match left.get("prediction"):
        case {"type": "content", "content": str(text)}:
            request.output.predicted_text = text
            del left["prediction"]


def _rest(request: v1.ChatRequest, left: dict[str, Any]) -> None:
    if "prompt_cache_key" in left:
        request.prompt_cache.key = left.pop("prompt_cache_key")
    if "prompt_cache_options" in left:
        options = left.pop("prompt_cache_options")
        if "mode" in options:
            request.prompt_cache.mode = {
                "implicit": v1.PromptCacheOptions.MODE_AUTO,
                "explicit": v1.PromptCacheOptions.MODE_EXPLICIT,
            }[options["mode"]]
        if "ttl" in options:
            request.prompt_cache.ttl.CopyFrom(Duration(seconds=_TTL[options["ttl"]]))
    if "service_tier" in left:
        request.routing.service_tier = left.pop("service_tier")
    for field in ("safety_identifier", "user"):
        if isinstance(left.get(field), str):
            request.end_user_id = left.pop(field)


def _choose(choice: v1.ToolChoice, said: Any) -> bool:
    match said:
        case "auto":
            choice.mode = v1.ToolChoice.MODE_AUTO
        case "none":
            choice.mode = v1.ToolChoice.MODE_NONE
        case "required":
            choice.mode = v1.ToolChoice.MODE_REQUIRED
        case {"type": "function", "function": {"name": name}}:
            choice.mode = v1.ToolChoice.MODE_REQUIRED
            choice.allowed_tool_names.append(name)
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}:
            choice.mode = v1.ToolChoice.MODE_REQUIRED if mode == "required" else v1.ToolChoice.MODE_AUTO
            choice.allowed_tool_names.extend(tool["function"]["name"] for tool in tools)
        case _:
            return False
    return True


def _tool(tool: dict[str, Any], provider: str) -> v1.Tool:
    match tool:
        case {"type": "function", "function": {"name": str(name)}}:
            rest: dict[str, Any] = tool["function"]
            said = v1.FunctionTool(name=name, description=rest.get("description") or "")
            if rest.get("parameters") is not None:
                said.parameters_json_schema = json.dumps(rest["parameters"])
            if rest.get("strict") is not None:
                said.strict = rest["strict"]
            return v1.Tool(function=said)
        case _:
            return v1.Tool(provider_tool=v1.ProviderTool(provider=provider, json=json.dumps(tool)))


def _message(message: dict[str, Any], provider: str, reasoning_fields: tuple[str, ...]) -> v1.Message:
    role = message["role"]
    if role not in _ROLES:
        raise Inexpressible(f"it has a message of role {role}")
    said = v1.Message(role=_ROLES[role])
    parts = list(_parts(message.get("content"), provider))
    if role == "tool" and not message.get("tool_call_id"):
        raise Inexpressible("it has a tool result without the ID of a call")
    if role == "tool":
        result = v1.ToolResult(tool_call_id=message["tool_call_id"], name=message.get("name") or "", parts=parts)
        said.parts.add(tool_result=result)
        return said
    said.name = message.get("name") or ""
    for field in reasoning_fields:
        if message.get(field):
            state = v1.ReplayState(provider=provider, data=json.dumps({"field": field}).encode())
            said.parts.add(reasoning=v1.ReasoningPart(text=message[field]), replay_state=state)
    said.parts.extend(parts)
    if message.get("refusal"):
        said.parts.add(refusal=v1.RefusalPart(text=message["refusal"]))
    for call in message.get("tool_calls") or ():
        match call:
            case {"function": {"name": str(name), **rest}}:
                arguments = rest.get("arguments") or ""
                if not isinstance(arguments, str):
                    arguments = json.dumps(arguments)
                said.parts.add(tool_call=v1.ToolCall(id=call.get("id") or "", name=name, arguments_json=arguments))
            case _:
                block = v1.ProviderPart(provider=provider, type=call["type"], json=json.dumps(call))
                said.parts.add(provider_part=block)
    if not said.parts:
        said.parts.add(text="")
    return said


def _parts(content: Any, provider: str) -> Iterator[v1.Part]:
    if isinstance(content, str):
        yield v1.Part(text=content)
        return
    for block in content or ():
        yield _part(block, provider)


def _part(block: dict[str, Any], provider: str) -> v1.Part:
    match block:
        case {"type": "text", "text": str(text), **rest} if rest.keys() <= {"prompt_cache_breakpoint"}:
            part = v1.Part(text=text)
            if "prompt_cache_breakpoint" in rest:
                part.cache_breakpoint.SetInParent()
                if ttl := rest["prompt_cache_breakpoint"].get("ttl"):
                    part.cache_breakpoint.ttl.CopyFrom(Duration(seconds=_TTL[ttl]))
            return part
        case {"type": "image_url", "image_url": {"url": str(url), **rest}} if rest.keys() <= {"detail"}:
            image = v1.ImagePart(source=_source(url))
            image.detail = _DETAILS.get(block["image_url"].get("detail") or "auto", v1.IMAGE_DETAIL_UNSPECIFIED)
            return v1.Part(image=image)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": ("wav" | "mp3") as form}}:
            mime = "audio/wav" if form == "wav" else "audio/mpeg"
            return v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=base64.b64decode(data), mime_type=mime)))
        case {"type": "file", "file": {"file_data": str(url), "filename": str(name)}} if url.startswith("data:"):
            return v1.Part(document=v1.DocumentPart(source=_source(url), title=name))
        case _:
            kind = block.get("type") or ""
            return v1.Part(provider_part=v1.ProviderPart(provider=provider, type=kind, json=json.dumps(block)))


def _source(url: str) -> v1.MediaSource:
    if not url.startswith("data:"):
        return v1.MediaSource(uri=url)
    head, _, data = url.removeprefix("data:").partition(",")
    return v1.MediaSource(data=base64.b64decode(data), mime_type=head.removesuffix(";base64"))
