"""A recorded body of Cohere's `/v2/chat` as a `ChatRequest`, written from the API's reference."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.target import Target

_ROLES = {
    "system": v1.ROLE_SYSTEM,
    "user": v1.ROLE_USER,
    "assistant": v1.ROLE_ASSISTANT,
    "tool": v1.ROLE_TOOL,
}
_SAMPLING = {
    "max_tokens": "max_output_tokens",
    "temperature": "temperature",
    "p": "top_p",
    "k": "top_k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
}
_DETAILS = {"low": v1.IMAGE_DETAIL_LOW, "high": v1.IMAGE_DETAIL_HIGH}


def imported(body: Mapping[str, Any], target: Target) -> v1.ChatRequest:
    """The request. What `parley.v1` has no word for becomes a provider option."""
    left = {name: value for name, value in body.items() if value not in (None, [], {}, "")}
    request = v1.ChatRequest(model=f"{target.provider}/{left.pop('model')}")
    left.pop("stream", None)
    for message in left.pop("messages"):
        request.messages.append(_message(message))
    documents = [_document(document) for document in left.pop("documents", ())]
    if documents:
        asking = next(message for message in reversed(request.messages) if message.role == v1.ROLE_USER)
        asking.parts.extend(documents)
    for tool in left.pop("tools", ()):
        function = tool["function"]
        added = request.tools.add(
            function=v1.FunctionTool(
                name=function["name"],
                description=function.get("description") or "",
                parameters_json_schema=json.dumps(function["parameters"]),
            )
        )
        if body.get("strict_tools"):
            added.function.strict = True
    left.pop("strict_tools", None)
    if "tool_choice" in left:
        request.tool_choice.mode = v1.ToolChoice.Mode.Value(f"MODE_{left.pop('tool_choice')}")
    for theirs, ours in _SAMPLING.items():
        if theirs in left:
            setattr(request.sampling, ours, left.pop(theirs))
    request.sampling.stop_sequences.extend(left.pop("stop_sequences", ()))
    match left.pop("response_format", None):
        case {"type": "json_object", "json_schema": schema}:
            request.output.json_schema.json_schema = json.dumps(schema)
        case {"type": "json_object"}:
            request.output.json_object.SetInParent()
    match left.get("thinking"):
        case {"type": "disabled"}:
            request.reasoning.effort = v1.REASONING_EFFORT_NONE
            del left["thinking"]
        case {"type": "enabled", "token_budget": budget}:
            request.reasoning.budget_tokens = budget
            del left["thinking"]
    if left:  # among them `thinking` of no budget: there is no word for "think as you like"
        request.provider_options_json[target.provider] = json.dumps(left)
    return request


def _message(message: Mapping[str, Any]) -> v1.Message:
    parts = list(_parts(message.get("content")))
    if message["role"] == "tool":
        result = v1.ToolResult(tool_call_id=message["tool_call_id"], parts=parts)
        return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    if message.get("tool_plan"):
        parts.append(v1.Part(text=message["tool_plan"]))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        made = v1.ToolCall(id=call["id"], name=function["name"], arguments_json=function["arguments"])
        parts.append(v1.Part(tool_call=made))
    return v1.Message(role=_ROLES[message["role"]], parts=parts)


def _parts(content: Any) -> Iterator[v1.Part]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    for block in blocks:
        match block:
            case {"type": "text", "text": text}:
                yield v1.Part(text=text)
            case {"type": "thinking", "thinking": text}:
                yield v1.Part(reasoning=v1.ReasoningPart(text=text))
            case {"type": "image_url", "image_url": {"url": url} as image}:
                detail = _DETAILS.get(image.get("detail", ""), v1.IMAGE_DETAIL_UNSPECIFIED)
                yield v1.Part(image=v1.ImagePart(source=_source(url), detail=detail))
            case {"type": "document", "document": document}:
                yield _document(document)


def _source(url: str) -> v1.MediaSource:
    if not url.startswith("data:"):
        return v1.MediaSource(uri=url)
    head, _, data = url.partition(",")
    return v1.MediaSource(data=base64.b64decode(data), mime_type=head.removeprefix("data:").removesuffix(";base64"))


def _document(document: Mapping[str, Any]) -> v1.Part:
    """Fields other than text and title have no words of ours, so the document is one of JSON then."""
    fields = document["data"]
    if "text" in fields and not fields.keys() - {"text", "title"}:
        source = v1.MediaSource(data=fields["text"].encode(), mime_type="text/plain")
        return v1.Part(document=v1.DocumentPart(source=source, title=fields.get("title", "")))
    source = v1.MediaSource(data=json.dumps(fields).encode(), mime_type="application/json")
    return v1.Part(document=v1.DocumentPart(source=source))
