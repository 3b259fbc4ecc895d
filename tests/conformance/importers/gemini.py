"""A recorded body of generateContent as a `ChatRequest`, written from the API's reference.

What `parley.v1` has no word for goes as a provider part, a provider tool or a provider option.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.target import Target
from tests.conformance.adapter import Inexpressible

NO_SIGNATURES = ("skip_thought_signature_validator", "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=")
"""What stands where there is no signature: as documented, and as clients send it that take it for bytes."""

_FREE = ("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema", "labels")
"""Fields whose content is not the API's own, so that its names are not ours to rewrite."""
_EFFORTS = {
    "MINIMAL": v1.REASONING_EFFORT_MINIMAL,
    "LOW": v1.REASONING_EFFORT_LOW,
    "MEDIUM": v1.REASONING_EFFORT_MEDIUM,
    "HIGH": v1.REASONING_EFFORT_HIGH,
}
_NUMBERS = {
    "maxOutputTokens": "max_output_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "seed": "seed",
}


def camel(value: Any) -> Any:
    """`value` with the API's names in camel case, which is what it writes itself; nulls say nothing."""
    match value:
        case dict():
            named = {re.sub("_([a-z])", lambda match: match[1].upper(), name): inner for name, inner in value.items()}
            if isinstance(named.get("parts"), dict):  # a list of one may be written without its brackets
                named["parts"] = [named["parts"]]
            return {
                name: inner if name in _FREE else camel(inner) for name, inner in named.items() if inner is not None
            }
        case list():
            return [camel(inner) for inner in value]
    return value


def lowered(schema: Any) -> Any:
    """A schema with its types in lower case, as JSON Schema has them."""
    match schema:
        case dict():
            return {
                name: inner.lower() if name == "type" and isinstance(inner, str) else lowered(inner)
                for name, inner in schema.items()
                if inner is not None
            }
        case list():
            return [lowered(inner) for inner in schema]
    return schema


class Importer:
    """Reads one body for one target."""

    def __init__(self, body: Mapping[str, Any], target: Target) -> None:
        self._body = camel(body)
        self._target = target
        known = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig")
        self._options: dict[str, Any] = {name: value for name, value in self._body.items() if name not in known}
        self._waiting: list[tuple[str, str]] = []
        """ID and name of the calls that have no response yet."""
        self._calls = 0

    def request(self) -> v1.ChatRequest:
        """The request. Raises Inexpressible if it breaks a rule of `parley.v1`."""
        request = v1.ChatRequest(model=f"{self._target.provider}/{self._target.model}")
        instructions = self._body.get("systemInstruction", {}).get("parts")
        if instructions:
            parts = [v1.Part(text=part["text"]) for part in instructions]
            request.messages.append(v1.Message(role=v1.ROLE_SYSTEM, parts=parts))
        for content in self._body["contents"]:
            role = v1.ROLE_ASSISTANT if content.get("role") == "model" else v1.ROLE_USER
            if not content.get("parts"):
                raise Inexpressible("a turn without content")
            request.messages.append(v1.Message(role=role, parts=[self._part(part) for part in content["parts"]]))
        for tool in self._body.get("tools", ()):
            request.tools.extend(self._tools(tool))
        names = [tool.function.name for tool in request.tools if tool.HasField("function")]
        if len(names) != len(set(names)):
            raise Inexpressible("two tools of one name")
        self._choice(request, self._body.get("toolConfig", {}).get("functionCallingConfig", {}))
        self._config(request, dict(self._body.get("generationConfig", {})))
        if self._options:
            request.provider_options_json[self._target.provider] = json.dumps(self._options)
        return request

    def _part(self, wire: Mapping[str, Any]) -> v1.Part:
        part = self._content(wire)
        signature = wire.get("thoughtSignature")
        if (signature and signature not in NO_SIGNATURES) or part.HasField("reasoning"):
            state = v1.ReplayState(provider=self._target.provider, model=self._target.model)
            state.data = (signature or "").encode()
            part.replay_state.CopyFrom(state)
        return part

    def _content(self, wire: Mapping[str, Any]) -> v1.Part:
        match wire:
            case {"text": text, "thought": True}:
                return v1.Part(reasoning=v1.ReasoningPart(text=text))
            case {"text": text}:
                return v1.Part(text=text)
            case {"functionCall": call}:
                id = call.get("id") or self._made_up()
                self._waiting.append((id, call["name"]))
                arguments = json.dumps(call.get("args", {}))
                return v1.Part(tool_call=v1.ToolCall(id=id, name=call["name"], arguments_json=arguments))
            case {"functionResponse": response}:
                return v1.Part(tool_result=self._result(response))
            case {"inlineData": {"mimeType": mime, "data": data}} if len(wire) == 1:
                standard = data.translate({ord("-"): "+", ord("_"): "/"})
                return self._media(wire, v1.MediaSource(data=base64.b64decode(standard + "=="), mime_type=mime))
            case {"fileData": {"fileUri": str(uri)}} if len(wire) == 1 and uri.startswith("https://"):
                return self._media(wire, v1.MediaSource(uri=uri, mime_type=wire["fileData"].get("mimeType", "")))
        return self._verbatim(wire)

    def _media(self, wire: Mapping[str, Any], source: v1.MediaSource) -> v1.Part:
        match source.mime_type.partition("/")[0]:
            case "image":
                return v1.Part(image=v1.ImagePart(source=source))
            case "audio":
                return v1.Part(audio=v1.AudioPart(source=source))
            case "application" | "text":
                return v1.Part(document=v1.DocumentPart(source=source))
        return self._verbatim(wire)

    def _verbatim(self, wire: Mapping[str, Any]) -> v1.Part:
        block = {name: value for name, value in wire.items() if name != "thoughtSignature"}
        return v1.Part(provider_part=v1.ProviderPart(provider=self._target.provider, json=json.dumps(block)))

    def _made_up(self) -> str:
        """An ID in the form in which the gateway makes them up where the API gives none."""
        self._calls += 1
        return f"gemini_recorded_{self._calls}"

    def _result(self, response: Mapping[str, Any]) -> v1.ToolResult:
        name = response["name"]
        id = response.get("id") or next((id for id, called in self._waiting if called == name), "")
        self._waiting = [call for call in self._waiting if call[0] != id]
        result = v1.ToolResult(tool_call_id=id or self._made_up(), name=name)
        match response["response"]:
            case {"error": str(text), **rest} if not rest:
                result.is_error = True
                result.parts.append(v1.Part(text=text))
            case {"output": str(text), **rest} if not rest:
                result.parts.append(v1.Part(text=text))
            case {**said} if said or not response.get("parts"):
                result.parts.append(v1.Part(text=json.dumps(said)))
        result.parts.extend(self._content(part) for part in response.get("parts", ()))
        return result

    def _tools(self, tool: Mapping[str, Any]) -> Iterator[v1.Tool]:
        for kind, value in tool.items():
            if kind != "functionDeclarations":
                native = v1.ProviderTool(provider=self._target.provider, json=json.dumps({kind: value}))
                yield v1.Tool(provider_tool=native)
                continue
            for declared in value:
                schema = declared.get("parametersJsonSchema") or declared.get("parameters")
                function = v1.FunctionTool(name=declared["name"], description=declared.get("description", ""))
                if schema:
                    function.parameters_json_schema = json.dumps(lowered(schema))
                yield v1.Tool(function=function)

    def _choice(self, request: v1.ChatRequest, calling: Mapping[str, Any]) -> None:
        names = calling.get("allowedFunctionNames", ())
        request.tool_choice.allowed_tool_names.extend(names)
        match calling.get("mode", "").upper():
            case "ANY":
                request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
            case "NONE":
                request.tool_choice.mode = v1.ToolChoice.MODE_NONE
            case "AUTO":
                request.tool_choice.mode = v1.ToolChoice.MODE_AUTO
            case "VALIDATED" if not names:  # as AUTO, but calls are held to their schemas
                for tool in request.tools:
                    if tool.HasField("function"):
                        tool.function.strict = True

    def _config(self, request: v1.ChatRequest, config: dict[str, Any]) -> None:
        for name, ours in _NUMBERS.items():
            if name in config:
                number = config.pop(name)  # some clients write whole numbers with a point
                setattr(request.sampling, ours, int(number) if name in ("maxOutputTokens", "topK", "seed") else number)
        request.sampling.stop_sequences.extend(config.pop("stopSequences", ()))
        if config.pop("responseLogprobs", False):
            request.sampling.top_logprobs = config.pop("logprobs", 0)
        schema = config.pop("responseJsonSchema", None) or config.pop("responseSchema", None)
        match config.get("responseMimeType"):
            case "application/json" if schema is not None:
                request.output.json_schema.json_schema = json.dumps(lowered(schema))
                del config["responseMimeType"]
            case "application/json":
                request.output.json_object.SetInParent()
                del config["responseMimeType"]
        self._thinking(request, config)
        config.pop("candidateCount", None)
        if config:
            self._options["generationConfig"] = config

    def _thinking(self, request: v1.ChatRequest, config: dict[str, Any]) -> None:
        """Budgets are a word for models that take one, levels for those that take these."""
        thinking = config.get("thinkingConfig")
        third, second = "gemini-3" in self._target.model, "gemini-2.5" in self._target.model
        if thinking is None or not (third or second) or (third and "thinkingBudget" in thinking):
            return
        del config["thinkingConfig"]
        if "thinkingBudget" in thinking:
            request.reasoning.budget_tokens = thinking["thinkingBudget"]
        if "thinkingLevel" in thinking:
            request.reasoning.effort = _EFFORTS[thinking["thinkingLevel"].upper()]
        if "includeThoughts" in thinking:
            shown = thinking["includeThoughts"]
            request.reasoning.visibility = (
                v1.ReasoningOptions.VISIBILITY_SUMMARY if shown else v1.ReasoningOptions.VISIBILITY_OMITTED
            )
