"""Tools and the choice among them as `tools` and `toolConfig`."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.gemini.families import Traits
from parley_server.dialects.gemini.hosting import Hosting

Body = dict[str, Any]


def tools(
    body: Body, request: v1.ChatRequest, target: Target, hosting: Hosting, row: Traits, wishes: Wishes
) -> list[v1.Warning]:
    """Adds `tools` and `toolConfig`; gives notes on functions that are not listed because they must not be called."""
    choice = request.tool_choice
    restricts = bool(choice.allowed_tool_names) and choice.mode != v1.ToolChoice.MODE_NONE
    # Without VALIDATED only the mode ANY, which demands a call, can be restricted.
    unlisted = restricts and choice.mode != v1.ToolChoice.MODE_REQUIRED and not row.validated
    declarations: list[Body] = []
    native: list[Any] = []
    notes: list[v1.Warning] = []
    strict = False
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function" if unlisted and tool.function.name not in choice.allowed_tool_names:
                message = f"{tool.function.name} is not listed: {target} cannot be told which functions to allow"
                notes.append(v1.Warning(code="TOOL_NOT_LISTED", message=message, field=path))
            case "function":
                declarations.append(_declaration(tool.function))
                strict |= tool.function.strict
                if tool.function.strict and not row.validated and choice.mode != v1.ToolChoice.MODE_REQUIRED:
                    problem = "arguments are held to the schema only where a call is required"
                    wishes.unmet(f"{path}.function.strict", problem)
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                native.append(_object(tool.provider_tool.json, f"{path}.provider_tool.json"))
            case "provider_tool":
                foreign = tool.provider_tool.provider
                wishes.unmet(path, f"a tool of {foreign} was left out", "PROVIDER_TOOL_DROPPED")
            case kind:
                wishes.unmet(path, f"the Gemini API has no {kind} tools")
        if tool.HasField("cache_breakpoint") and request.prompt_cache.mode != v1.PromptCacheOptions.MODE_OFF:
            wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")
    listed = [*([{"functionDeclarations": declarations}] if declarations else []), *native]
    if listed:
        body["tools"] = listed
    config: Body = {}
    if calling := _calling(choice, bool(declarations), unlisted, strict and row.validated, wishes):
        config["functionCallingConfig"] = calling
    if declarations and native and row.third and hosting.mixed_tools_flag:
        config["includeServerSideToolInvocations"] = True
    if config:
        body["toolConfig"] = config
    if choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        wishes.unmet("tool_choice.parallel_tool_calls", "several calls at once cannot be ruled out here")
    return notes


def _declaration(function: v1.FunctionTool) -> Body:
    said: Body = {"name": function.name}
    if function.description:
        said["description"] = function.description
    if function.parameters_json_schema:  # takes all of JSON Schema, unlike `parameters`
        said["parametersJsonSchema"] = orjson.Fragment(function.parameters_json_schema)
    return said


def _calling(choice: v1.ToolChoice, functions: bool, unlisted: bool, strict: bool, wishes: Wishes) -> Body:
    """`functionCallingConfig`, which is refused where there are no functions."""
    if not functions:
        if choice.mode == v1.ToolChoice.MODE_REQUIRED:
            wishes.unmet("tool_choice.mode", "there is no function to call")
        return {}
    names = [] if unlisted else list(choice.allowed_tool_names)
    match choice.mode:
        case v1.ToolChoice.MODE_NONE:
            return {"mode": "NONE"}
        case v1.ToolChoice.MODE_REQUIRED:
            return {"mode": "ANY", "allowedFunctionNames": names} if names else {"mode": "ANY"}
        case _ if names:
            return {"mode": "VALIDATED", "allowedFunctionNames": names}
        case _ if strict:
            return {"mode": "VALIDATED"}
        case v1.ToolChoice.MODE_AUTO:
            return {"mode": "AUTO"}
    return {}


def _object(text: str, path: str) -> Any:
    """What the caller wrote as JSON, in its own words. Raises InvalidRequest if it is no object."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        return orjson.Fragment(text)
    problem = "must be a JSON object"
    raise InvalidRequest(f"{path} {problem}", violations=[Violation(path, problem, "INVALID_JSON")])
