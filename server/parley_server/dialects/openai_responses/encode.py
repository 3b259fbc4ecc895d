"""From a `ChatRequest` to the body of `POST /responses`.

Every request stands for itself: nothing is to be stored, and what the model has to have of earlier turns is in the
input. Strict schemas are the default there and not here, so each tool says which it wants.
"""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.openai_chat.encode import prompt_cache
from parley_server.dialects.openai_families import reasons, refused
from parley_server.dialects.openai_responses.items import Items
from parley_server.dialects.openai_responses.quirks import EFFORTS, ResponsesQuirks

Body = dict[str, Any]

_OURS = ("model", "input", "stream")
_ENCRYPTED = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"
_SAYS_NOTHING = {"temperature": 1, "top_p": 1}
_WISH_OF = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_logprobs": "sampling.top_logprobs",
    "max_output_tokens": "sampling.max_output_tokens",
    "reasoning": "reasoning",
    "text": "output",
    "prompt_cache_key": "prompt_cache.key",
    "prompt_cache_options": "prompt_cache",
    "parallel_tool_calls": "tool_choice.parallel_tool_calls",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "service_tier": "routing.service_tier",
}
"""Path of the wish behind a body field."""
_FURTHER = (
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
)
_MODES = {
    v1.ToolChoice.MODE_AUTO: "auto",
    v1.ToolChoice.MODE_NONE: "none",
    v1.ToolChoice.MODE_REQUIRED: "required",
}


def encode(request: v1.ChatRequest, target: Target, quirks: ResponsesQuirks, path: str, *, stream: bool) -> HttpCall:
    """The call that asks for `request`. Raises UnsupportedParameter for content that cannot be sent at all."""
    wishes = Wishes(request.unsupported_policy)
    notes: list[v1.Warning] = []
    body: Body = {**quirks.naming(target.model), "input": Items(request, target, quirks, wishes).encode()}
    include: list[str] = []
    if quirks.stores:
        body["store"] = False
    if request.tools:
        _tools(body, request, target, quirks, wishes, notes)
    if request.HasField("sampling"):
        _sampling(body, request.sampling, quirks, wishes, include)
    if request.HasField("reasoning"):
        _reasoning(body, request.reasoning, target, quirks, wishes)
    if _is_to_encrypt(body, target, quirks):
        include.append(_ENCRYPTED)
    if request.HasField("output"):
        _output(body, request.output, quirks, wishes)
    if request.HasField("prompt_cache"):
        prompt_cache(body, request.prompt_cache, wishes)
    if request.HasField("routing") and request.routing.service_tier:
        body["service_tier"] = request.routing.service_tier
    if request.end_user_id:
        if quirks.end_user_field:
            body[quirks.end_user_field] = request.end_user_id
        else:
            wishes.unmet("end_user_id", f"{target.provider} takes no end user")
    _leave_out(body, include, target, quirks, wishes)
    if stream:
        body["stream"] = True
        if quirks.obfuscation:
            body["stream_options"] = {"include_obfuscation": False}
    if include:
        body["include"] = include
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall(path, _dumped(body, include, options), warnings=(*wishes.warnings(), *notes))


def _dumped(body: Body, include: list[str], options: str) -> bytes:
    """The body with the caller's options; what they include comes to what we need, instead of replacing it."""
    if include and options and isinstance(theirs := orjson.loads(options).get("include"), list):
        body["include"] = [*include, *(name for name in theirs if name not in include)]
        return dump(body, options, (*_OURS, "include"))
    return dump(body, options, _OURS)


# --------------------------------------------------------------------------------------------------------------- tools


def _tools(
    body: Body,
    request: v1.ChatRequest,
    target: Target,
    quirks: ResponsesQuirks,
    wishes: Wishes,
    notes: list[v1.Warning],
) -> None:
    choice = request.tool_choice
    allowed = set(choice.allowed_tool_names)
    narrowed = bool(allowed) and choice.mode != v1.ToolChoice.MODE_NONE
    forced = next(iter(allowed)) if len(allowed) == 1 and choice.mode == v1.ToolChoice.MODE_REQUIRED else ""
    unlisted = narrowed and not forced and not quirks.allowed_tools
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
    elif narrowed and quirks.allowed_tools:
        mode = "required" if choice.mode == v1.ToolChoice.MODE_REQUIRED else "auto"
        names = [_named(name) for name in choice.allowed_tool_names]
        body["tool_choice"] = {"type": "allowed_tools", "mode": mode, "tools": names}
    elif choice.mode:
        body["tool_choice"] = _MODES[choice.mode]
    if choice.HasField("parallel_tool_calls"):
        body["parallel_tool_calls"] = choice.parallel_tool_calls


def _named(name: str) -> Body:
    return {"type": "function", "name": name}


def _function(function: v1.FunctionTool, path: str, quirks: ResponsesQuirks, wishes: Wishes) -> Body:
    said: Body = {"type": "function", "name": function.name}
    if function.description:
        said["description"] = function.description
    if function.parameters_json_schema:
        said["parameters"] = orjson.Fragment(function.parameters_json_schema)
    else:
        said["parameters"] = {"type": "object", "properties": {}, "additionalProperties": False}
    if "strict" not in quirks.missing:
        said["strict"] = function.strict  # without it the schema would be made strict where it can be
    elif function.HasField("strict"):
        wishes.unmet(f"{path}.strict", "arguments cannot be guaranteed to follow the schema")
    return said


# -------------------------------------------------------------------------------------------------- sampling, reasoning


def _sampling(
    body: Body, sampling: v1.SamplingOptions, quirks: ResponsesQuirks, wishes: Wishes, include: list[str]
) -> None:
    if sampling.HasField("max_output_tokens"):
        least = quirks.least_output_tokens
        body["max_output_tokens"] = max(sampling.max_output_tokens, least)
        if sampling.max_output_tokens < least:
            wishes.unmet("sampling.max_output_tokens", f"{least} tokens are the least that can be asked for", "CLAMPED")
    if sampling.HasField("temperature"):
        body["temperature"] = sampling.temperature
    if sampling.HasField("top_p"):
        body["top_p"] = sampling.top_p
    if sampling.HasField("top_logprobs"):
        body["top_logprobs"] = sampling.top_logprobs
        include.append(_LOGPROBS)
    told = {field.name: value for field, value in sampling.ListFields()}
    for name in _FURTHER:
        if name not in told:
            continue
        if name in quirks.further_sampling:
            body[name] = told[name]
        else:
            wishes.unmet(f"sampling.{name}", f"there is no {name} in the Responses API")
    if sampling.stop_sequences:
        wishes.unmet("sampling.stop_sequences", "there are no stop sequences in the Responses API")
    if sampling.logit_bias:
        wishes.unmet("sampling.logit_bias", "there is no logit_bias in the Responses API")


def _reasoning(
    body: Body, reasoning: v1.ReasoningOptions, target: Target, quirks: ResponsesQuirks, wishes: Wishes
) -> None:
    said: Body = {}
    levels = quirks.levels(target.known_as)
    if reasoning.effort and not levels:
        wishes.unmet("reasoning.effort", f"{target} takes no effort")
    elif reasoning.effort:
        wanted = v1.ReasoningEffort.Name(reasoning.effort).removeprefix("REASONING_EFFORT_").lower()
        said["effort"] = effort = _nearest(wanted, levels)
        if effort != wanted:
            wishes.unmet("reasoning.effort", f"there is no effort {wanted}; {effort} is asked for", code="CLAMPED")
    if reasoning.HasField("budget_tokens"):
        wishes.unmet("reasoning.budget_tokens", "reasoning takes an effort here, not a number of tokens")
    match reasoning.visibility:
        case v1.ReasoningOptions.VISIBILITY_SUMMARY if quirks.summaries:
            said["summary"] = "auto"
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            wishes.unmet("reasoning.visibility", "there are no summaries of reasoning here")
        case v1.ReasoningOptions.VISIBILITY_FULL if quirks.summaries:
            said["summary"] = "detailed"
            wishes.unmet("reasoning.visibility", "a detailed summary is asked for: reasoning is not shown in full here")
        case v1.ReasoningOptions.VISIBILITY_OMITTED if quirks.shows_unasked:
            wishes.unmet("reasoning.visibility", "reasoning cannot be kept out of the answer here")
    if said:
        body["reasoning"] = said


def _nearest(wanted: str, levels: tuple[str, ...]) -> str:
    """The strongest of `levels` that is not above `wanted`, or the weakest there is; "none" only stands for itself."""
    rank = EFFORTS.index(wanted)
    within = [level for level in levels if EFFORTS.index(level) <= rank and (level != "none" or wanted == "none")]
    thinking = [level for level in levels if level != "none"]
    return (within or thinking or list(levels))[-1 if within else 0]


def _is_to_encrypt(body: Body, target: Target, quirks: ResponsesQuirks) -> bool:
    """Whether to ask for encrypted reasoning. OpenAI's models refuse that unless they reason at all.

    Where only the caller knows what a name stands for, the wish for an effort tells.
    """
    effort = body.get("reasoning", {}).get("effort", "")
    match quirks.encrypted_reasoning:
        case "always":
            return True
        case "families":
            return reasons(target.known_as, "high") or effort not in ("", "none")
        case _:
            return False


# ------------------------------------------------------------------------------------------------------------ the rest


def _output(body: Body, output: v1.OutputOptions, quirks: ResponsesQuirks, wishes: Wishes) -> None:
    said: Body = {}
    match output.WhichOneof("format"):
        case "json_object":
            said["format"] = {"type": "json_object"}
        case "json_schema":
            asked = output.json_schema
            form: Body = {"type": "json_schema", "name": asked.name or "output"}
            if asked.description:
                form["description"] = asked.description
            form["schema"] = orjson.Fragment(asked.json_schema)
            if asked.HasField("strict"):
                form["strict"] = asked.strict
            said["format"] = form
    if output.verbosity:
        if "verbosity" in quirks.missing:
            wishes.unmet("output.verbosity", "verbosity cannot be chosen here")
        else:
            said["verbosity"] = output.verbosity
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "there are no predictions in the Responses API")
    if said:
        body["text"] = said


def _leave_out(body: Body, include: list[str], target: Target, quirks: ResponsesQuirks, wishes: Wishes) -> None:
    """Take out of `body` what the server or the model refuses; a value that is the default anyway says nothing."""
    out = quirks.missing
    if quirks.model_families:
        out |= refused(target.known_as, body.get("reasoning", {}).get("effort", ""))
    for field in sorted(out & body.keys()):
        value = body.pop(field)
        wish = _WISH_OF.get(field)
        if wish is not None and not (field in _SAYS_NOTHING and value == _SAYS_NOTHING[field]):
            wishes.unmet(wish, f"{target} takes no {field}")
    if _LOGPROBS in include and "top_logprobs" not in body:
        include.remove(_LOGPROBS)
