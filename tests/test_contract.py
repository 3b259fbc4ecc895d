"""No wish of a request is dropped in silence.

Every field of every request message is either read by a named layer of the gateway, or, set on its own, it makes each
dialect say something else to the provider, refuse the request, or warn with the path of the field. The few exceptions
are listed with their reasons, and an exception that is none any more fails as well.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict

import parley_server
from parley import v1
from parley_server.core.errors import GatewayError, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.base import ChatDialect, EmbedDialect
from parley_server.dialects.ollama import OllamaChat, OllamaEmbed
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed

SERVER = Path(parley_server.__file__).parent
REQUESTS = (
    v1.ChatRequest,
    v1.StreamChatRequest,
    v1.GetChatRequest,
    v1.CancelChatRequest,
    v1.EmbedRequest,
    v1.ListModelsRequest,
    v1.GetModelRequest,
    v1.GetServerInfoRequest,
)

BY_LAYERS = {
    "ChatRequest.model": "providers/registry.py",
    "ChatRequest.metadata": "pipeline/trace.py",
    "ChatRequest.unsupported_policy": "api/incoming.py",
    "ChatRequest.include_provider_response": "providers/endpoint.py",
    "ChatRequest.idempotency_key": "pipeline/shared/__init__.py",
    "ChatRequest.response_cache": "pipeline/cache/layer.py",
    "ResponseCacheOptions.mode": "pipeline/cache/policy.py",
    "ResponseCacheOptions.ttl": "pipeline/cache/policy.py",
    "ResponseCacheOptions.namespace": "pipeline/cache/layer.py",
    "ResponseCacheOptions.min_similarity": "pipeline/cache/lookup.py",
    "StreamChatRequest.request": "api/gateway.py",
    "StreamChatRequest.resume": "api/gateway.py",
    "StreamChatRequest.options": "api/gateway.py",
    "ResumeFrom.response_id": "api/gateway.py",
    "ResumeFrom.after_sequence": "api/gateway.py",
    "GetChatRequest.response_id": "api/gateway.py",
    "CancelChatRequest.response_id": "api/gateway.py",
    "StreamOptions.resumable": "api/gateway.py",
    "StreamOptions.usage_updates": "api/gateway.py",
    "StreamOptions.heartbeat_interval": "api/gateway.py",
    "StreamOptions.coalesce_interval": "api/gateway.py",
    "RoutingOptions.fallbacks": "pipeline/router.py",
    "RoutingOptions.strategy": "core/routes.py",
    "RoutingOptions.allowed_providers": "core/routes.py",
    "RoutingOptions.denied_providers": "core/routes.py",
    "RoutingOptions.regions": "core/routes.py",
    "RoutingOptions.max_cost_nano_usd": "core/routes.py",
    "RoutingOptions.max_attempts": "pipeline/router.py",
    "RoutingOptions.mid_stream_fallback": "pipeline/recover.py",
    "RoutingOptions.continuation": "pipeline/recover.py",
    "RoutingOptions.attempt_timeout": "pipeline/timeout.py",
    "RoutingOptions.first_output_timeout": "pipeline/timeout.py",
    "FallbackTarget.model": "pipeline/router.py",
    "FallbackTarget.sampling": "core/routes.py",
    "FallbackTarget.reasoning": "core/routes.py",
    "FallbackTarget.weight": "pipeline/router.py",
    "EmbedRequest.response_cache": "pipeline/cache/embeds.py",
    "EmbedRequest.model": "providers/registry.py",
    "EmbedRequest.encoding": "providers/endpoint.py",
    "EmbedRequest.metadata": "pipeline/trace.py",
    "EmbedRequest.idempotency_key": "pipeline/shared/__init__.py",
    "EmbedRequest.unsupported_policy": "api/incoming.py",
    "ListModelsRequest.page_size": "api/models.py",
    "ListModelsRequest.page_token": "api/models.py",
    "ListModelsRequest.provider": "api/models.py",
    "ListModelsRequest.capabilities": "api/models.py",
    "ListModelsRequest.operation": "api/models.py",
    "GetModelRequest.model": "api/gateway.py",
}
"""Fields that no dialect need know, and the file that reads them."""

SET_BY_THE_SERVER = {"Part.citations", "RefusalPart.category"}
"""Parts of an answer that come back with the history: they tell a model nothing."""

Wish = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A wish: `changed` differs from `base` in the field only."""

    name: str
    """Message and field, and the value where several matter."""
    path: str
    changed: Wish
    base: Wish = field(default_factory=dict)

    @property
    def field_name(self) -> str:
        return self.name.partition("=")[0]


def user(*parts: Wish, **more: Any) -> Wish:
    return {"role": "ROLE_USER", "parts": list(parts) or [{"text": "hi"}], **more}


def says(*parts: Wish) -> list[Wish]:
    """A conversation in which the model has said `parts`, and its call has a result."""
    answer = {"role": "ROLE_ASSISTANT", "parts": [{"text": "well"}, *parts]}
    results = [result(p["toolCall"]["id"]) for p in parts if "toolCall" in p]
    return [user(), answer, *({"role": "ROLE_TOOL", "parts": [{"toolResult": r}]} for r in results), user()]


def result(call: str, **more: Any) -> Wish:
    return {"toolCallId": call, "parts": [{"text": "42"}], **more}


def results(**more: Any) -> Wish:
    call = {"toolCall": {"id": "c", "name": "f", "argumentsJson": "{}"}}
    turns = [user(), {"role": "ROLE_ASSISTANT", "parts": [call]}]
    return {"messages": [*turns, {"role": "ROLE_TOOL", "parts": [{"toolResult": result("c", **more)}]}]}


def tool(called: str = "f", **more: Any) -> Wish:
    return {"function": {"name": called, "parametersJsonSchema": '{"type":"object"}', **more}}


ASKED: Wish = {"model": "lab/m", "messages": [user()]}
PNG: Wish = {"data": "iVBORw==", "mimeType": "image/png"}
PDF: Wish = {"data": "JVBERi0=", "mimeType": "application/pdf"}
TXT: Wish = {"data": "YWJj", "mimeType": "text/plain"}
WAV: Wish = {"data": "UklGRg==", "mimeType": "audio/wav"}
STATE: Wish = {
    "provider": "lab",
    "model": "MODEL",  # stands for that of the target
    "data": b64encode(b'{"field":"reasoning","reasoning_details":[{"data":"x"}]}').decode(),
}
SCHEMA: Wish = {"jsonSchema": {"jsonSchema": '{"type":"object","properties":{}}'}}
MARKED: Wish = {"messages": [user({"text": "hi", "cacheBreakpoint": {}})]}
TOOLS: Wish = {"tools": [tool(), tool("g")]}
PART = "messages[0].parts[0]"


def parts(path: str, kind: str, changed: Wish, base: Wish | None = None, name: str = "") -> Case:
    """A wish within the one part of a user message."""
    return Case(
        name or path,
        f"{PART}.{kind}",
        {"messages": [user(changed)]},
        {"messages": [user(base)]} if base is not None else {},
    )


def options(group: str, message: str, **values: Any) -> Iterator[Case]:
    """One case for each value of a group of options; lists are several values of one field."""
    descriptor = getattr(v1, message).DESCRIPTOR
    for camel, given in values.items():
        name = next(f.name for f in descriptor.fields if f.json_name == camel)
        for value in given if isinstance(given, tuple) else (given,):
            yield Case(f"{message}.{name}={value}", f"{group}.{name}", {_camel(group): {camel: value}})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def values(enum: Any) -> tuple[str, ...]:
    """All values but the unspecified one."""
    return tuple(name for name in enum.keys() if enum.Value(name))  # noqa: SIM118  # no dictionary


CHAT = [
    Case("ChatRequest.messages", "messages", {"messages": [user({"text": "other"})]}),
    Case("ChatRequest.tools", "tools", TOOLS),
    Case("ChatRequest.tool_choice", "tool_choice", {**TOOLS, "toolChoice": {"mode": "MODE_NONE"}}, TOOLS),
    Case("ChatRequest.sampling", "sampling", {"sampling": {"temperature": 0.5}}),
    Case("ChatRequest.reasoning", "reasoning", {"reasoning": {"effort": "REASONING_EFFORT_HIGH"}}),
    Case("ChatRequest.output", "output", {"output": SCHEMA}),
    Case("ChatRequest.prompt_cache", "prompt_cache", {"promptCache": {"key": "k"}}),
    Case("ChatRequest.routing", "routing", {"routing": {"serviceTier": "flex"}}),
    Case("ChatRequest.end_user_id", "end_user_id", {"endUserId": "u"}),
    Case("ChatRequest.provider_options_json", "provider_options_json", {"providerOptionsJson": {"lab": '{"x":1}'}}),
    Case("RoutingOptions.service_tier", "routing.service_tier", {"routing": {"serviceTier": "flex"}}),
    # messages
    *(
        Case(
            f"Message.role={role}",
            "messages[0]",
            {"messages": [{"role": role, "parts": [{"text": "a"}]}, user()]},
            base,
        )
        for base in [{"messages": [user({"text": "a"}), user()]}]
        for role in ("ROLE_SYSTEM", "ROLE_DEVELOPER", "ROLE_ASSISTANT")
    ),
    Case("Message.parts", "messages[0].parts", {"messages": [user({"text": "hi"}, {"text": "there"})]}),
    Case("Message.name", "messages[0].name", {"messages": [user(name="ann")]}),
    # parts of the user
    parts("Part.text", "text", {"text": "other"}),
    parts("Part.image", "image", {"image": {"source": PNG}}),
    parts("Part.audio", "audio", {"audio": {"source": WAV}}),
    parts("Part.document", "document", {"document": {"source": PDF}}),
    parts("Part.provider_part", "provider_part", {"providerPart": {"provider": "lab", "type": "x", "json": '{"a":1}'}}),
    Case("Part.cache_breakpoint", f"{PART}.cache_breakpoint", MARKED),
    Case(
        "CacheBreakpoint.ttl",
        f"{PART}.cache_breakpoint.ttl",
        {"messages": [user({"text": "hi", "cacheBreakpoint": {"ttl": "3600s"}})]},
        MARKED,
    ),
    parts("ImagePart.source", "image.source", {"image": {"source": PNG}}),
    *(
        parts(
            "",
            "image.detail",
            {"image": {"source": PNG, "detail": d}},
            {"image": {"source": PNG}},
            f"ImagePart.detail={d}",
        )
        for d in values(v1.ImageDetail)
    ),
    parts(
        "MediaSource.data",
        "image.source.data",
        {"image": {"source": {**PNG, "data": "AAAA"}}},
        {"image": {"source": PNG}},
    ),
    parts(
        "MediaSource.uri",
        "image.source.uri",
        {"image": {"source": {"uri": "https://h/x.png"}}},
        {"image": {"source": PNG}},
    ),
    parts(
        "MediaSource.mime_type",
        "image.source.mime_type",
        {"image": {"source": {**PNG, "mimeType": "image/webp"}}},
        {"image": {"source": PNG}},
    ),
    parts("AudioPart.source", "audio.source", {"audio": {"source": WAV}}),
    parts("DocumentPart.source", "document.source", {"document": {"source": TXT}}),
    *(
        parts(
            "",
            f"document.{name}",
            {"document": {"source": source, _camel(name): value}},
            {"document": {"source": source}},
            f"DocumentPart.{name}={source['mimeType']}",
        )
        for source in (TXT, PDF)
        for name, value in (("title", "T"), ("context", "C"), ("citations_enabled", True))
    ),
    # parts of the model
    Case(
        "Part.reasoning",
        "messages[1].parts[1]",
        {"messages": says({"reasoning": {"text": "so"}})},
        {"messages": says()},
    ),
    Case(
        "Part.tool_call",
        "messages[1].parts[1]",
        {"messages": says({"toolCall": {"id": "c", "name": "f"}})},
        {"messages": says()},
    ),
    Case("Part.refusal", "messages[1].parts[1]", {"messages": says({"refusal": {"text": "no"}})}, {"messages": says()}),
    Case(
        "RefusalPart.text",
        "messages[1].parts[1]",
        {"messages": says({"refusal": {"text": "no"}})},
        {"messages": says({"refusal": {"text": "never"}})},
    ),
    *(
        Case(
            name,
            "messages[1].parts[1]",
            {"messages": says({"reasoning": {"text": "so", **more}, **({"replayState": state} if state else {})})},
            {"messages": says({"reasoning": {"text": before}, "replayState": STATE})},
        )
        for name, before, more, state in (
            ("ReasoningPart.text", "ah", {}, STATE),
            ("ReasoningPart.redacted", "so", {"redacted": True}, STATE),
            ("Part.replay_state", "so", {}, {}),
            ("ReplayState.provider", "so", {}, STATE | {"provider": "else"}),
            ("ReplayState.model", "so", {}, STATE | {"model": "else"}),
            ("ReplayState.data", "so", {}, STATE | {"data": "e30="}),
        )
    ),
    *(
        Case(
            f"ToolCall.{name}",
            "messages[1].parts[1].tool_call",
            {"messages": says({"toolCall": {"id": "c", "name": "f", "argumentsJson": "{}", _camel(name): value}})},
            {"messages": says({"toolCall": {"id": "c", "name": "f", "argumentsJson": "{}"}})},
        )
        for name, value in (("id", "d"), ("name", "g"), ("arguments_json", '{"a":1}'))
    ),
    *(
        Case(
            f"ProviderPart.{name}", "messages[1].parts[1]", {"messages": says({"providerPart": {**p, name: value}})}, b
        )
        for p in [{"provider": "lab", "type": "x", "json": '{"a":1}'}]
        for b in [{"messages": says({"providerPart": p})}]
        for name, value in (("provider", "else"), ("type", "custom"), ("json", '{"a":2}'))
    ),
    # results of tools
    Case("Part.tool_result", "messages[2].parts[0].tool_result", results(), {"messages": results()["messages"][:2]}),
    Case("ToolResult.parts", "messages[2].parts[0].tool_result.parts", results(parts=[{"text": "43"}]), results()),
    Case(
        "ToolResult.parts=image",
        "messages[2].parts[0].tool_result.parts[0].image",
        results(parts=[{"image": {"source": PNG}}]),
        results(),
    ),
    Case("ToolResult.is_error", "messages[2].parts[0].tool_result.is_error", results(isError=True), results()),
    Case("ToolResult.name", "messages[2].parts[0].tool_result.name", results(name="other"), results()),
    Case(
        "ToolResult.tool_call_id", "messages[2].parts[0].tool_result.tool_call_id", results(toolCallId="d"), results()
    ),
    # tools
    Case("Tool.function", "tools[0].function", {"tools": [tool()]}),
    Case(
        "Tool.provider_tool",
        "tools[0].provider_tool",
        {"tools": [{"providerTool": {"provider": "lab", "json": '{"type":"x"}'}}]},
    ),
    Case(
        "Tool.cache_breakpoint",
        "tools[0].cache_breakpoint",
        {"tools": [tool() | {"cacheBreakpoint": {}}]},
        {"tools": [tool()]},
    ),
    *(
        Case(f"ProviderTool.{name}", "tools[0]", {"tools": [tool(), {"providerTool": {**p, name: value}}]}, b)
        for p in [{"provider": "lab", "json": '{"type":"x"}'}]
        for b in [{"tools": [tool(), {"providerTool": p}]}]
        for name, value in (("json", '{"type":"y"}'),)
    ),
    Case(
        "ProviderTool.provider", "tools[0]", {"tools": [{"providerTool": {"provider": "else", "json": '{"type":"x"}'}}]}
    ),
    *(
        Case(
            f"FunctionTool.{name}={value}",
            f"tools[0].function.{name}",
            {"tools": [tool("f", **{_camel(name): value})]},
            {"tools": [tool()]},
        )
        for name, value in (
            ("name", "g"),
            ("description", "does"),
            ("parameters_json_schema", '{"type":"object","properties":{}}'),
            ("strict", True),
            ("strict", False),
        )
    ),
    *(
        Case(f"ToolChoice.{name}={value}", f"tool_choice.{name}", {**TOOLS, "toolChoice": {_camel(name): value}}, TOOLS)
        for name, value in (
            ("mode", "MODE_AUTO"),
            ("mode", "MODE_NONE"),
            ("mode", "MODE_REQUIRED"),
            ("allowed_tool_names", ["f"]),
            ("parallel_tool_calls", True),
            ("parallel_tool_calls", False),
        )
    ),
    Case(
        "ToolChoice.allowed_tool_names=required",
        "tool_choice.allowed_tool_names",
        {**TOOLS, "toolChoice": {"mode": "MODE_REQUIRED", "allowedToolNames": ["f"]}},
        {**TOOLS, "toolChoice": {"mode": "MODE_REQUIRED"}},
    ),
    # options
    *options(
        "sampling",
        "SamplingOptions",
        maxOutputTokens=7,
        temperature=0.5,
        topP=0.5,
        topK=5,
        minP=0.1,
        frequencyPenalty=0.5,
        presencePenalty=0.5,
        repetitionPenalty=1.5,
        seed=7,
        stopSequences=["x"],
        logitBias={"7": 1.0},
        topLogprobs=(0, 3),
    ),
    *options(
        "reasoning",
        "ReasoningOptions",
        effort=values(v1.ReasoningEffort),
        budgetTokens=(0, 2000),
        visibility=values(v1.ReasoningOptions.Visibility),
    ),
    *options(
        "output",
        "OutputOptions",
        text={},
        jsonObject={},
        jsonSchema=SCHEMA["jsonSchema"],
        verbosity="low",
        predictedText="x",
    ),
    *(
        Case(
            f"JsonSchemaFormat.{name}={value}",
            f"output.json_schema.{name}",
            {"output": {"jsonSchema": {**SCHEMA["jsonSchema"], _camel(name): value}}},
            {"output": SCHEMA},
        )
        for name, value in (
            ("name", "answer"),
            ("json_schema", '{"type":"object"}'),
            ("strict", True),
            ("strict", False),
            ("description", "d"),
        )
    ),
    *options("prompt_cache", "PromptCacheOptions", key="k"),
    *(
        Case(
            f"PromptCacheOptions.{name}={value}",
            f"prompt_cache.{name}",
            {**MARKED, "promptCache": {name: value}},
            MARKED,
        )
        for name, value in (("mode", "MODE_AUTO"), ("mode", "MODE_EXPLICIT"), ("mode", "MODE_OFF"), ("ttl", "3600s"))
    ),
]
EMBED = [
    Case("EmbedRequest.inputs", "inputs", {"inputs": [{"text": "other"}]}),
    Case("EmbedInput.text", "inputs[0].text", {"inputs": [{"text": "other"}]}),
    Case("EmbedInput.tokens", "inputs[0].tokens", {"inputs": [{"tokens": {"ids": [1]}}]}),
    Case(
        "TokenIds.ids",
        "inputs[0].tokens",
        {"inputs": [{"tokens": {"ids": [1]}}]},
        {"inputs": [{"tokens": {"ids": [2]}}]},
    ),
    Case("EmbedRequest.dimensions", "dimensions", {"dimensions": 64}),
    Case("EmbedRequest.routing", "routing.service_tier", {"routing": {"serviceTier": "flex"}}),
    Case("EmbedRequest.end_user_id", "end_user_id", {"endUserId": "u"}),
    Case("EmbedRequest.provider_options_json", "provider_options_json", {"providerOptionsJson": {"lab": '{"x":1}'}}),
]

DIALECTS: dict[str, tuple[ChatDialect, Target]] = {
    "openai": (OpenAIChat(Quirks.openai()), Target("lab", "gpt-4o")),
    "openai reasoning": (OpenAIChat(Quirks.openai()), Target("lab", "gpt-5.1")),
    "compatible": (OpenAIChat(Quirks.compatible()), Target("lab", "m")),
    "anthropic": (AnthropicMessages(), Target("lab", "claude-sonnet-4-5")),
    "anthropic adaptive": (AnthropicMessages(), Target("lab", "claude-opus-5")),
    "ollama": (OllamaChat(), Target("lab", "qwen3")),
}
EMBED_DIALECTS: dict[str, EmbedDialect] = {"openai": OpenAIEmbed(), "ollama": OllamaEmbed()}

EXCEPTIONS: dict[str, dict[str, str]] = {
    "": {"OutputOptions.text={}": "text is what comes anyway"},
    "openai": {
        "ToolResult.name": "results go by the ID of their call",
        "ReasoningOptions.visibility=VISIBILITY_OMITTED": "reasoning is never shown",
    },
    "compatible": {
        "ToolResult.name": "results go by the ID of their call",
        "ReasoningOptions.visibility=VISIBILITY_FULL": "reasoning that there is is shown in full",
        "PromptCacheOptions.mode=MODE_OFF": "no breakpoints are sent anyway",
        "ReasoningPart.redacted": "withheld reasoning has no text to send",
    },
    "anthropic": {
        "ToolResult.name": "results go by the ID of their call",
        "JsonSchemaFormat.name=answer": "a label, which has no place",
        "JsonSchemaFormat.strict=True": "output always follows the schema",
        "JsonSchemaFormat.strict=False": "more than was asked for: output always follows the schema",
        "PromptCacheOptions.mode=MODE_EXPLICIT": "only the breakpoints of the request are sent anyway",
    },
    "ollama": {
        "ReasoningPart.redacted": "withheld reasoning has no text to send",
        "Part.replay_state": "the server has no state of its own",
        "ReplayState.model": "the server has no state of its own",
        "ReplayState.data": "the server has no state of its own",
        "MediaSource.mime_type": "the server looks at the bytes",
        "FunctionTool.strict=False": "there is no guarantee anyway",
        "ToolChoice.mode=MODE_AUTO": "the model decides anyway",
        "ToolChoice.parallel_tool_calls=True": "several calls are possible anyway",
        "ReasoningOptions.visibility=VISIBILITY_FULL": "reasoning that there is is shown in full",
        "JsonSchemaFormat.name=answer": "a label, which has no place",
        "JsonSchemaFormat.strict=True": "output always follows the schema",
        "JsonSchemaFormat.strict=False": "more than was asked for: output always follows the schema",
        "PromptCacheOptions.mode=MODE_AUTO": "prefixes are cached anyway",
        "PromptCacheOptions.mode=MODE_OFF": "no breakpoints are sent anyway",
    },
}
"""By beginning of the dialect's name, the cases in which nothing need be said, and why."""
EXCEPTIONS_OF_ONE = {
    "anthropic": {"ReasoningOptions.visibility=VISIBILITY_OMITTED": "this model does not think unless asked to"},
}


def exception(dialect: str, case: Case) -> str:
    """Why `dialect` need not say anything to a case; empty if it has to."""
    found = [cases[case.name] for who, cases in EXCEPTIONS.items() if dialect.startswith(who) and case.name in cases]
    return next(iter(found), EXCEPTIONS_OF_ONE.get(dialect, {}).get(case.name, ""))


@dataclass(frozen=True)
class Heard:
    """What became of a request."""

    said: Any
    noted: tuple[str, ...]


def heard(dialect: Any, wish: Wish, target: Target) -> Heard:
    wish = json.loads(json.dumps(wish).replace("MODEL", target.model))
    try:
        if dialect in EMBED_DIALECTS.values():
            asked = {"model": "lab/m", "inputs": [{"text": "hi"}], **wish}
            call = dialect.encode(ParseDict(asked, v1.EmbedRequest()), target)
        else:
            call = dialect.encode(ParseDict({**ASKED, **wish}, v1.ChatRequest()), target, stream=False)
    except GatewayError as error:
        return Heard("refused", tuple(violation.field for violation in error.violations))
    headers = dict(call.headers)
    return Heard((call.path, json.loads(call.body), headers), tuple(warning.field for warning in call.warnings))


def is_silent(dialect: ChatDialect | EmbedDialect, case: Case, target: Target) -> bool:
    """Whether the wish makes no difference to the provider, and nothing names it, or a message that it is part of."""
    before = heard(dialect, case.base, target)
    after = heard(dialect, case.changed, target)
    if after.said != before.said and after.said != "refused":
        return False
    return not any(noted and (case.path.startswith(noted) or noted.startswith(case.path)) for noted in after.noted)


@pytest.mark.parametrize("case", CHAT, ids=lambda case: case.name)
@pytest.mark.parametrize("name", DIALECTS)
def test_no_wish_of_a_chat_is_dropped_in_silence(name: str, case: Case) -> None:
    dialect, target = DIALECTS[name]
    why = exception(name, case)
    assert is_silent(dialect, case, target) == bool(why), why


@pytest.mark.parametrize("case", EMBED, ids=lambda case: case.name)
@pytest.mark.parametrize("name", EMBED_DIALECTS)
def test_no_wish_of_an_embedding_is_dropped_in_silence(name: str, case: Case) -> None:
    assert not is_silent(EMBED_DIALECTS[name], case, Target("lab", "m"))


@pytest.mark.parametrize("name", DIALECTS)
def test_wishes_that_are_warnings_are_refusals_where_the_request_says_so(name: str) -> None:
    dialect, target = DIALECTS[name]
    for case in CHAT:
        request = ParseDict({**ASKED, **case.changed}, v1.ChatRequest())
        try:
            warnings = dialect.encode(request, target, stream=False).warnings
        except GatewayError:
            continue
        request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        unmet = [warning for warning in warnings if warning.code != "TOOL_NOT_LISTED"]  # the wish is met, at a price
        if unmet:
            with pytest.raises(UnsupportedParameter) as caught:
                dialect.encode(request, target, stream=False)
            assert [violation.field for violation in caught.value.violations] == [warning.field for warning in unmet]
        else:
            dialect.encode(request, target, stream=False)


def fields(message: Descriptor, seen: set[str]) -> Iterator[str]:
    """`Message.field` of every field that a message and those within it have."""
    if message.full_name in seen or not message.full_name.startswith("parley.") or message.name == "Citation":
        return
    seen.add(message.full_name)
    for entry in message.fields:
        yield f"{message.name}.{entry.name}"
        if entry.message_type is not None and not entry.message_type.GetOptions().map_entry:
            yield from fields(entry.message_type, seen)


def test_every_field_of_every_request_is_accounted_for() -> None:
    seen: set[str] = set()
    all_fields = {name for request in REQUESTS for name in fields(request.DESCRIPTOR, seen)}
    by_dialects = {case.field_name for case in (*CHAT, *EMBED)}
    assert all_fields - by_dialects - BY_LAYERS.keys() - SET_BY_THE_SERVER == set(), "nobody reads these"
    assert (by_dialects | BY_LAYERS.keys() | SET_BY_THE_SERVER) - all_fields == set(), "these are no fields"


@pytest.mark.parametrize("name", BY_LAYERS)
def test_layers_read_what_they_are_said_to_read(name: str) -> None:
    text = (SERVER / BY_LAYERS[name]).read_text()
    field_name = name.partition(".")[2]
    assert f".{field_name}" in text or f'"{field_name}"' in text or field_name == "model"
