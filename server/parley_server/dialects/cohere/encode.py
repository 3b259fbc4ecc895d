"""From a `ChatRequest` to the body of `POST /v2/chat`.

`safety_mode`, `citation_options` and `priority` have no words of ours: they go through `provider_options_json`.
"""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.cohere.messages import Messages
from parley_server.dialects.cohere.tools import add_tools

Body = dict[str, Any]

_OURS = ("model", "messages", "stream")
_SAMPLING = {
    "max_output_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
}
_SAYS_NOTHING = {"min_p": 0, "repetition_penalty": 1}
_STOP_SEQUENCES = 5


def encode(request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
    """The call that asks for `request`. Raises UnsupportedParameter for content that cannot be sent at all."""
    wishes = Wishes(request.unsupported_policy)
    breakpoints = request.prompt_cache.mode != v1.PromptCacheOptions.MODE_OFF
    messages = Messages(target, wishes, breakpoints=breakpoints)
    body: Body = {"model": target.model, "messages": messages.encode(request.messages), "stream": stream}
    if not body["messages"]:
        problem = "hold nothing to answer"
        raise UnsupportedParameter(f"messages {problem}", violations=[Violation("messages", problem, "NO_TURN")])
    if messages.documents:
        body["documents"] = messages.documents
    if mode := messages.citation_mode():
        body["citation_options"] = {"mode": mode}
    notes = add_tools(body, request, target, wishes, breakpoints=breakpoints)
    _sampling(body, request.sampling, wishes)
    _reasoning(body, request.reasoning, wishes)
    _output(body, request.output, wishes)
    _elsewhere(request, wishes, stream=stream)
    options = request.provider_options_json.get(target.provider, "")
    return HttpCall("/v2/chat", dump(body, options, _OURS), warnings=(*wishes.warnings(), *notes))


def _sampling(body: Body, sampling: v1.SamplingOptions, wishes: Wishes) -> None:
    """Values go out as they are: ranges, which differ from other providers', are the provider's to check."""
    for field, value in sampling.ListFields():
        match field.name:
            case name if name in _SAMPLING:
                body[_SAMPLING[name]] = value
            case "stop_sequences":
                body["stop_sequences"] = list(value[:_STOP_SEQUENCES])
                if len(value) > _STOP_SEQUENCES:
                    path = f"sampling.stop_sequences[{_STOP_SEQUENCES}]"
                    wishes.unmet(path, f"at most {_STOP_SEQUENCES} stop sequences are possible")
            case "top_logprobs":
                body["logprobs"] = True
                if value:
                    wishes.unmet("sampling.top_logprobs", "log probabilities come without alternatives here")
            case name if value != _SAYS_NOTHING.get(name):
                wishes.unmet(f"sampling.{name}", f"there is no {name} here")


def _reasoning(body: Body, reasoning: v1.ReasoningOptions, wishes: Wishes) -> None:
    effort = reasoning.effort
    if reasoning.HasField("budget_tokens"):  # wins over an effort
        on = reasoning.budget_tokens > 0
        body["thinking"] = {"type": "enabled", "token_budget": reasoning.budget_tokens} if on else {"type": "disabled"}
    elif effort == v1.REASONING_EFFORT_NONE:
        body["thinking"] = {"type": "disabled"}
    elif effort:
        body["thinking"] = {"type": "enabled"}
        wishes.unmet("reasoning.effort", "models think or do not, there are no levels; thinking is on", "CLAMPED")
    match reasoning.visibility:
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            wishes.unmet("reasoning.visibility", "there are no summaries of reasoning here")
        case v1.ReasoningOptions.VISIBILITY_OMITTED:
            wishes.unmet("reasoning.visibility", "reasoning cannot be kept out of the answer here")


def _output(body: Body, output: v1.OutputOptions, wishes: Wishes) -> None:
    match output.WhichOneof("format"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":  # always strict, and without a name
            schema = orjson.Fragment(output.json_schema.json_schema)
            body["response_format"] = {"type": "json_object", "json_schema": schema}
            if output.json_schema.description:
                wishes.unmet("output.json_schema.description", "there is no description beside the schema here")
    if output.verbosity:
        wishes.unmet("output.verbosity", "there is no choice of verbosity here")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "there is no predicted output here")


def _elsewhere(request: v1.ChatRequest, wishes: Wishes, *, stream: bool) -> None:
    """Wishes about things that Cohere does not have."""
    cache = request.prompt_cache
    if cache.mode == v1.PromptCacheOptions.MODE_EXPLICIT:
        wishes.unmet("prompt_cache.mode", "prefixes are cached unasked here, not only where a breakpoint is")
    if cache.key:
        wishes.unmet("prompt_cache.key", "there are no keys of the prompt cache here")
    if cache.HasField("ttl"):
        wishes.unmet("prompt_cache.ttl", "there are no lifetimes of the prompt cache here")
    if request.routing.service_tier:
        wishes.unmet("routing.service_tier", "there are no service tiers here")
    if request.end_user_id:
        wishes.unmet("end_user_id", "the end user cannot be named here")
    if stream and request.include_provider_response:
        wishes.unmet("include_provider_response", "a stream has no one body to return")
