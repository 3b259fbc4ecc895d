"""A `ChatRequest` as a call of the Messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.anthropic.blocks import Block, Conversation, json_object
from parley_server.dialects.anthropic.breakpoints import Breakpoints
from parley_server.dialects.anthropic.hosting import Hosting
from parley_server.dialects.base import JSON, HttpCall, Wishes, dump
from parley_server.dialects.claude_thinking import Thought, Traits, thought, traits

HEADERS = {**JSON, "anthropic-version": "2023-06-01"}
"""The version under which all models are served and sampling is taken where the model takes it, unlike 2026-10-21."""

_OURS = ("model", "messages", "stream")
_OPTION_HEADERS = {"anthropic_beta": "anthropic-beta", "anthropic_version": "anthropic-version"}
"""Options that are no fields of the body: a list of betas (or a string with commas) and another API version."""
_BETA_HEADER = {"anthropic_beta": "anthropic-beta"}
_HEADER_VALUE = re.compile(r"[\w.,-]+", re.ASCII)
_SAYS_NOTHING = {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1}
_NO_ARGUMENTS = {"type": "object", "properties": {}}


def encode(request: v1.ChatRequest, target: Target, hosting: Hosting, *, stream: bool) -> HttpCall:
    """The call that asks for `request`.

    Sampling options go out as they are, unless the model is known to refuse them: ranges are the provider's to check.
    `provider_options_json` is merged last; its `anthropic_beta` and `anthropic_version` become headers.
    Raises UnsupportedParameter if nothing but instructions is there to send.
    """
    wishes = Wishes(request.unsupported_policy)
    row = traits(target.known_as)
    body: dict[str, Any] = {"max_tokens": 0, "messages": []}
    if hosting.model_in_body:
        body["model"] = target.model
    if hosting.version:
        body["anthropic_version"] = hosting.version
    if stream and hosting.stream_in_body:
        body["stream"] = True
    breakpoints = Breakpoints(request.prompt_cache, wishes)
    how = thought(request, target, wishes)
    body["max_tokens"] = how.max_tokens
    if how.thinking is not None:
        body["thinking"] = how.thinking
    notes = _tools(body, request, target, row, breakpoints, wishes)
    _messages(body, request, target, breakpoints, wishes)
    _sampling(body, request.sampling, row, wishes)
    _output(body, request.output, how, wishes)
    if request.end_user_id:
        body["metadata"] = {"user_id": request.end_user_id}
    if request.routing.service_tier:
        body["service_tier"] = request.routing.service_tier
    if stream and request.include_provider_response:
        wishes.unmet("include_provider_response", "a stream has no one body to return")
    if request.prompt_cache.key:
        wishes.unmet("prompt_cache.key", "the Messages API has no affinity key")
    breakpoints.settle(body)
    options = request.provider_options_json.get(target.provider, "")
    headers = JSON if hosting.version else HEADERS
    as_headers = _OPTION_HEADERS if not hosting.version else {} if hosting.betas_in_body else _BETA_HEADER
    return HttpCall(
        path=hosting.path(target.model, stream),
        headers={**headers, **_option_headers(options, as_headers, target.provider)} if options else headers,
        body=dump(body, options, (*_OURS, *as_headers)),
        warnings=(*wishes.warnings(), *notes),
    )


def _messages(
    body: dict[str, Any], request: v1.ChatRequest, target: Target, breakpoints: Breakpoints, wishes: Wishes
) -> None:
    conversation = Conversation(request.messages, target, breakpoints, wishes)
    if not conversation.turns:
        problem = "hold nothing to answer: the Messages API wants at least one turn besides instructions"
        raise UnsupportedParameter(f"messages {problem}", violations=[Violation("messages", problem, "NO_TURN")])
    body["messages"] = conversation.turns
    if conversation.system:
        body["system"] = conversation.system
    if conversation.container:
        body["container"] = conversation.container


def _tools(
    body: dict[str, Any],
    request: v1.ChatRequest,
    target: Target,
    row: Traits,
    breakpoints: Breakpoints,
    wishes: Wishes,
) -> list[v1.Warning]:
    """Adds `tools` and `tool_choice`; gives notes on tools that were left out to meet a wish."""
    tools: list[Block] = []
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function":
                block = _function(tool.function)
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                block = json_object(tool.provider_tool.json, f"{path}.provider_tool.json")
            case "provider_tool":
                wishes.unmet(path, f"a tool of {tool.provider_tool.provider} was left out", "PROVIDER_TOOL_DROPPED")
                continue
            case kind:
                wishes.unmet(path, f"the Messages API has no {kind} tools")
                continue
        if tool.HasField("cache_breakpoint"):
            breakpoints.mark(block, tool.cache_breakpoint, path)
        tools.append(block)
    choice, allowed = _choice(request.tool_choice, tools, row, body.get("thinking"), wishes)
    if allowed:
        body["tools"] = allowed
    if choice:
        body["tool_choice"] = choice
    message = (
        "the Messages API cannot be told which tools to allow: the others were not listed, which costs the prompt cache"
    )
    left_out = len(allowed) < len(tools)
    return [v1.Warning(code="TOOL_NOT_LISTED", message=message, field="tool_choice.allowed_tool_names")] * left_out


def _function(function: v1.FunctionTool) -> Block:
    schema = function.parameters_json_schema
    tool: Block = {"name": function.name, "input_schema": orjson.Fragment(schema) if schema else _NO_ARGUMENTS}
    if function.description:
        tool["description"] = function.description
    if function.HasField("strict"):
        tool["strict"] = function.strict
    return tool


def _choice(
    choice: v1.ToolChoice, tools: list[Block], row: Traits, thinking: dict[str, Any] | None, wishes: Wishes
) -> tuple[Block, list[Block]]:
    """`tool_choice`, empty if there is nothing to say, and the tools that may be used."""
    if choice.mode == v1.ToolChoice.MODE_NONE:
        return ({"type": "none"} if tools else {}), tools
    names = set(choice.allowed_tool_names)
    allowed = [tool for tool in tools if tool.get("name") in names] if names else tools
    required = choice.mode == v1.ToolChoice.MODE_REQUIRED
    if not allowed:
        if required:
            wishes.unmet("tool_choice.mode", "there is no tool to call")
        return {}, []
    on_a_budget = thinking is not None and thinking["type"] == "enabled"
    if required and (on_a_budget or not row.forced_tools):
        when = " while it thinks on a budget" if row.forced_tools else ""
        wishes.unmet("tool_choice.mode", f"this model cannot be made to call a tool{when}: it was left free not to")
        required = False
    if required and len(names) == 1:
        answer: Block = {"type": "tool", "name": names.pop()}
        allowed = tools
    elif required:
        answer = {"type": "any"}
    elif choice.mode or choice.HasField("parallel_tool_calls"):
        answer = {"type": "auto"}
    else:
        return {}, allowed
    if choice.HasField("parallel_tool_calls"):
        answer["disable_parallel_tool_use"] = not choice.parallel_tool_calls
    return answer, allowed


def _sampling(body: dict[str, Any], sampling: v1.SamplingOptions, row: Traits, wishes: Wishes) -> None:
    for field, value in sampling.ListFields():
        match field.name:
            case "max_output_tokens":
                pass  # `thought` has read it
            case "stop_sequences":
                body["stop_sequences"] = list(value)
            case "temperature" | "top_p" | "top_k" if row.sampling:
                body[field.name] = value
            case name if value == _SAYS_NOTHING.get(name):
                pass
            case "temperature" | "top_p" | "top_k":
                wishes.unmet(f"sampling.{field.name}", f"this model takes no {field.name}")
            case _:
                wishes.unmet(f"sampling.{field.name}", f"the Messages API has no {field.name}")


def _output(body: dict[str, Any], output: v1.OutputOptions, how: Thought, wishes: Wishes) -> None:
    config: dict[str, Any] = {}
    match output.WhichOneof("format"):
        case "json_schema":
            # Parsed, so that provider options can be merged into it. Its name has no place, and it is always strict.
            schema = json_object(output.json_schema.json_schema, "output.json_schema.json_schema")
            config["format"] = {"type": "json_schema", "schema": schema}
            if output.json_schema.description:
                wishes.unmet("output.json_schema.description", "the Messages API takes a schema without a description")
        case "json_object":
            wishes.unmet("output.json_object", "the Messages API gives JSON only to a schema")
    if how.effort:
        config["effort"] = how.effort
    if config:
        body["output_config"] = config
    if output.verbosity:
        wishes.unmet("output.verbosity", "the Messages API has no verbosity")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "the Messages API takes no predicted output")


def _option_headers(options: str, names: Mapping[str, str], provider: str) -> dict[str, str]:
    """The options that are headers. Raises InvalidRequest for a value that no header can hold."""
    fields = orjson.loads(options)
    headers = {}
    for name, header in names.items():
        value = fields.get(name)
        if value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if not _HEADER_VALUE.fullmatch(text):
            field = f"provider_options_json[{provider}].{name}"
            problem = "must be names of letters, digits, '.', '_' and '-'"
            raise InvalidRequest(f"{field} {problem}", violations=[Violation(field, problem, "INVALID_VALUE")])
        headers[header] = text
    return headers
