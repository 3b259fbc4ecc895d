"""From keyword arguments to requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict, get_type_hints

from parley import v1
from parley.content import user
from parley.reply import Reply
from parley.schema import Schema, schema
from parley.tools import ToolLike, declarations

Turn = str | v1.Message | Reply
Prompt = Turn | Iterable[Turn]
"""What to say: a text, a message, a reply to go on from, or a list of those. A text is a message of the user."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Output = Literal["text", "json"] | type[Any] | Schema | v1.OutputOptions
CacheMode = Literal["bypass", "read_write", "read_only", "refresh", "only_if_cached"]
EmbedInputs = str | Sequence[str] | Sequence[Sequence[int]]


class SamplingArguments(TypedDict, total=False):
    """Sampling; what is absent is left to the model. The meanings are those of `v1.SamplingOptions`."""

    max_output_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    frequency_penalty: float
    presence_penalty: float
    repetition_penalty: float
    seed: int
    top_logprobs: int
    stop: str | Sequence[str]
    logit_bias: Mapping[int, float]


class CallArguments(TypedDict, total=False):
    """How a call travels.

    `timeout`: seconds for the whole call, retries included (`float("inf")`: none on this side). `headers`: gRPC
    metadata to send along, such as {"x-request-id": "…"}; values of keys that end in -bin are bytes.
    """

    timeout: float
    headers: Mapping[str, str | bytes]


class CommonArguments(TypedDict, total=False):
    """What chats, embeddings and rankings share.

    `routing`: which targets may be tried. `metadata`: recorded with the call in traces. `provider_options`: wishes that
    the API has no word for, by provider: {"openai": {"store": False}}. `unsupported`: what to do with wishes that the
    model cannot meet. `idempotency_key`: of calls with the same key only the first one asks a model, and all get its
    answer.
    """

    idempotency_key: str
    routing: v1.RoutingOptions
    metadata: Mapping[str, str]
    provider_options: Mapping[str, Mapping[str, Any]]
    unsupported: Literal["error", "warn"]


class TurnArguments(SamplingArguments, CommonArguments, CallArguments, total=False):
    """Keyword arguments of everything that asks a model for a turn.

    `request`: a request to start from; the other arguments are laid over a copy of it. `tool_choice`: "auto", "none",
    "required", or the name of the tool that must be called. `reasoning`: how hard to think. `output`: "json" for any
    JSON object; a type or a JSON Schema for one that follows it (`reply.json(T)` reads it). `response_model`: the same
    with a type (a pydantic model, a dataclass, …), and `reply.parsed` is one of those. `fallbacks`: models to try in
    this order if the first fails. `response_cache`: whether the gateway's cache may answer, and keep the answer.
    """

    request: v1.ChatRequest
    end_user_id: str
    tool_choice: str | v1.ToolChoice
    parallel_tool_calls: bool
    reasoning: Effort | v1.ReasoningOptions
    output: Output
    response_model: type
    verbosity: Literal["low", "medium", "high"]
    prompt_cache: v1.PromptCacheOptions
    response_cache: CacheMode | v1.ResponseCacheOptions
    fallbacks: Sequence[str | v1.FallbackTarget]
    include_provider_response: bool


class ChatArguments(TurnArguments, total=False):
    """Keyword arguments of `chat`. `tools`: functions, tools or declarations that the model may call."""

    tools: Iterable[ToolLike]


class StreamArguments(ChatArguments, total=False):
    """Keyword arguments of `stream` beside those of `chat`.

    `usage_updates`: send usage whenever the provider reports it. `heartbeat_interval`: the longest silence in seconds.
    `coalesce_interval`: hold text back for up to this many seconds, for fewer events. `resume`: go on by yourself when
    the connection breaks; leaving the stream still ends the work. `resumable`: the answer goes on without you, and can
    be taken up again by its response ID (`client.resume`, `GetChat`).
    """

    resume: bool
    resumable: bool
    usage_updates: bool
    heartbeat_interval: float
    coalesce_interval: float


class EmbedArguments(CommonArguments, CallArguments, total=False):
    """Keyword arguments of `embed`. `dimensions`: how many are wanted. `fallbacks` must share the embedding space.

    `response_cache`: whether the gateway's cache may answer, input by input, and keep the answers.
    """

    request: v1.EmbedRequest
    end_user_id: str
    dimensions: int
    response_cache: CacheMode | v1.ResponseCacheOptions
    fallbacks: Sequence[str]


class RerankArguments(CommonArguments, CallArguments, total=False):
    """Keyword arguments of `rerank`.

    `top_n`: most results. `max_tokens_per_document`: judge by the beginning of each document only.
    """

    request: v1.RerankRequest
    top_n: int
    max_tokens_per_document: int
    fallbacks: Sequence[str]


def chat_request(model: str, prompt: Prompt, given: ChatArguments) -> v1.ChatRequest:
    """The request that says all this. Raises TypeError and ValueError for arguments that have no meaning."""
    if "output" in given and "response_model" in given:
        raise TypeError("output and response_model say the same thing: pass one of them")
    request = v1.ChatRequest()
    if "request" in given:
        request.CopyFrom(given["request"])
    request.model = model or request.model
    request.messages.extend(messages(prompt))
    for name, value in given.items():
        _lay_chat(request, name, value)
    return request


def stream_request(model: str, prompt: Prompt, given: StreamArguments) -> v1.StreamChatRequest:
    resumable = given.get("resumable", False) or given.get("resume", False)
    options = v1.StreamOptions(resumable=resumable, usage_updates=given.get("usage_updates", False))
    if "heartbeat_interval" in given:
        options.heartbeat_interval.FromTimedelta(timedelta(seconds=given["heartbeat_interval"]))
    if "coalesce_interval" in given:
        options.coalesce_interval.FromTimedelta(timedelta(seconds=given["coalesce_interval"]))
    return v1.StreamChatRequest(request=chat_request(model, prompt, given), options=options)


def embed_request(model: str, inputs: EmbedInputs, given: EmbedArguments) -> v1.EmbedRequest:
    """The request that asks for packed vectors, the cheapest to send and to read."""
    request = v1.EmbedRequest()
    if "request" in given:
        request.CopyFrom(given["request"])
    request.model = model or request.model
    request.encoding = v1.EMBEDDING_ENCODING_FLOAT32_BYTES
    for one in [inputs] if isinstance(inputs, str) else inputs:
        request.inputs.append(
            v1.EmbedInput(text=one) if isinstance(one, str) else v1.EmbedInput(tokens=v1.TokenIds(ids=one))
        )
    if "dimensions" in given:
        request.dimensions = given["dimensions"]
    for name, value in given.items():
        if name != "dimensions":
            _lay_common(request, name, value)
    return request


def rerank_request(model: str, query: str, documents: Iterable[str], given: RerankArguments) -> v1.RerankRequest:
    """The request that says all this. Raises TypeError for arguments that have no meaning."""
    if isinstance(documents, str):
        raise TypeError("documents is a list of texts, not one text")
    request = v1.RerankRequest()
    if "request" in given:
        request.CopyFrom(given["request"])
    request.model = model or request.model
    request.query = query or request.query
    request.documents.extend(documents)
    if "top_n" in given:
        request.top_n = given["top_n"]
    if "max_tokens_per_document" in given:
        request.max_tokens_per_document = given["max_tokens_per_document"]
    for name, value in given.items():
        if name not in ("top_n", "max_tokens_per_document"):
            _lay_common(request, name, value)
    return request


def messages(prompt: Prompt) -> list[v1.Message]:
    """`prompt` as messages."""
    match prompt:
        case str():
            return [user(prompt)]
        case v1.Message():
            return [prompt]
        case Reply():
            return [prompt.message]
        case v1.Part():
            raise TypeError("a part needs an author: user(…) or assistant(…)")
        case _:
            return [message for turn in prompt for message in messages(turn)]


def deadline(given: CallArguments, default: float) -> float | None:
    """Seconds for the call, as gRPC wants them."""
    seconds = given.get("timeout", default)
    return None if seconds == float("inf") else seconds


_SAMPLING = frozenset(get_type_hints(SamplingArguments))
_ELSEWHERE = {
    *("request", "timeout", "headers"),
    *("resume", "resumable", "usage_updates", "heartbeat_interval", "coalesce_interval"),
}
"""Arguments that say nothing about the content of a request."""


def _lay_chat(request: v1.ChatRequest, name: str, value: Any) -> None:
    """Set what the argument `name` stands for. Messages are merged, so that the order of arguments does not matter."""
    match name:
        case "stop":
            request.sampling.stop_sequences[:] = [value] if isinstance(value, str) else value
        case "logit_bias":
            request.sampling.logit_bias.update(value)
        case _ if name in _SAMPLING:
            setattr(request.sampling, name, value)
        case "tools":
            request.tools.extend(declarations(value))
        case "tool_choice":
            request.tool_choice.MergeFrom(_tool_choice(value))
        case "parallel_tool_calls":
            request.tool_choice.parallel_tool_calls = value
        case "reasoning" if isinstance(value, str):
            request.reasoning.effort = v1.ReasoningEffort.Value(f"REASONING_EFFORT_{value.upper()}")
        case "reasoning":
            request.reasoning.MergeFrom(value)
        case "output" | "response_model":
            request.output.MergeFrom(_output(value))
        case "verbosity":
            request.output.verbosity = value
        case "prompt_cache":
            request.prompt_cache.MergeFrom(value)
        case "include_provider_response":
            request.include_provider_response = value
        case _:
            _lay_common(request, name, value)


def _lay_common(request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest, name: str, value: Any) -> None:
    match name:
        case "routing":
            request.routing.MergeFrom(value)
        case "fallbacks":
            targets = (v1.FallbackTarget(model=one) if isinstance(one, str) else one for one in value)
            request.routing.fallbacks.extend(targets)
        case "metadata":
            request.metadata.update(value)
        case "idempotency_key":
            request.idempotency_key = value
        case "end_user_id" if not isinstance(request, v1.RerankRequest):
            request.end_user_id = value
        case "response_cache" if not isinstance(request, v1.RerankRequest):
            request.response_cache.MergeFrom(_response_cache(value))
        case "provider_options":
            for provider, wishes in value.items():
                request.provider_options_json[provider] = json.dumps(wishes, ensure_ascii=False)
        case "unsupported":
            request.unsupported_policy = v1.UnsupportedPolicy.Value(f"UNSUPPORTED_POLICY_{value.upper()}")
        case _ if name not in _ELSEWHERE:
            raise TypeError(f"unknown argument: {name}")


def _tool_choice(choice: str | v1.ToolChoice) -> v1.ToolChoice:
    match choice:
        case v1.ToolChoice():
            return choice
        case "auto" | "none" | "required":
            return v1.ToolChoice(mode=v1.ToolChoice.Mode.Value(f"MODE_{choice.upper()}"))
        case name:
            return v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=[name])


def _response_cache(cache: CacheMode | v1.ResponseCacheOptions) -> v1.ResponseCacheOptions:
    if isinstance(cache, v1.ResponseCacheOptions):
        return cache
    return v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.Mode.Value(f"MODE_{cache.upper()}"))


def _output(output: Output) -> v1.OutputOptions:
    match output:
        case v1.OutputOptions():
            return output
        case "text":
            return v1.OutputOptions(text=v1.TextFormat())
        case "json":
            return v1.OutputOptions(json_object=v1.JsonObjectFormat())
        case str():
            raise ValueError(f'output is "text", "json", a type or a JSON Schema, not {output!r}')
        case dict():
            return v1.OutputOptions(json_schema=v1.JsonSchemaFormat(json_schema=json.dumps(output, ensure_ascii=False)))
        case kind:
            text = json.dumps(schema(kind), ensure_ascii=False)
            name = re.sub(r"[^a-zA-Z0-9_-]+", "_", getattr(kind, "__name__", ""))[:64]
            return v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name=name, json_schema=text))
