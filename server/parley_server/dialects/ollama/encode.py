"""From a `ChatRequest` to the body of `POST /api/chat`."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.ollama.messages import Messages

Body = dict[str, Any]

_OURS = ("model", "messages", "stream")
_OPTIONS = {
    "max_output_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
}
_LEVELS = {
    v1.REASONING_EFFORT_NONE: False,
    v1.REASONING_EFFORT_MINIMAL: "low",
    v1.REASONING_EFFORT_LOW: "low",
    v1.REASONING_EFFORT_MEDIUM: "medium",
    v1.REASONING_EFFORT_HIGH: "high",
    v1.REASONING_EFFORT_XHIGH: "max",
    v1.REASONING_EFFORT_MAX: "max",
}
"""As the server itself translates OpenAI's efforts; models without levels take any level for yes."""
_CLAMPED = {v1.REASONING_EFFORT_MINIMAL: "minimal", v1.REASONING_EFFORT_XHIGH: "xhigh"}


def encode(request: v1.ChatRequest, target: Target, *, stream: bool, keep_alive: str | int | None = None) -> HttpCall:
    """The call that asks for `request`. Raises UnsupportedParameter for content that cannot be sent at all.

    `keep_alive` goes into the body; an option of the request replaces it.
    """
    wishes = Wishes(request.unsupported_policy)
    breakpoints = request.prompt_cache.mode != v1.PromptCacheOptions.MODE_OFF
    messages = Messages(target, wishes, breakpoints=breakpoints).encode(request.messages)
    body: Body = {"model": target.model, "messages": messages, "stream": stream}  # said, since the default is true
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    notes = _tools(body, request, target, wishes, breakpoints=breakpoints)
    _sampling(body, request.sampling, wishes)
    _reasoning(body, request.reasoning, wishes)
    _output(body, request.output, wishes)
    _elsewhere(request, wishes)
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall("/api/chat", dump(body, options, _OURS), warnings=(*wishes.warnings(), *notes))


def _tools(
    body: Body, request: v1.ChatRequest, target: Target, wishes: Wishes, *, breakpoints: bool
) -> list[v1.Warning]:
    """Set the tools; the API knows no choice among them, so those that must not be called are not listed."""
    choice = request.tool_choice
    if choice.mode == v1.ToolChoice.MODE_NONE:
        return []
    allowed = set(choice.allowed_tool_names)
    notes: list[v1.Warning] = []
    tools: list[Any] = []
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool.WhichOneof("kind"):
            case "function" if allowed and tool.function.name not in allowed:
                message = f"{tool.function.name} is not listed: {target.provider} cannot be told which tools to allow"
                notes.append(v1.Warning(code="TOOL_NOT_LISTED", message=message, field=path))
            case "function":
                tools.append(_function(tool.function, f"{path}.function", wishes))
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                tools.append(orjson.Fragment(tool.provider_tool.json))
            case _:
                wishes.unmet(path, f"{target.provider} does not know tools of {tool.provider_tool.provider}")
        if tool.HasField("cache_breakpoint") and breakpoints:
            wishes.unmet(f"{path}.cache_breakpoint", "there are no breakpoints here: prefixes are cached unasked")
    if tools:
        body["tools"] = tools
    if choice.mode == v1.ToolChoice.MODE_REQUIRED:
        wishes.unmet("tool_choice.mode", "a tool call cannot be required here")
    if choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        wishes.unmet("tool_choice.parallel_tool_calls", "several calls at once cannot be ruled out here")
    return notes


def _function(function: v1.FunctionTool, path: str, wishes: Wishes) -> Body:
    said: Body = {"name": function.name}
    if function.description:
        said["description"] = function.description
    schema = function.parameters_json_schema
    said["parameters"] = orjson.Fragment(schema) if schema else {"type": "object", "properties": {}}
    if function.strict:
        wishes.unmet(f"{path}.strict", "arguments cannot be guaranteed to follow the schema")
    return {"type": "function", "function": said}


def _sampling(body: Body, sampling: v1.SamplingOptions, wishes: Wishes) -> None:
    options: Body = {}
    for field, value in sampling.ListFields():
        if field.name in _OPTIONS:
            options[_OPTIONS[field.name]] = value
    if sampling.stop_sequences:
        options["stop"] = list(sampling.stop_sequences)
    if options:
        body["options"] = options
    if sampling.logit_bias:
        wishes.unmet("sampling.logit_bias", "there is no bias by token here")
    if sampling.HasField("top_logprobs"):
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs


def _reasoning(body: Body, reasoning: v1.ReasoningOptions, wishes: Wishes) -> None:
    if reasoning.effort:
        body["think"] = level = _LEVELS[reasoning.effort]
        if reasoning.effort in _CLAMPED:
            message = f"there is no effort {_CLAMPED[reasoning.effort]}; {level} is asked for"
            wishes.unmet("reasoning.effort", message, code="CLAMPED")
    if reasoning.HasField("budget_tokens"):
        if not reasoning.budget_tokens:
            body["think"] = False
        else:
            body.setdefault("think", True)
            wishes.unmet("reasoning.budget_tokens", "reasoning takes an effort here, not a number of tokens")
    match reasoning.visibility:
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            wishes.unmet("reasoning.visibility", "there are no summaries of reasoning here")
        case v1.ReasoningOptions.VISIBILITY_OMITTED:
            wishes.unmet("reasoning.visibility", "reasoning cannot be kept out of the answer here")


def _output(body: Body, output: v1.OutputOptions, wishes: Wishes) -> None:
    match output.WhichOneof("format"):
        case "json_object":
            body["format"] = "json"
        case "json_schema":
            body["format"] = orjson.Fragment(output.json_schema.json_schema)
            if output.json_schema.description:
                wishes.unmet("output.json_schema.description", "there is no description beside the schema here")
    if output.verbosity:
        wishes.unmet("output.verbosity", "there is no choice of verbosity here")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "there is no predicted output here")


def _elsewhere(request: v1.ChatRequest, wishes: Wishes) -> None:
    """Wishes about things that a server of one's own does not have."""
    if request.prompt_cache.mode == v1.PromptCacheOptions.MODE_EXPLICIT:
        wishes.unmet("prompt_cache.mode", "prefixes are cached unasked here, not only where a breakpoint is")
    if request.prompt_cache.key:
        wishes.unmet("prompt_cache.key", "there are no keys of the prompt cache here")
    if request.prompt_cache.HasField("ttl"):
        wishes.unmet("prompt_cache.ttl", "there are no lifetimes of the prompt cache here")
    if request.routing.service_tier:
        wishes.unmet("routing.service_tier", "there are no service tiers here")
    if request.end_user_id:
        wishes.unmet("end_user_id", "the end user cannot be named here")
