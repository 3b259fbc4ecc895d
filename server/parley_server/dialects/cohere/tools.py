"""Tools and the choice among them: REQUIRED, NONE or, said by saying nothing, as the model likes."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes

Body = dict[str, Any]


def add_tools(
    body: Body, request: v1.ChatRequest, target: Target, wishes: Wishes, *, breakpoints: bool
) -> list[v1.Warning]:
    """Adds `tools`, `tool_choice` and `strict_tools` to `body`; gives notes on tools that are not listed.

    No tool can be named: to force one, or to allow only some, the others are left off the list.
    """
    choice = request.tool_choice
    allowed = set(choice.allowed_tool_names) if choice.mode != v1.ToolChoice.MODE_NONE else set()
    notes: list[v1.Warning] = []
    tools: list[Any] = []
    functions: dict[str, v1.FunctionTool] = {}  # those that are listed, by path
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function" if allowed and tool.function.name not in allowed:
                message = f"{tool.function.name} is not listed: {target.provider} cannot be told which tools to allow"
                notes.append(v1.Warning(code="TOOL_NOT_LISTED", message=message, field=path))
            case "function":
                functions[f"{path}.function"] = tool.function
                tools.append(_function(tool.function))
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                tools.append(orjson.Fragment(tool.provider_tool.json))
            case _:
                wishes.unmet(path, f"{target.provider} does not know tools of {tool.provider_tool.provider}")
        if tool.HasField("cache_breakpoint") and breakpoints:
            wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")
    if tools:
        body["tools"] = tools
    _strict(body, functions, wishes)
    match choice.mode:
        case v1.ToolChoice.MODE_NONE if tools:
            body["tool_choice"] = "NONE"
        case v1.ToolChoice.MODE_REQUIRED if tools:
            body["tool_choice"] = "REQUIRED"
        case v1.ToolChoice.MODE_REQUIRED:
            wishes.unmet("tool_choice.mode", "there is no tool to call")
    if choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        wishes.unmet("tool_choice.parallel_tool_calls", "several calls at once cannot be ruled out here")
    return notes


def _function(function: v1.FunctionTool) -> Body:
    said: Body = {"name": function.name}
    if function.description:
        said["description"] = function.description
    schema = function.parameters_json_schema
    said["parameters"] = orjson.Fragment(schema) if schema else {"type": "object", "properties": {}}
    return {"type": "function", "function": said}


def _strict(body: Body, functions: dict[str, v1.FunctionTool], wishes: Wishes) -> None:
    """`strict_tools` holds for all functions: it is only asked for if nobody would get what was not wished."""
    strict = [path for path, function in functions.items() if function.strict]
    if strict and len(strict) == len(functions):
        body["strict_tools"] = True
        return
    for path in strict:
        wishes.unmet(f"{path}.strict", "tools are strict all together here, and not all of these are wished so")
