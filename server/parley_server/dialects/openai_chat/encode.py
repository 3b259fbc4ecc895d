"""From a `ChatRequest` to the body of `POST /chat/completions`."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.openai_chat import thinking, tools
from parley_server.dialects.openai_chat.messages import Messages, cache_ttl
from parley_server.dialects.openai_chat.quirks import Quirks, Variant
from parley_server.dialects.openai_families import refused

Body = dict[str, Any]

_OURS = ("model", "messages", "stream")
_SAYS_NOTHING = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
_WISH_OF = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "seed": "sampling.seed",
    "random_seed": "sampling.seed",
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
    variant = quirks.variant(target.known_as)
    messages = Messages(request, target, quirks, wishes)
    body: Body = {"model": target.model, "messages": messages.encode()}
    if request.tools:
        tools.offer(body, request, target, quirks, wishes, notes)
    if request.HasField("sampling"):
        _sampling(body, request.sampling, quirks, wishes)
    if request.HasField("reasoning"):
        thinking.ask(body, request.reasoning, quirks, variant, wishes)
    if messages.recalls and quirks.keeping_field:
        thinking.put(body, quirks.keeping_field, False)
    if request.HasField("output"):
        _output(body, request.output, target, quirks, wishes)
    if request.HasField("prompt_cache"):
        prompt_cache(body, request.prompt_cache, wishes)
    if request.HasField("routing") and request.routing.service_tier:
        body["service_tier"] = request.routing.service_tier
    if request.end_user_id:
        if quirks.end_user_field:
            body[quirks.end_user_field] = request.end_user_id
        else:
            wishes.unmet("end_user_id", f"{target.provider} takes no end user")
    _leave_out(body, target, quirks, variant, wishes)
    if stream or variant.streams_only:
        body["stream"] = True
        if quirks.stream_usage:
            body["stream_options"] = {"include_usage": True}
        if quirks.obfuscation:
            body.setdefault("stream_options", {})["include_obfuscation"] = False
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall(
        path,
        dump(body, options, _OURS),
        warnings=(*wishes.warnings(), *notes),
        streams=True if variant.streams_only else None,
    )


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
        _extra(body, quirks.seed_field, "seed", sampling.seed, wishes)
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
        body["logprobs"] = sampling.top_logprobs if quirks.logprobs_count else True
        if sampling.top_logprobs and not quirks.logprobs_count:
            body["top_logprobs"] = sampling.top_logprobs


def _extra(body: Body, field: str, wish: str, value: float, wishes: Wishes) -> None:
    if field:
        body[field] = value
    else:
        wishes.unmet(f"sampling.{wish}", f"there is no {wish} here")


def _output(body: Body, output: v1.OutputOptions, target: Target, quirks: Quirks, wishes: Wishes) -> None:
    match output.WhichOneof("format"):
        case "json_object":
            _any_object(body, "output.json_object", target, quirks, wishes)
        case "json_schema" if "json_schema" in quirks.formats:
            asked = output.json_schema
            schema: Body = {"name": asked.name or "output"}
            if asked.description:
                schema["description"] = asked.description
            schema["schema"] = orjson.Fragment(asked.json_schema)
            if asked.HasField("strict"):
                schema["strict"] = asked.strict
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_schema":
            wishes.unmet("output.json_schema", f"{target} takes no schema; it is only told to answer JSON, if that")
            if "json_object" in quirks.formats:
                body["response_format"] = {"type": "json_object"}
    if output.verbosity:
        body["verbosity"] = output.verbosity
    if output.predicted_text:
        body["prediction"] = {"type": "content", "content": output.predicted_text}


def _any_object(body: Body, wish: str, target: Target, quirks: Quirks, wishes: Wishes) -> None:
    if "json_object" in quirks.formats:
        body["response_format"] = {"type": "json_object"}
    elif "json_schema" in quirks.formats:  # says the same
        named = {"name": "output", "schema": {"type": "object"}}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    else:
        wishes.unmet(wish, f"{target} cannot be held to JSON")


def prompt_cache(body: Body, cache: v1.PromptCacheOptions, wishes: Wishes) -> None:
    """The vendor's cache of prompts: the Responses API takes the same fields as Chat Completions."""
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


def _leave_out(body: Body, target: Target, quirks: Quirks, variant: Variant, wishes: Wishes) -> None:
    """Take out of `body` what the server or the model refuses; a value that is the default anyway says nothing."""
    out = quirks.missing | variant.missing
    if quirks.model_families:
        out |= refused(target.known_as, body.get("reasoning_effort", ""))
    for field in sorted(out & body.keys()):
        value = body.pop(field)
        wish = _WISH_OF.get(field)
        if wish is not None and not (field in _SAYS_NOTHING and value == _SAYS_NOTHING[field]):
            wishes.unmet(wish, f"{target} takes no {field}")
