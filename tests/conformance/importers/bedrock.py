"""A recorded body of Converse as a `ChatRequest`, written from the API's reference.

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

_MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
_EFFORTS = {
    "low": v1.REASONING_EFFORT_LOW,
    "medium": v1.REASONING_EFFORT_MEDIUM,
    "high": v1.REASONING_EFFORT_HIGH,
    "max": v1.REASONING_EFFORT_MAX,
}
_WORDS = {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields"}


class Importer:
    """Reads one body for one target."""

    def __init__(self, body: Mapping[str, Any], target: Target) -> None:
        self._body = body
        self._target = target
        self._options: dict[str, Any] = {name: value for name, value in body.items() if name not in _WORDS}
        self._request = v1.ChatRequest(model=f"{target.provider}/{target.model}")

    def request(self) -> v1.ChatRequest:
        """The request. Raises Inexpressible if it breaks a rule of `parley.v1`."""
        body, request = self._body, self._request
        if body.get("system"):
            request.messages.append(v1.Message(role=v1.ROLE_SYSTEM, parts=self._parts(body["system"])))
        for message in body["messages"]:
            if not message["content"]:
                raise Inexpressible("a turn without content")
            role = v1.ROLE_USER if message["role"] == "user" else v1.ROLE_ASSISTANT
            request.messages.append(v1.Message(role=role, parts=self._parts(message["content"])))
        self._tools(body.get("toolConfig") or {})
        sampling = body.get("inferenceConfig") or {}
        for theirs, ours in (("maxTokens", "max_output_tokens"), ("temperature", "temperature"), ("topP", "top_p")):
            if sampling.get(theirs) is not None:
                setattr(request.sampling, ours, sampling[theirs])
        request.sampling.stop_sequences.extend(sampling.get("stopSequences") or ())
        self._output(body.get("outputConfig") or {})
        self._fields(dict(body.get("additionalModelRequestFields") or {}))
        if self._options:
            request.provider_options_json[self._target.provider] = json.dumps(self._options)
        return request

    def _parts(self, blocks: Any) -> Iterator[v1.Part]:
        held: v1.Part | None = None
        for block in blocks:
            if "cachePoint" in block and held is not None:
                held.cache_breakpoint.SetInParent()
                if block["cachePoint"].get("ttl"):
                    held.cache_breakpoint.ttl.FromSeconds({"5m": 300, "1h": 3600}[block["cachePoint"]["ttl"]])
                continue
            if held is not None:
                yield held
            held = self._part(block) or self._verbatim(block)
        if held is not None:
            yield held

    def _part(self, block: Mapping[str, Any]) -> v1.Part | None:
        match block:
            case {"text": text}:
                return v1.Part(text=text)
            case {"image": {"format": form, "source": source}} if "bytes" in source:
                return v1.Part(image=v1.ImagePart(source=_data(form, source)))
            case {"audio": {"format": form, "source": source}} if "bytes" in source:
                return v1.Part(audio=v1.AudioPart(source=_data(form, source)))
            case {"document": {"format": form, "source": source, "name": name}} if "bytes" in source:
                more = block["document"]
                document = v1.DocumentPart(source=_data(form, source), title=name, context=more.get("context") or "")
                if more.get("citations"):
                    document.citations_enabled = more["citations"]["enabled"]
                return v1.Part(document=document)
            case {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}:
                return v1.Part(reasoning=v1.ReasoningPart(text=text), replay_state=self._state(signature.encode()))
            case {"reasoningContent": {"redactedContent": data}}:
                state = self._state(base64.b64decode(data))
                return v1.Part(reasoning=v1.ReasoningPart(redacted=True), replay_state=state)
            case {"toolUse": {"toolUseId": id, "name": name, "input": input}} if "type" not in block["toolUse"]:
                return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments_json=json.dumps(input)))
            case {"toolResult": {"toolUseId": id, "content": content}} if "type" not in block["toolResult"]:
                result = v1.ToolResult(tool_call_id=id, is_error=block["toolResult"].get("status") == "error")
                for piece in content:
                    part = v1.Part(text=json.dumps(piece["json"])) if "json" in piece else self._part(piece)
                    if part is None:
                        return None
                    result.parts.append(part)
                return v1.Part(tool_result=result)
        return None

    def _verbatim(self, block: Mapping[str, Any]) -> v1.Part:
        part = v1.ProviderPart(provider=self._target.provider, type=next(iter(block)), json=json.dumps(block))
        return v1.Part(provider_part=part)

    def _state(self, data: bytes) -> v1.ReplayState:
        return v1.ReplayState(provider=self._target.provider, model=self._target.model, data=data)

    def _tools(self, config: Mapping[str, Any]) -> None:
        request = self._request
        for tool in config.get("tools") or ():
            match tool:
                case {"cachePoint": _} if request.tools:
                    request.tools[-1].cache_breakpoint.SetInParent()
                case {"toolSpec": {"name": name, "inputSchema": {"json": schema}}}:
                    function = v1.FunctionTool(
                        name=name,
                        description=tool["toolSpec"].get("description") or "",
                        parameters_json_schema=json.dumps(schema),
                    )
                    if tool["toolSpec"].get("strict") is not None:
                        function.strict = tool["toolSpec"]["strict"]
                    request.tools.append(v1.Tool(function=function))
                case _:
                    verbatim = v1.ProviderTool(provider=self._target.provider, json=json.dumps(tool))
                    request.tools.append(v1.Tool(provider_tool=verbatim))
        match config.get("toolChoice"):
            case {"auto": _}:
                request.tool_choice.mode = v1.ToolChoice.MODE_AUTO
            case {"any": _}:
                request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
            case {"tool": {"name": name}}:
                request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
                request.tool_choice.allowed_tool_names.append(name)

    def _output(self, config: Mapping[str, Any]) -> None:
        if config:
            schema = config["textFormat"]["structure"]["jsonSchema"]
            form = self._request.output.json_schema
            form.json_schema, form.name = schema["schema"], schema.get("name") or ""
            form.description = schema.get("description") or ""

    def _fields(self, fields: dict[str, Any]) -> None:
        """What is said there in our words, as far as there are words for it."""
        reasoning = self._request.reasoning
        match fields:
            case {"thinking": {"type": "enabled", "budget_tokens": budget}}:
                reasoning.budget_tokens = budget
                del fields["thinking"]
            case {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}:
                reasoning.effort = _EFFORTS[effort]
                del fields["thinking"], fields["output_config"]
            case {"thinking": {"type": "disabled"}}:
                reasoning.effort = v1.REASONING_EFFORT_NONE
                del fields["thinking"]
            case {"reasoning_effort": effort}:
                reasoning.effort = _EFFORTS[effort]
                del fields["reasoning_effort"]
            case {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}:
                reasoning.effort = _EFFORTS[effort]
                del fields["reasoningConfig"]
        match fields:
            case {"top_k": top_k} | {"inferenceConfig": {"topK": top_k}}:
                self._request.sampling.top_k = top_k
                fields.pop("top_k", None)
                fields.pop("inferenceConfig", None)
        if fields:
            self._options["additionalModelRequestFields"] = fields


def _data(form: str, source: Mapping[str, Any]) -> v1.MediaSource:
    return v1.MediaSource(data=base64.b64decode(source["bytes"]), mime_type=_MEDIA_TYPES[form])
