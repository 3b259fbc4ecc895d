"""Ollama's own API, read from the recorded JSON in the plainest way."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, InvalidRequest, ModelNotFound, Overloaded, Unavailable
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaChat, OllamaEmbed
from tests.conformance.adapter import Answer, ChatAdapter, EmbedAdapter, ToolUse
from tests.conformance.recording import Recording

_STATUS: dict[int, type[GatewayError]] = {
    400: InvalidRequest,
    404: ModelNotFound,
    500: Unavailable,
    502: Unavailable,
    503: Overloaded,
}
_ROLES = {
    "system": v1.ROLE_SYSTEM,
    "user": v1.ROLE_USER,
    "assistant": v1.ROLE_ASSISTANT,
    "tool": v1.ROLE_TOOL,
}
_SAMPLING = {
    "num_predict": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repetition_penalty",
    "seed": "seed",
}
_NO_ID = "was-without-id-"
"""Begins the IDs that the importer gives to recorded calls without one: ours have to have one."""
_MADE_UP = re.compile(r"call_\d{8}T\w*_\d+")


class OllamaChatAdapter:
    """`POST /api/chat`."""

    name = "ollama-chat"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "ollama" and recording.api == "chat-native"

    def out_of_scope(self, recording: Recording) -> str:
        if b'"object":"chat.completion"' in recording.body:
            return "the answer is one of the OpenAI-compatible endpoint"
        return ""

    def dialect(self, recording: Recording) -> OllamaChat:
        return OllamaChat()

    def target(self, recording: Recording) -> Target:
        return Target("ollama", recording.model)

    def read(self, recording: Recording) -> Answer:
        lines = _lines(recording)
        answer = Answer()
        for line in lines:
            message = line["message"]
            answer.text += message.get("content") or ""
            answer.reasoning += message.get("thinking") or ""
            for call in message.get("tool_calls") or []:
                function = call["function"]
                answer.tool_calls.append(ToolUse(call.get("id", ""), function["name"], function["arguments"]))
        last = lines[-1]
        answer.native_finish = last.get("done_reason", "")
        finish = {"stop": "STOP", "length": "LENGTH"}.get(answer.native_finish, "UNSPECIFIED")
        answer.finish = "TOOL_CALL" if answer.tool_calls and finish == "STOP" else finish
        answer.usage = _usage(last)
        answer.facts = {"route.model": last["model"]}
        return answer

    def request(self, recording: Recording) -> v1.ChatRequest:
        left = {name: value for name, value in recording.request.items() if value not in (None, "", {})}
        del left["model"]
        left.pop("stream", None)
        request = v1.ChatRequest(model=f"ollama/{recording.model}")
        calls: list[v1.ToolCall] = []
        for message in left.pop("messages"):
            request.messages.append(_message(message, calls))
        for tool in left.pop("tools", ()):
            function = tool["function"]
            request.tools.add(
                function=v1.FunctionTool(
                    name=function["name"],
                    description=function.get("description", ""),
                    parameters_json_schema=json.dumps(function["parameters"]) if "parameters" in function else "",
                )
            )
        options = left.pop("options", {})
        for name in [name for name in options if name in _SAMPLING]:
            setattr(request.sampling, _SAMPLING[name], options.pop(name))
        request.sampling.stop_sequences.extend(options.pop("stop", ()))
        if options:
            left["options"] = options
        match left.pop("format", None):
            case "json":
                request.output.json_object.SetInParent()
            case {**schema}:
                request.output.json_schema.json_schema = json.dumps(schema)
        match left.pop("think", None):
            case False:
                request.reasoning.effort = v1.REASONING_EFFORT_NONE
            case str(level):
                request.reasoning.effort = v1.ReasoningEffort.Value(f"REASONING_EFFORT_{level.upper()}")
            case True:
                left["think"] = True  # "as the model likes" is what we say by saying nothing
        if left:
            request.provider_options_json["ollama"] = json.dumps(left)
        return request

    def normal(self, body: Any) -> Any:
        said = {name: value for name, value in body.items() if value not in (None, "", {}, [])}
        said.setdefault("stream", True)  # as documented
        said["messages"] = [_normal_message(message) for message in body["messages"]]
        for tool in said.get("tools", ()):
            if tool["function"].get("parameters") == {"type": "object", "properties": {}}:  # no arguments
                del tool["function"]["parameters"]
        return said

    def turn(self, recording: Recording) -> Any:
        answer = self.read(recording)
        calls = [{"id": c.id or "made up", "name": c.name, "arguments": c.arguments} for c in answer.tool_calls]
        return {"content": answer.text, "thinking": answer.reasoning, "calls": calls}

    def turn_sent(self, body: Any) -> Any:
        message = next(message for message in reversed(body["messages"]) if message["role"] == "assistant")
        calls = [
            {"id": "made up" if _MADE_UP.fullmatch(call["id"]) else call["id"], **call["function"]}
            for call in message.get("tool_calls", ())
        ]
        return {"content": message["content"], "thinking": message.get("thinking", ""), "calls": calls}

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


class OllamaEmbedAdapter:
    """`POST /api/embed`."""

    name = "ollama-embed"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "ollama" and recording.api == "embed-native"

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> OllamaEmbed:
        return OllamaEmbed()

    def target(self, recording: Recording) -> Target:
        return Target("ollama", recording.model)

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        answer = json.loads(recording.body)
        count = answer.get("prompt_eval_count")
        return answer["embeddings"], {} if count is None else {"input_tokens": count, "total_tokens": count}

    def request(self, recording: Recording) -> v1.EmbedRequest:
        left = dict(recording.request)
        given = left.pop("input")
        request = v1.EmbedRequest(model=f"ollama/{left.pop('model')}")
        request.inputs.extend(v1.EmbedInput(text=text) for text in ([given] if isinstance(given, str) else given))
        if "dimensions" in left:
            request.dimensions = left.pop("dimensions")
        if left:
            request.provider_options_json["ollama"] = json.dumps(left)
        return request

    def normal(self, body: Any) -> Any:
        return {**body, "input": [body["input"]] if isinstance(body["input"], str) else body["input"]}

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


def _lines(recording: Recording) -> list[dict[str, Any]]:
    if recording.streamed:
        return [json.loads(line) for line in recording.body.decode().split("\n") if line.strip()]
    return [json.loads(recording.body)]


def _usage(line: Mapping[str, Any]) -> dict[str, int]:
    names = {"prompt_eval_count": "input_tokens", "eval_count": "output_tokens"}
    counts = {ours: line[theirs] for theirs, ours in names.items() if theirs in line}
    if len(counts) == 2:
        counts["total_tokens"] = sum(counts.values())
    return counts


def _message(message: Mapping[str, Any], calls: list[v1.ToolCall]) -> v1.Message:
    """A recorded message; `calls` are those of the messages before it, which results refer to by name and order."""
    parts: list[v1.Part] = []
    if message["role"] == "tool":
        name = message.get("tool_name", "")
        call = next(call for call in calls if call.name == name)
        calls.remove(call)
        result = v1.ToolResult(tool_call_id=call.id, name=name, parts=[v1.Part(text=message["content"])])
        return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    if message.get("thinking"):
        parts.append(v1.Part(reasoning=v1.ReasoningPart(text=message["thinking"])))
    if message.get("content") or not message.get("tool_calls"):
        parts.append(v1.Part(text=message.get("content", "")))
    for image in message.get("images") or ():
        source = v1.MediaSource(data=base64.b64decode(image), mime_type="image/png")
        parts.append(v1.Part(image=v1.ImagePart(source=source)))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        made = v1.ToolCall(
            id=call.get("id") or f"{_NO_ID}{len(calls)}",
            name=function["name"],
            arguments_json=json.dumps(function["arguments"]),
        )
        calls.append(made)
        parts.append(v1.Part(tool_call=made))
    return v1.Message(role=_ROLES[message["role"]], parts=parts)


def _normal_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what says nothing: empty fields, the one type a call can have, IDs that were not recorded."""
    said = {name: value for name, value in message.items() if name == "content" or value not in (None, "", [])}
    if str(said.get("tool_call_id", "")).startswith(_NO_ID):
        del said["tool_call_id"]
    if "tool_calls" in said:
        said["tool_calls"] = [_normal_call(call) for call in said["tool_calls"]]
    return said


def _normal_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {name: value for name, value in call["function"].items() if name != "index"}
    given = {} if str(call.get("id", _NO_ID)).startswith(_NO_ID) else {"id": call["id"]}
    return {**given, "function": function}


ADAPTERS: tuple[ChatAdapter | EmbedAdapter, ...] = (OllamaChatAdapter(), OllamaEmbedAdapter())
