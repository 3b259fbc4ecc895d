"""From a `ChatRequest` to the body of `POST /chat/completions`."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.openai_chat.families import refused
from parley_server.dialects.openai_chat.messages import Messages, cache_ttl
from parley_server.dialects.openai_chat.quirks import EFFORTS, Quirks

Body = dict[str, Any]

_OURS = ("model", "messages", "stream")
_SAYS_NOTHING = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
_WISH_OF = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "seed": "sampling.seed",
    "stop": "sampling.stop_sequences",
    "logit_bias": "sampling.logit_bias",
    "logprobs": "sampling.top_logprobs",
    "top_logprobs": "sampling.top_logprobs",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "output.verbosity",
    "prediction": "output.predicted_text",
    "response_format": "output.json_schema",
    "prompt_cache_key": "prompt_cache.key",
    "prompt_cache_options": "prompt_cache",
    "parallel_tool_calls": "tool_choice.parallel_tool_calls",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "service_tier": "routing.service_tier",
}
"""Path of the wish behind a body field."""


def encode(request: v1.ChatRequest, target: Target, quirks: Quirks, path: str, *, stream: bool) -> HttpCall:
    """The call that asks for `request`. Raises UnsupportedParameter for content that cannot be sent at all."""
    wishes = Wishes(request.unsupported_policy)
    notes: list[v1.Warning] = []
    body: Body = {"model": target.model, "messages": Messages(request, target, quirks, wishes).encode()}
    if request.tools:
        _tools(body, request, target, quirks, wishes, notes)
    if request.HasField("sampling"):
        _sampling(body, request.sampling, quirks, wishes)
    if request.HasField("reasoning"):
        _reasoning(body, request.reasoning, quirks, wishes)
    if request.HasField("output"):
        _output(body, request.output)
    if request.HasField("prompt_cache"):
        _prompt_cache(body, request.prompt_cache, wishes)
    if request.HasField("routing") and request.routing.service_tier:
        body["service_tier"] = request.routing.service_tier
    if request.end_user_id:
        if quirks.end_user_field:
            body[quirks.end_user_field] = request.end_user_id
        else:
            wishes.unmet("end_user_id", f"{target.provider} takes no end user")
    _leave_out(body, target, quirks, wishes)
    if stream:
        body["stream"] = True
        if quirks.stream_usage:
            body["stream_options"] = {"include_usage": True}
        if quirks.obfuscation:
            body.setdefault("stream_options", {})["include_obfuscation"] = False
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall(path, dump(body, options, _OURS), warnings=(*wishes.warnings(), *notes))


def _tools(
    body: Body, request: v1.ChatRequest, target: Target, quirks: Quirks, wishes: Wishes, notes: list[v1.Warning]
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
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}
    elif choice.mode:
        body["tool_choice"] = _MODES[choice.mode]
    if choice.HasField("parallel_tool_calls"):
        body["parallel_tool_calls"] = choice.parallel_tool_calls


_MODES = {
    v1.ToolChoice.MODE_AUTO: "auto",
    v1.ToolChoice.MODE_NONE: "none",
    v1.ToolChoice.MODE_REQUIRED: "required",
}


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
        if "strict" in quirks.missing:
            wishes.unmet(f"{path}.strict", "arguments cannot be guaranteed to follow the schema")
        else:
            said["strict"] = function.strict
    return {"type": "function", "function": said}


def _sampling(body: Body, sampling: v1.SamplingOptions, quirks: Quirks, wishes: Wishes) -> None:
    if sampling.HasField("max_output_tokens"):
        body[quirks.token_limit_field] = sampling.max_output_tokens
    if sampling.HasField("temperature"):
        body["temperature"] = sampling.temperature
    if sampling.HasField("top_p"):
        body["top_p"] = sampling.top_p
    if sampling.HasField("frequency_penalty"):
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.HasField("presence_penalty"):
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.HasField("seed"):
        body["seed"] = sampling.seed
    if sampling.HasField("top_k"):
        _extra(body, quirks.top_k_field, "top_k", sampling.top_k, wishes)
    if sampling.HasField("min_p"):
        _extra(body, quirks.min_p_field, "min_p", sampling.min_p, wishes)
    if sampling.HasField("repetition_penalty"):
        _extra(body, quirks.repetition_penalty_field, "repetition_penalty", sampling.repetition_penalty, wishes)
    if sampling.stop_sequences:
        most = quirks.most_stop_sequences
        body["stop"] = list(sampling.stop_sequences[:most])
        if len(sampling.stop_sequences) > most:
            wishes.unmet(f"sampling.stop_sequences[{most}]", f"at most {most} stop sequences are possible")
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.HasField("top_logprobs"):
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs


def _extra(body: Body, field: str, wish: str, value: float, wishes: Wishes) -> None:
    if field:
        body[field] = value
    else:
        wishes.unmet(f"sampling.{wish}", f"there is no {wish} here")


def _reasoning(body: Body, reasoning: v1.ReasoningOptions, quirks: Quirks, wishes: Wishes) -> None:
    if reasoning.effort:
        wanted = v1.ReasoningEffort.Name(reasoning.effort).removeprefix("REASONING_EFFORT_").lower()
        body["reasoning_effort"] = effort = _nearest(wanted, quirks.efforts)
        if effort != wanted:
            wishes.unmet("reasoning.effort", f"there is no effort {wanted}; {effort} is asked for", code="CLAMPED")
    if reasoning.HasField("budget_tokens"):
        wishes.unmet("reasoning.budget_tokens", "reasoning takes an effort here, not a number of tokens")
    match reasoning.visibility:
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            wishes.unmet("reasoning.visibility", "there are no summaries of reasoning here")
        case v1.ReasoningOptions.VISIBILITY_FULL if not quirks.reasoning_fields:
            wishes.unmet("reasoning.visibility", "reasoning is not shown here")
        case v1.ReasoningOptions.VISIBILITY_OMITTED if quirks.reasoning_fields:
            wishes.unmet("reasoning.visibility", "reasoning cannot be kept out of the answer here")


def _nearest(wanted: str, levels: tuple[str, ...]) -> str:
    """The strongest of `levels` that is not above `wanted`, or the weakest there is; "none" only stands for itself."""
    rank = EFFORTS.index(wanted)
    within = [level for level in levels if EFFORTS.index(level) <= rank and (level != "none" or wanted == "none")]
    thinking = [level for level in levels if level != "none"]
    return (within or thinking or list(levels))[-1 if within else 0]


def _output(body: Body, output: v1.OutputOptions) -> None:
    match output.WhichOneof("format"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":
            asked = output.json_schema
            schema: Body = {"name": asked.name or "output"}
            if asked.description:
                schema["description"] = asked.description
            schema["schema"] = orjson.Fragment(asked.json_schema)
            if asked.HasField("strict"):
                schema["strict"] = asked.strict
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if output.verbosity:
        body["verbosity"] = output.verbosity
    if output.predicted_text:
        body["prediction"] = {"type": "content", "content": output.predicted_text}


def _prompt_cache(body: Body, cache: v1.PromptCacheOptions, wishes: Wishes) -> None:
    if cache.key:
        body["prompt_cache_key"] = cache.key
    options = {}
    match cache.mode:
        case v1.PromptCacheOptions.MODE_AUTO:
            options["mode"] = "implicit"
        case v1.PromptCacheOptions.MODE_EXPLICIT:
            options["mode"] = "explicit"
    if cache.HasField("ttl"):
        options["ttl"] = cache_ttl(cache.ttl, "prompt_cache.ttl", wishes)
    if options:
        body["prompt_cache_options"] = options


def _leave_out(body: Body, target: Target, quirks: Quirks, wishes: Wishes) -> None:
    """Take out of `body` what the server or the model refuses; a value that is the default anyway says nothing."""
    out = quirks.missing
    if quirks.model_families:
        out |= refused(target.model, body.get("reasoning_effort", ""))
    for field in sorted(out & body.keys()):
        value = body.pop(field)
        wish = _WISH_OF.get(field)
        if wish is not None and not (field in _SAYS_NOTHING and value == _SAYS_NOTHING[field]):
            wishes.unmet(wish, f"{target} takes no {field}")
