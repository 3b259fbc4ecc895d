"""Bodies of chat completions in a form in which those that say the same are equal."""

from __future__ import annotations

import json
from typing import Any

from parley_server.dialects.openai_chat import Quirks

_SYNONYMS = {
    "max_tokens": "max_completion_tokens",
    "user": "safety_identifier",
    "user_id": "safety_identifier",
    "random_seed": "seed",
}


def normal_body(body: dict[str, Any], quirks: Quirks) -> Any:
    """Without what says nothing: nulls, empty lists, documented defaults; one name for what has two.

    `quirks` is what is documented of the server, taken as data: which of several ways of saying a thing it knows.
    """
    said = {
        name: value for name, value in body.items() if value is not None and name not in ("stream", "stream_options")
    }
    for old, new in _SYNONYMS.items():
        if old in said:
            said[new] = said.pop(old)
    if not said.get("model"):  # Azure has it in the path
        said.pop("model", None)
    _tools(said, quirks)
    _reasoning(said, quirks)
    for name, default in (("n", 1), ("logprobs", False), ("top_logprobs", 0), ("response_format", {"type": "text"})):
        if said.get(name) == default:
            del said[name]
    if "stop" in said:
        said["stop"] = [said["stop"]] if isinstance(said["stop"], str) else said["stop"]
        if not said["stop"]:
            del said["stop"]
    match said.get("response_format"):
        case {"json_schema": {"schema": schema} as named}:
            kept = {name: value for name, value in named.items() if value not in (None, "")}
            said["response_format"] |= {"json_schema": kept | {"schema": json.dumps(schema)}}
    messages = [_message(message, quirks) for message in body["messages"]]
    if not quirks.empty_turns:
        messages = [m for m in messages if m["role"] != "assistant" or m["content"] or m.get("tool_calls")]
    if quirks.short_tool_ids:
        _number_calls(messages)
    said["messages"] = messages
    return said


def _tools(said: dict[str, Any], quirks: Quirks) -> None:
    match said.get("tool_choice"):
        case "auto":  # the default where there are tools
            del said["tool_choice"]
        case "any":
            said["tool_choice"] = "required"
        case "none" if "none" not in quirks.tool_modes:  # tools that are not offered are not called either
            del said["tool_choice"]
            said.pop("tools", None)
        case {"function": {"name": name}}:
            said["tool_choice"] = {"type": "function", "function": {"name": name}}
    if not said.get("tools"):
        for name in ("tools", "parallel_tool_calls"):
            said.pop(name, None)
        return
    if said.get("parallel_tool_calls") is True:  # the default
        del said["parallel_tool_calls"]
    said["tools"] = [_tool(tool, quirks) for tool in said["tools"]]


def _tool(tool: dict[str, Any], quirks: Quirks) -> Any:
    match tool:
        case {"type": "function", "function": function}:
            said = {name: value for name, value in function.items() if value not in (None, "")}
            schema = said.get("parameters") or {}
            if not schema.get("properties") and schema.get("type", "object") == "object":
                said.pop("parameters", None)  # no arguments, in any words
            else:
                said["parameters"] = json.dumps(schema)  # as text: the order of keys matters to models
            if said.get("strict") is False and "strict" in quirks.missing:
                del said["strict"]
            return {"type": "function", "function": said}
    return tool


def _reasoning(said: dict[str, Any], quirks: Quirks) -> None:
    if said.get("chat_template_kwargs") == {"enable_thinking": True}:  # what the templates do anyway
        del said["chat_template_kwargs"]
    match said.get("reasoning"):
        case {"effort": effort, **rest} if not rest:  # OpenRouter takes both, and they mean the same
            said["reasoning_effort"] = effort
            del said["reasoning"]
    if quirks.reasoning_switch == "thinking.type" and isinstance(said.get("thinking"), dict):
        thinking = {name: value for name, value in said["thinking"].items() if (name, value) != ("type", "enabled")}
        said["thinking"] = thinking  # it is on unless switched off
        if quirks.keeping_field:  # says nothing where no turn shows reasoning, and is implied where one does
            thinking.pop("clear_thinking", None)
        if not thinking:
            del said["thinking"]


def _message(message: dict[str, Any], quirks: Quirks) -> Any:
    said = {name: value for name, value in message.items() if value not in (None, [], "")}
    if said["role"] == "developer" and not quirks.developer_role:
        said["role"] = "system"
    content = said.get("content", [])
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else [_block(block) for block in content]
    if quirks.text_as_string and blocks and all(block.keys() == {"type", "text"} for block in blocks):
        joint = "" if said["role"] == "assistant" else "\n\n"
        blocks = [{"type": "text", "text": joint.join(block["text"] for block in blocks)}]
    said["content"] = blocks
    if said["role"] == "tool":
        said.pop("name", None)  # the call of that ID says the same
    if said["role"] == "assistant":
        said.pop("annotations", None)  # said by the server, and ignored in requests
        if said.get("prefix") is False:
            del said["prefix"]
        if quirks.reasoning_placeholder and said.get("reasoning_content") == " ":
            del said["reasoning_content"]  # stands for reasoning that is lost
    if "tool_calls" in said:
        said["tool_calls"] = [
            {"type": "function"} | {name: value for name, value in call.items() if name != "index"}
            for call in said["tool_calls"]
        ]
    return said


def _block(block: Any) -> Any:
    said = {name: value for name, value in block.items() if value is not None}
    match said.get("cache_control"):
        case {"ttl": "5m", **rest}:  # the default
            said["cache_control"] = rest
    match said:
        case {"type": "image_url", "image_url": str(url)}:
            said["image_url"] = {"url": url}
        case {"type": "image_url", "image_url": {"detail": "auto", **rest}}:
            said["image_url"] = rest
    return said


def refused_content(body: Any, quirks: Quirks) -> str:
    """The type of a part that the server is known to refuse; empty: there is none."""
    refused = {"file": not quirks.documents, "input_audio": not quirks.audio}
    contents = [message.get("content") for message in body["messages"]] if isinstance(body, dict) else []
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return next((block["type"] for block in blocks if refused.get(block["type"])), "")


def _number_calls(messages: list[dict[str, Any]]) -> None:
    """IDs of calls by their place: which ID it is does not matter, which call a result belongs to does."""
    numbers: dict[str, int] = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            call["id"] = numbers.setdefault(call["id"], len(numbers))
        if "tool_call_id" in message:
            message["tool_call_id"] = numbers.setdefault(message["tool_call_id"], len(numbers))
