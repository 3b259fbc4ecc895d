"""A `ChatRequest` as a call of `generateContent`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import JSON, HttpCall, Wishes, dump
from parley_server.dialects.gemini.contents import Contents, on_the_wire
from parley_server.dialects.gemini.families import Traits, thinking, traits
from parley_server.dialects.gemini.hosting import Hosting
from parley_server.dialects.gemini.tools import tools

Body = dict[str, Any]

_OURS = ("model", "contents")
_MOST_STOPS = 5
_SAMPLING = {
    "max_output_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
}
_HEEDED = frozenset({"temperature", "top_p", "top_k"})
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_SAYS_NOTHING = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "min_p": 0}
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


def encode(request: v1.ChatRequest, target: Target, hosting: Hosting, *, stream: bool) -> HttpCall:
    """The call that asks for `request`.

    Sampling options go out as they are, unless the model is known to ignore or refuse them: ranges are the provider's
    to check. `provider_options_json` is merged last. Raises UnsupportedParameter for content that cannot be said.
    """
    wishes = Wishes(request.unsupported_policy)
    row = traits(target.known_as)
    contents = Contents(
        target, hosting, row, wishes, breakpoints=request.prompt_cache.mode != v1.PromptCacheOptions.MODE_OFF
    )
    contents.encode(request.messages)
    if not contents.turns:
        problem = "hold nothing to answer: the Gemini API wants at least one turn besides instructions"
        raise UnsupportedParameter(f"messages {problem}", violations=[Violation("messages", problem, "NO_TURN")])
    body: Body = {"contents": on_the_wire(contents.turns)}
    if contents.system:
        body["systemInstruction"] = {"parts": contents.system}
    notes = tools(body, request, target, hosting, row, wishes)
    config: Body = {}
    _sampling(config, request.sampling, row, wishes)
    _output(config, request.output, wishes)
    if how := thinking(request, target, wishes):
        config["thinkingConfig"] = how
    if config:
        body["generationConfig"] = config
    headers = _elsewhere(body, request, hosting, wishes)
    if stream and request.include_provider_response:
        wishes.unmet("include_provider_response", "a stream has no one body to return")
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall(
        path=f"{hosting.path(target.model)}:{verb}",
        headers=headers,
        body=dump(body, options, _OURS),
        warnings=(*wishes.warnings(), *notes),
    )


def _sampling(config: Body, sampling: v1.SamplingOptions, row: Traits, wishes: Wishes) -> None:
    for field, value in sampling.ListFields():
        name, wish = field.name, f"sampling.{field.name}"
        ignored = (name in _HEEDED and not row.sampling) or (name in _PENALTIES and not row.penalties)
        match name:
            case "seed" if not -(2**31) <= value < 2**31:
                wishes.unmet(wish, "a seed has 32 bits here")
            case "stop_sequences":
                config["stopSequences"] = list(value[:_MOST_STOPS])
                if len(value) > _MOST_STOPS:
                    wishes.unmet(f"{wish}[{_MOST_STOPS}]", f"at most {_MOST_STOPS} stop sequences are possible")
            case "top_logprobs":
                config["responseLogprobs"] = True
                if value:
                    config["logprobs"] = value
            case _ if name in _SAMPLING and not ignored:
                config[_SAMPLING[name]] = value
            case _ if value == _SAYS_NOTHING.get(name):
                pass
            case _ if ignored:
                wishes.unmet(wish, f"this model takes no {name}")
            case _:
                wishes.unmet(wish, f"the Gemini API has no {name}")


def _output(config: Body, output: v1.OutputOptions, wishes: Wishes) -> None:
    match output.WhichOneof("format"):
        case "json_object":
            config["responseMimeType"] = "application/json"
        case "json_schema":
            # Its name has no place, and it is always strict.
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = orjson.Fragment(output.json_schema.json_schema)
            if output.json_schema.description:
                wishes.unmet("output.json_schema.description", "there is no description beside the schema here")
    if output.verbosity:
        wishes.unmet("output.verbosity", "the Gemini API has no verbosity")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "the Gemini API takes no predicted output")


def _elsewhere(body: Body, request: v1.ChatRequest, hosting: Hosting, wishes: Wishes) -> Mapping[str, str]:
    """Wishes about the service rather than the answer; gives the headers of the call."""
    headers: Mapping[str, str] = JSON
    if request.end_user_id:
        if hosting.end_user_label and _LABEL.fullmatch(request.end_user_id):
            body["labels"] = {hosting.end_user_label: request.end_user_id}
        elif hosting.end_user_label:
            problem = "a label holds at most 63 lower-case letters, digits, '_' and '-'"
            wishes.unmet("end_user_id", problem)
        else:
            wishes.unmet("end_user_id", "the Gemini API takes no end user")
    tier = request.routing.service_tier
    if tier and hosting.tier_field:
        body[hosting.tier_field] = tier
    elif tier in hosting.tier_headers:
        name, value = hosting.tier_headers[tier]
        headers = {**JSON, name: value}
    elif tier:
        known = ", ".join(hosting.tier_headers)
        wishes.unmet("routing.service_tier", f"there is no such service tier here, only {known}")
    cache = request.prompt_cache
    if cache.mode == v1.PromptCacheOptions.MODE_EXPLICIT:
        wishes.unmet("prompt_cache.mode", "prefixes are cached unasked here, not only where a breakpoint is")
    if cache.key:
        wishes.unmet("prompt_cache.key", "there are no keys of the prompt cache here")
    if cache.HasField("ttl"):
        wishes.unmet("prompt_cache.ttl", "there are no lifetimes of the prompt cache here")
    return headers
