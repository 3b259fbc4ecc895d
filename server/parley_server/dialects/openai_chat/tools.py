"""The tools of a request, and which of them must, may or may not be called."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.openai_chat.quirks import Quirks, ToolMode
from parley_server.dialects.openai_chat.thinking import is_off

Body = dict[str, Any]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHORT = re.compile(r"[A-Za-z0-9]{9}")
_FREE: frozenset[ToolMode] = frozenset({"auto", "none"})


def offer(
    body: Body, request: v1.ChatRequest, target: Target, quirks: Quirks, wishes: Wishes, notes: list[v1.Warning]
) -> None:
    """Put tools and tool choice into `body`."""
    choice = request.tool_choice
    modes = quirks.tool_modes
    if quirks.free_choice_while_thinking and not is_off(request.reasoning):
        modes &= _FREE
    if choice.mode == v1.ToolChoice.MODE_NONE and "none" not in modes:
        return  # tools that are not there are not called either
    allowed = set(choice.allowed_tool_names)
    narrowed = bool(allowed) and choice.mode != v1.ToolChoice.MODE_NONE
    forced = next(iter(allowed)) if len(allowed) == 1 and choice.mode == v1.ToolChoice.MODE_REQUIRED else ""
    if "named" not in modes:
        forced = ""
    told_of_all = quirks.allowed_tools and (choice.mode != v1.ToolChoice.MODE_REQUIRED or "required" in modes)
    unlisted = narrowed and not forced and not told_of_all
    tools: list[Any] = []
    for index, tool in enumerate(request.tools):
        match tool.WhichOneof("kind"):
            case "function" if unlisted and tool.function.name not in allowed:
                message = f"{tool.function.name} is not listed: {target.provider} cannot be told which tools to allow"
                notes.append(v1.Warning(code="TOOL_NOT_LISTED", message=message, field=f"tools[{index}]"))
            case "function":
                tools.append(_function(tool.function, f"tools[{index}].function", quirks, wishes))
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                tools.append(orjson.Fragment(tool.provider_tool.json))
            case _:
                wishes.unmet(
                    f"tools[{index}]", f"{target.provider} does not know tools of {tool.provider_tool.provider}"
                )
        if tool.HasField("cache_breakpoint"):
            wishes.unmet(f"tools[{index}].cache_breakpoint", "tools take no breakpoints here")
    if not tools:
        return
    body["tools"] = tools
    if forced:
        body["tool_choice"] = _named(forced)
    elif narrowed and told_of_all:
        mode = "required" if choice.mode == v1.ToolChoice.MODE_REQUIRED else "auto"
        names = [_named(name) for name in choice.allowed_tool_names]
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}
    elif choice.mode:
        _say_mode(body, choice.mode, modes, target, quirks, wishes)
    if choice.HasField("parallel_tool_calls"):
        body["parallel_tool_calls"] = choice.parallel_tool_calls


def _say_mode(
    body: Body,
    mode: v1.ToolChoice.Mode.ValueType,
    modes: frozenset[ToolMode],
    target: Target,
    quirks: Quirks,
    wishes: Wishes,
) -> None:
    match mode:
        case v1.ToolChoice.MODE_REQUIRED if "required" in modes:
            body["tool_choice"] = quirks.required_word
        case v1.ToolChoice.MODE_REQUIRED:
            wishes.unmet("tool_choice.mode", f"{target} cannot be made to call a tool; it is free to")
        case v1.ToolChoice.MODE_NONE:
            body["tool_choice"] = "none"
        case v1.ToolChoice.MODE_AUTO if "auto" in modes:  # elsewhere it is what happens without being asked for
            body["tool_choice"] = "auto"


def short_id(call_id: str) -> str:
    """An ID of nine letters and digits, always the same for the same ID; one that is such an ID stays."""
    if _SHORT.fullmatch(call_id):
        return call_id
    number = int.from_bytes(blake2b(call_id.encode(), digest_size=8).digest())
    digits = []
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def _named(name: str) -> Body:
    return {"type": "function", "function": {"name": name}}


def _function(function: v1.FunctionTool, path: str, quirks: Quirks, wishes: Wishes) -> Body:
    said: Body = {"name": function.name}
    if function.description:
        said["description"] = function.description
    if function.parameters_json_schema:
        said["parameters"] = orjson.Fragment(function.parameters_json_schema)
    else:  # OpenAI would take no schema at all, many chat templates would not
        said["parameters"] = {"type": "object", "properties": {}, "additionalProperties": False}
    if function.HasField("strict"):
        if "strict" not in quirks.missing:
            said["strict"] = function.strict
        elif function.strict:  # false is what it is anyway
            wishes.unmet(f"{path}.strict", "arguments cannot be guaranteed to follow the schema")
    return {"type": "function", "function": said}
