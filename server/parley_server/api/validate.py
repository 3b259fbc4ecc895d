"""Every documented limit of the requests, checked by hand: fast, and each problem with the path of its field.

The limits stand in the comments of the protos; a test reads them there and tries each one here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice

from parley import v1
from parley_server.api.checks import Say, in_range, json_object, known_enum, positive, schema, seconds
from parley_server.core.errors import Violation

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_PARTS_BY_ROLE = {
    v1.ROLE_SYSTEM: frozenset(("text",)),
    v1.ROLE_DEVELOPER: frozenset(("text",)),
    v1.ROLE_USER: frozenset(("text", "image", "audio", "document", "tool_result", "provider_part")),
    v1.ROLE_ASSISTANT: frozenset(("text", "reasoning", "tool_call", "refusal", "provider_part", "image", "document")),
    v1.ROLE_TOOL: frozenset(("tool_result",)),
}
_SAMPLING_RANGES: dict[str, tuple[float, float]] = {
    "max_output_tokens": (0, 2**31 - 1),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "top_logprobs": (0, 20),
}
_PARTS_OF_RESULT = frozenset(("text", "image", "document"))


def chat(request: v1.ChatRequest) -> list[Violation]:
    """What is wrong with a chat request; empty if nothing is."""
    found: list[Violation] = []

    def say(field: str, description: str) -> None:
        found.append(Violation(field, description, "INVALID"))

    _model(request.model, "model", say)
    _messages(request, say)
    if request.tools or request.HasField("tool_choice"):
        _tools(request, say)
    if request.HasField("sampling"):
        _sampling(request.sampling, "sampling", say)
    if request.HasField("reasoning"):
        _reasoning(request.reasoning, "reasoning", say)
    if request.HasField("output"):
        _output(request.output, say)
    if request.HasField("prompt_cache"):
        _prompt_cache(request.prompt_cache, say)
    if request.HasField("response_cache"):
        _response_cache(request.response_cache, say)
    _common(request, say)
    return found


def embed(request: v1.EmbedRequest) -> list[Violation]:
    """What is wrong with an embedding request; empty if nothing is."""
    found: list[Violation] = []

    def say(field: str, description: str) -> None:
        found.append(Violation(field, description, "INVALID"))

    _model(request.model, "model", say)
    if not 1 <= len(request.inputs) <= 2048:
        say("inputs", f"has {len(request.inputs)} entries; 1 to 2048 are allowed")
    for i, item in enumerate(request.inputs[:2048]):
        match item.WhichOneof("kind"):
            case "text" if not item.text:
                say(f"inputs[{i}].text", "is empty")
            case "tokens" if not item.tokens.ids:
                say(f"inputs[{i}].tokens.ids", "is empty")
            case None:
                say(f"inputs[{i}]", "has neither text nor tokens")
    if request.HasField("dimensions"):
        in_range(request.dimensions, 1, 65536, "dimensions", say)
    known_enum(request.encoding, v1.EmbeddingEncoding, "encoding", say)
    if request.HasField("response_cache"):
        _response_cache(request.response_cache, say)
        if request.response_cache.HasField("min_similarity"):
            say("response_cache.min_similarity", "means nothing to embeddings")
    _no_generation(request.routing, "embeddings", say)
    _common(request, say)
    return found


def rerank(request: v1.RerankRequest) -> list[Violation]:
    """What is wrong with a rerank request; empty if nothing is."""
    found: list[Violation] = []

    def say(field: str, description: str) -> None:
        found.append(Violation(field, description, "INVALID"))

    _model(request.model, "model", say)
    if not request.query:
        say("query", "is required")
    if not 1 <= len(request.documents) <= 1000:
        say("documents", f"has {len(request.documents)} entries; 1 to 1000 are allowed")
    for i, document in enumerate(request.documents[:1000]):
        if not document:
            say(f"documents[{i}]", "is empty")
    for name in ("top_n", "max_tokens_per_document"):
        if request.HasField(name) and getattr(request, name) < 1:
            say(name, "must be 1 or more")
    _no_generation(request.routing, "reranking", say)
    _common(request, say)
    return found


def _no_generation(routing: v1.RoutingOptions, operation: str, say: Say) -> None:
    for i, fallback in enumerate(routing.fallbacks[:8]):
        for name in ("sampling", "reasoning"):
            if fallback.HasField(name):
                say(f"routing.fallbacks[{i}].{name}", f"means nothing to {operation}")


def sampling(options: v1.SamplingOptions) -> list[Violation]:
    """What is wrong with sampling options, wherever they stand; fields as within `sampling`."""
    found: list[Violation] = []
    _sampling(options, "sampling", lambda field, description: found.append(Violation(field, description, "INVALID")))
    return found


def reasoning(options: v1.ReasoningOptions) -> list[Violation]:
    """What is wrong with reasoning options, wherever they stand; fields as within `reasoning`."""
    found: list[Violation] = []
    _reasoning(options, "reasoning", lambda field, description: found.append(Violation(field, description, "INVALID")))
    return found


def stream_options(options: v1.StreamOptions) -> list[Violation]:
    """What is wrong with the options of a stream."""
    found: list[Violation] = []
    for name, low, high in (("heartbeat_interval", 1.0, 300.0), ("coalesce_interval", 0.0, 1.0)):
        if options.HasField(name):  # type: ignore[arg-type]
            value = seconds(getattr(options, name))
            if not low <= value <= high:
                found.append(
                    Violation(f"options.{name}", f"is {value:g} s; {low:g} to {high:g} s are allowed", "INVALID")
                )
    return found


def resume(request: v1.StreamChatRequest) -> list[Violation]:
    """What is wrong with a request to go on with a stream."""
    found = response_id(request.resume.response_id, "resume.response_id")
    if request.resume.after_sequence < 0:
        found.append(Violation("resume.after_sequence", "must be 0 or more", "INVALID"))
    if request.options.usage_updates:
        found.append(Violation("options.usage_updates", "belongs to the call that began the stream", "INVALID"))
    if request.options.HasField("coalesce_interval"):
        found.append(Violation("options.coalesce_interval", "belongs to the call that began the stream", "INVALID"))
    return found


def response_id(text: str, path: str = "response_id") -> list[Violation]:
    """What is wrong with a response ID."""
    if not text:
        return [Violation(path, "is required", "INVALID")]
    if len(text) > 128:
        return [Violation(path, "is longer than 128 characters", "INVALID")]
    return []


def _model(model: str, path: str, say: Say) -> None:
    if not model:
        say(path, "is required")
    elif len(model) > 256:
        say(path, "is longer than 256 characters")


def _messages(request: v1.ChatRequest, say: Say) -> None:
    if not 1 <= len(request.messages) <= 10_000:
        say("messages", f"has {len(request.messages)} entries; 1 to 10000 are allowed")
    calls: set[str] = set()
    for i, message in enumerate(islice(request.messages, 10_000)):
        allowed, parts = _PARTS_BY_ROLE.get(message.role), message.parts
        common = allowed and "text" in allowed and len(parts) == 1 and not message.name
        if common and parts[0].WhichOneof("kind") == "text":  # by far the most common message
            continue
        path = f"messages[{i}]"
        if allowed is None:
            say(
                f"{path}.role", "is required" if not message.role else f"{message.role} is not a role this server knows"
            )
            continue
        if not 1 <= len(message.parts) <= 1000:
            say(f"{path}.parts", f"has {len(message.parts)} entries; 1 to 1000 are allowed")
        if message.name and not _NAME.match(message.name):
            say(f"{path}.name", "must be [a-zA-Z0-9_-]{1,64}")
        for j, part in enumerate(message.parts[:1000]):
            kind = part.WhichOneof("kind")
            if kind == "text" and kind in allowed:  # by far the most common one
                continue
            here = f"{path}.parts[{j}]"
            if kind is None:
                say(here, "has no content of a kind this server knows")
            elif kind not in allowed:
                say(here, f"{kind} is not allowed in a message with {v1.Role.Name(message.role)}")
            else:
                _part(part, kind, here, calls, say)


def _part(part: v1.Part, kind: str, path: str, calls: set[str], say: Say) -> None:
    match kind:
        case "image":
            _source(part.image.source, f"{path}.image.source", say)
            known_enum(part.image.detail, v1.ImageDetail, f"{path}.image.detail", say)
        case "audio":
            _source(part.audio.source, f"{path}.audio.source", say)
        case "document":
            _source(part.document.source, f"{path}.document.source", say)
        case "tool_call":
            call = part.tool_call
            for name in ("id", "name"):
                if not getattr(call, name):
                    say(f"{path}.tool_call.{name}", "is required")
            calls.add(call.id)
        case "tool_result":
            _tool_result(part.tool_result, f"{path}.tool_result", calls, say)
        case "provider_part":
            if not part.provider_part.provider:
                say(f"{path}.provider_part.provider", "is required")
            json_object(part.provider_part.json, f"{path}.provider_part.json", say)


def _tool_result(result: v1.ToolResult, path: str, calls: set[str], say: Say) -> None:
    if not result.tool_call_id:
        say(f"{path}.tool_call_id", "is required")
    elif result.tool_call_id not in calls:
        say(f"{path}.tool_call_id", f"no preceding message has a tool call with ID {result.tool_call_id[:64]!r}")
    for i, part in enumerate(result.parts):
        kind = part.WhichOneof("kind")
        here = f"{path}.parts[{i}]"
        if kind not in _PARTS_OF_RESULT:
            say(here, f"{kind or 'no content'} is not allowed in a tool result")
        elif kind != "text":
            _part(part, kind, here, calls, say)


def _source(source: v1.MediaSource, path: str, say: Say) -> None:
    match source.WhichOneof("source"):
        case "data":
            if not source.data:
                say(f"{path}.data", "is empty")
            if not source.mime_type:
                say(f"{path}.mime_type", "is required with data")
        case "uri":
            if not source.uri.startswith(("https://", "gs://", "s3://")):
                say(f"{path}.uri", "must be an https URI (or gs or s3, in those clouds); send bytes as data")
        case None:
            say(path, "is required")


def _tools(request: v1.ChatRequest, say: Say) -> None:
    if len(request.tools) > 1024:
        say("tools", f"has {len(request.tools)} entries; at most 1024 are allowed")
    names: set[str] = set()
    for i, tool in enumerate(request.tools[:1024]):
        path = f"tools[{i}]"
        match tool.WhichOneof("kind"):
            case "function":
                function = tool.function
                if not _NAME.match(function.name):
                    say(f"{path}.function.name", "must be [a-zA-Z0-9_-]{1,64}" if function.name else "is required")
                elif function.name in names:
                    say(f"{path}.function.name", f"{function.name!r} is there twice")
                names.add(function.name)
                if function.parameters_json_schema:
                    schema(function.parameters_json_schema, f"{path}.function.parameters_json_schema", say)
            case "provider_tool":
                if not tool.provider_tool.provider:
                    say(f"{path}.provider_tool.provider", "is required")
                json_object(tool.provider_tool.json, f"{path}.provider_tool.json", say)
            case None:
                say(path, "is of no kind this server knows")
    choice = request.tool_choice
    known_enum(choice.mode, v1.ToolChoice.Mode, "tool_choice.mode", say)
    if choice.mode == v1.ToolChoice.MODE_REQUIRED and not request.tools:
        say("tool_choice.mode", "MODE_REQUIRED needs tools")
    for i, name in enumerate(choice.allowed_tool_names):
        if name not in names:
            say(f"tool_choice.allowed_tool_names[{i}]", f"no function in tools has the name {name[:64]!r}")


def _sampling(sampling: v1.SamplingOptions, path: str, say: Say) -> None:
    for field, value in sampling.ListFields():  # those that are set
        here = f"{path}.{field.name}"
        match field.name:
            case "repetition_penalty":
                if not 0 < value < math.inf:
                    say(here, "must be above 0")
            case "stop_sequences":
                if len(value) > 16:
                    say(here, f"has {len(value)} entries; at most 16 are allowed")
                for i, stop in enumerate(value[:16]):
                    if not 1 <= len(stop) <= 256:
                        say(f"{here}[{i}]", "must have 1 to 256 characters")
            case "logit_bias":
                if len(value) > 1024:
                    say(here, f"has {len(value)} entries; at most 1024 are allowed")
                for token, bias in islice(value.items(), 1024):
                    in_range(bias, -100, 100, f"{here}[{token}]", say)
            case name if name in _SAMPLING_RANGES:
                in_range(value, *_SAMPLING_RANGES[name], here, say)


def _reasoning(reasoning: v1.ReasoningOptions, path: str, say: Say) -> None:
    known_enum(reasoning.effort, v1.ReasoningEffort, f"{path}.effort", say)
    known_enum(reasoning.visibility, v1.ReasoningOptions.Visibility, f"{path}.visibility", say)
    if reasoning.HasField("budget_tokens") and reasoning.budget_tokens < 0:
        say(f"{path}.budget_tokens", "must not be negative")


def _output(output: v1.OutputOptions, say: Say) -> None:
    if output.verbosity not in ("", "low", "medium", "high"):
        say("output.verbosity", f"{output.verbosity[:32]!r} is none of low, medium, high")
    if output.HasField("json_schema"):
        form = output.json_schema
        if form.name and not _NAME.match(form.name):
            say("output.json_schema.name", "must be [a-zA-Z0-9_-]{1,64}")
        if form.json_schema:
            schema(form.json_schema, "output.json_schema.json_schema", say)
        else:
            say("output.json_schema.json_schema", "is required")


def _prompt_cache(cache: v1.PromptCacheOptions, say: Say) -> None:
    if len(cache.key) > 256:
        say("prompt_cache.key", "is longer than 256 characters")
    positive(cache, "ttl", "prompt_cache", say)


def _response_cache(cache: v1.ResponseCacheOptions, say: Say) -> None:
    known_enum(cache.mode, v1.ResponseCacheOptions.Mode, "response_cache.mode", say)
    positive(cache, "ttl", "response_cache", say)
    if len(cache.namespace) > 128:
        say("response_cache.namespace", "is longer than 128 characters")
    if cache.HasField("min_similarity"):
        in_range(cache.min_similarity, 0, 1, "response_cache.min_similarity", say)


def _common(request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest, say: Say) -> None:
    """Fields that all requests for inference share."""
    if not isinstance(request, v1.RerankRequest) and len(request.end_user_id) > 128:
        say("end_user_id", "is longer than 128 characters")
    if request.metadata:
        _metadata(request.metadata, say)
    if request.idempotency_key:
        _key(request.idempotency_key, say)
    if request.provider_options_json:
        for provider, text in request.provider_options_json.items():
            json_object(text, f"provider_options_json[{provider[:64]!r}]", say)
    known_enum(request.unsupported_policy, v1.UnsupportedPolicy, "unsupported_policy", say)
    if request.HasField("routing"):
        _routing(request.routing, say)


def _key(key: str, say: Say) -> None:
    if len(key) > 255:
        say("idempotency_key", "is longer than 255 characters")
    elif not (key.isascii() and key.isprintable()):
        say("idempotency_key", "must be printable ASCII")


def _metadata(metadata: Mapping[str, str], say: Say) -> None:
    if len(metadata) > 64:
        say("metadata", f"has {len(metadata)} pairs; at most 64 are allowed")
    for key, value in islice(metadata.items(), 64):
        if len(key.encode()) > 64 or not key:
            say(f"metadata[{key[:64]!r}]", "keys must have 1 to 64 bytes")
        if len(value.encode()) > 512:
            say(f"metadata[{key[:64]!r}]", "values must have at most 512 bytes")


def _routing(routing: v1.RoutingOptions, say: Say) -> None:
    if len(routing.fallbacks) > 8:
        say("routing.fallbacks", f"has {len(routing.fallbacks)} entries; at most 8 are allowed")
    for i, fallback in enumerate(routing.fallbacks[:8]):
        path = f"routing.fallbacks[{i}]"
        _model(fallback.model, f"{path}.model", say)
        _sampling(fallback.sampling, f"{path}.sampling", say)
        _reasoning(fallback.reasoning, f"{path}.reasoning", say)
        if fallback.HasField("weight"):
            in_range(fallback.weight, 0, 1000, f"{path}.weight", say)
    known_enum(routing.strategy, v1.RoutingOptions.Strategy, "routing.strategy", say)
    if len(routing.regions) > 32:
        say("routing.regions", f"has {len(routing.regions)} entries; at most 32 are allowed")
    for i, region in enumerate(routing.regions[:32]):
        if not _REGION.fullmatch(region):
            say(f"routing.regions[{i}]", "must be lower-case letters, digits and '-', 1 to 63 of them")
    if routing.HasField("max_cost_nano_usd") and routing.max_cost_nano_usd <= 0:
        say("routing.max_cost_nano_usd", "must be above 0")
    if routing.HasField("max_attempts"):
        in_range(routing.max_attempts, 1, 32, "routing.max_attempts", say)
    for name in ("attempt_timeout", "first_output_timeout"):
        positive(routing, name, "routing", say)
    if routing.mid_stream_fallback or routing.continuation:
        _recovery(routing, say)


def _recovery(routing: v1.RoutingOptions, say: Say) -> None:
    known_enum(routing.mid_stream_fallback, v1.RoutingOptions.MidStreamFallback, "routing.mid_stream_fallback", say)
    known_enum(routing.continuation, v1.RoutingOptions.Continuation, "routing.continuation", say)
    if routing.continuation and routing.mid_stream_fallback != v1.RoutingOptions.MID_STREAM_FALLBACK_CONTINUE:
        say("routing.continuation", "means nothing without MID_STREAM_FALLBACK_CONTINUE")
