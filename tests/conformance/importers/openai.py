"""From a recorded body of `POST /chat/completions` or `POST /embeddings` to a request of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import Quirks
from parley_server.dialects.openai_embed import EmbedQuirks
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
}
_STRAY = {"cache_control": "the API has marks on parts", "images": "a field of another API, and ignored"}
_TTL = {"30m": 1800, "12h": 43200}


def chat_request(body: dict[str, Any], target: Target, quirks: Quirks) -> v1.ChatRequest:
    """The request that `body` makes. Raises Inexpressible for one that no request of ours can make.

    What the server is not known to take, by `quirks`, was sent all the same: that goes among the provider options.
    """
    provider = target.provider
    left = {name: value for name, value in body.items() if value is not None and name not in ("model", "stream")}
    left.pop("stream_options", None)
    if "max_tokens" in left and "max_completion_tokens" in left:
        raise Inexpressible("it has two limits for the output")
    if not 0 <= left.get("temperature", 0) <= 2:
        raise Inexpressible("its temperature is not within 0 to 2")
    request = v1.ChatRequest(model=f"{provider}/{body.get('model', '')}")
    for message in left.pop("messages"):
        request.messages.append(_message(message, target, quirks))
    for tool in left.pop("tools", ()):
        request.tools.append(_tool(tool, provider, quirks))
    unknown = {
        name: left.pop(name) for name in sorted(quirks.missing | quirks.variant(target.model).missing) if name in left
    }
    _sampling(request, left, quirks)
    if "tool_choice" in left:
        choice = left.pop("tool_choice")
        if not _choose(request.tool_choice, choice, quirks):
            left["tool_choice"] = choice
    if "parallel_tool_calls" in left:
        request.tool_choice.parallel_tool_calls = left.pop("parallel_tool_calls")
    _reasoning(request, left, target, quirks)
    _output(request, left, quirks)
    _rest(request, left, quirks)
    if left or unknown:
        request.provider_options_json[provider] = json.dumps(left | unknown)
    return request


def _sampling(request: v1.ChatRequest, left: dict[str, Any], quirks: Quirks) -> None:
    knobs = dict(_SAMPLING)
    named = {quirks.top_k_field: "top_k", quirks.min_p_field: "min_p", quirks.seed_field: "seed"}
    named[quirks.repetition_penalty_field] = "repetition_penalty"
    knobs |= {field: ours for field, ours in named.items() if field}
    for field, ours in knobs.items():
        if field in left:
            setattr(request.sampling, ours, left.pop(field))
    stop = left.pop("stop", [])
    request.sampling.stop_sequences.extend([stop] if isinstance(stop, str) else stop)
    if left.get("logprobs") in (True, False) and left.pop("logprobs"):
        request.sampling.top_logprobs = left.pop("top_logprobs", 0)
    for token, bias in left.pop("logit_bias", {}).items():
        request.sampling.logit_bias[int(token)] = bias


def _reasoning(request: v1.ChatRequest, left: dict[str, Any], target: Target, quirks: Quirks) -> None:
    levels = quirks.variant(target.model).efforts
    levels = quirks.efforts if levels is None else levels
    if left.get("reasoning_effort") in levels:
        request.reasoning.effort = _EFFORTS[left.pop("reasoning_effort")]
    match left.get("reasoning"):
        case {"effort": effort, **rest} if not rest and effort in levels:
            request.reasoning.effort = _EFFORTS[effort]
            del left["reasoning"]
        case {"max_tokens": int(budget), **rest} if not rest and quirks.budget_field == "reasoning.max_tokens":
            request.reasoning.budget_tokens = budget
            del left["reasoning"]
    if left.get("thinking") == {"type": "disabled"} and quirks.reasoning_switch == "thinking.type":
        request.reasoning.effort = v1.REASONING_EFFORT_NONE
        del left["thinking"]


def embed_request(body: dict[str, Any], provider: str, quirks: EmbedQuirks) -> v1.EmbedRequest:
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
    if quirks.dimensions_field in left:
        request.dimensions = left.pop(quirks.dimensions_field)
    if "user" in left and quirks.end_user_field:
        request.end_user_id = left.pop("user")
    if left:
        request.provider_options_json[provider] = json.dumps(left)
    return request


def _output(request: v1.ChatRequest, left: dict[str, Any], quirks: Quirks) -> None:
    form: Any = left.get("response_format")
    match form:
        case {"type": "text"}:
            request.output.text.SetInParent()
            del left["response_format"]
        case {"type": "json_object", **rest} if not rest and "json_object" in quirks.formats:
            request.output.json_object.SetInParent()
            del left["response_format"]
        case {"type": "json_schema", "json_schema": {"schema": schema}, **rest} if (
            not rest and "json_schema" in quirks.formats
        ):
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


def _rest(request: v1.ChatRequest, left: dict[str, Any], quirks: Quirks) -> None:
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
        if isinstance(left.get(field), str) and quirks.end_user_field:
            request.end_user_id = left.pop(field)


def _choose(choice: v1.ToolChoice, said: Any, quirks: Quirks) -> bool:
    match said:
        case "auto":
            choice.mode = v1.ToolChoice.MODE_AUTO
        case "none":
            choice.mode = v1.ToolChoice.MODE_NONE
        case "required" | "any" if "required" in quirks.tool_modes:
            choice.mode = v1.ToolChoice.MODE_REQUIRED
        case {"function": {"name": name}} if "named" in quirks.tool_modes:
            choice.mode = v1.ToolChoice.MODE_REQUIRED
            choice.allowed_tool_names.append(name)
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}:
            choice.mode = v1.ToolChoice.MODE_REQUIRED if mode == "required" else v1.ToolChoice.MODE_AUTO
            choice.allowed_tool_names.extend(tool["function"]["name"] for tool in tools)
        case _:
            return False
    return True


def _tool(tool: dict[str, Any], provider: str, quirks: Quirks) -> v1.Tool:
    match tool:
        case {"type": "function", "function": {"strict": True}} if "strict" in quirks.missing:
            return v1.Tool(provider_tool=v1.ProviderTool(provider=provider, json=json.dumps(tool)))
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


def _message(message: dict[str, Any], target: Target, quirks: Quirks) -> v1.Message:
    role, provider = message["role"], target.provider
    if role not in _ROLES:
        raise Inexpressible(f"it has a message of role {role}")
    for field, why in _STRAY.items():
        if field in message:
            raise Inexpressible(f"it has {field} beside the content of a message: {why}")
    said = v1.Message(role=_ROLES[role])
    parts = list(_parts(message.get("content"), target))
    if role == "tool" and not message.get("tool_call_id"):
        raise Inexpressible("it has a tool result without the ID of a call")
    if role == "tool":
        result = v1.ToolResult(tool_call_id=message["tool_call_id"], name=message.get("name") or "", parts=parts)
        said.parts.add(tool_result=result)
        return said
    said.name = message.get("name") or ""
    details = message.get("reasoning_details")
    for field in quirks.reasoning_fields:
        if message.get(field):
            said.parts.add(reasoning=v1.ReasoningPart(text=message[field]), replay_state=_kept(target, field=field))
    if details:
        if not said.parts:
            said.parts.add(reasoning=v1.ReasoningPart())
        fields = next((field for field in quirks.reasoning_fields if message.get(field)), "")
        kept = {"reasoning_details": details} | ({"field": fields} if fields else {})
        said.parts[0].replay_state.CopyFrom(_kept(target, **kept))
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


def _kept(target: Target, **kept: Any) -> v1.ReplayState:
    return v1.ReplayState(provider=target.provider, model=target.model, data=json.dumps(kept).encode())


def _parts(content: Any, target: Target) -> Iterator[v1.Part]:
    if isinstance(content, str):
        yield v1.Part(text=content)
        return
    for block in content or ():
        yield _part({name: value for name, value in block.items() if value is not None}, target)


def _part(block: dict[str, Any], target: Target) -> v1.Part:
    match block:
        case {"cache_control": {"type": "ephemeral", **rest}} if rest.get("ttl", "5m") == "5m":
            part = _part({name: value for name, value in block.items() if name != "cache_control"}, target)
            part.cache_breakpoint.SetInParent()
            return part
        case {"type": "text", "text": str(text), **rest} if rest.keys() <= {"prompt_cache_breakpoint"}:
            part = v1.Part(text=text)
            if "prompt_cache_breakpoint" in rest:
                part.cache_breakpoint.SetInParent()
                if ttl := rest["prompt_cache_breakpoint"].get("ttl"):
                    part.cache_breakpoint.ttl.CopyFrom(Duration(seconds=_TTL[ttl]))
            return part
        case {"type": "thinking", "thinking": [{"type": "text", "text": str(text)}], **rest}:
            kept = _kept(target, block={**block, "thinking": [{"type": "text", "text": ""}]})
            return v1.Part(reasoning=v1.ReasoningPart(text=text), replay_state=kept)
        case {"type": "image_url", "image_url": str(url)}:
            return v1.Part(image=v1.ImagePart(source=_source(url)))
        case {"type": "image_url", "image_url": {"url": str(url), **rest}} if rest.keys() <= {"detail"}:
            image = v1.ImagePart(source=_source(url))
            image.detail = _DETAILS.get(block["image_url"].get("detail") or "auto", v1.IMAGE_DETAIL_UNSPECIFIED)
            return v1.Part(image=image)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": ("wav" | "mp3") as form}}:
            mime = "audio/wav" if form == "wav" else "audio/mpeg"
            return v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=base64.b64decode(data), mime_type=mime)))
        case {"type": "input_audio", "input_audio": str(data)} if data.startswith("http"):
            return v1.Part(audio=v1.AudioPart(source=v1.MediaSource(uri=data)))
        case {"type": "input_audio", "input_audio": str(data)}:
            source = v1.MediaSource(data=base64.b64decode(data), mime_type="audio/wav")
            return v1.Part(audio=v1.AudioPart(source=source))
        case {"type": "document_url", "document_url": str(url), **rest}:
            return v1.Part(document=v1.DocumentPart(source=_source(url), title=rest.get("document_name") or ""))
        case {"type": "file", "file": {"file_data": str(url), "filename": str(name)}} if url.startswith("data:"):
            return v1.Part(document=v1.DocumentPart(source=_source(url), title=name))
        case _:
            kind = block.get("type") or ""
            provider = target.provider
            return v1.Part(provider_part=v1.ProviderPart(provider=provider, type=kind, json=json.dumps(block)))


def _source(url: str) -> v1.MediaSource:
    if not url.startswith("data:"):
        return v1.MediaSource(uri=url)
    head, _, data = url.removeprefix("data:").partition(",")
    return v1.MediaSource(data=base64.b64decode(data), mime_type=head.removesuffix(";base64"))
