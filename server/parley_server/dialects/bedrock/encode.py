"""A `ChatRequest` as a call of Converse."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.bedrock.blocks import Conversation
from parley_server.dialects.bedrock.cachepoints import CachePoints
from parley_server.dialects.bedrock.families import Family, family
from parley_server.dialects.bedrock.thinking import Thought, thought
from parley_server.dialects.bedrock.tools import Tools

_OURS = ("messages", "model", "modelId", "stream")
_SAYS_NOTHING = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1}
_SAMPLING = {"temperature": "temperature", "top_p": "topP"}


def path(model: str, operation: str) -> str:
    """The path of an operation on a model: its name, perhaps an ARN, is one segment."""
    return f"/model/{quote(model, safe='')}/{operation}"


def encode(request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
    """The call that asks for `request`.

    Guardrails, latency modes and the like go in `provider_options_json`, which is merged last. Ranges of sampling
    options are the provider's to check. Raises UnsupportedParameter or InvalidRequest for what cannot be sent.
    """
    wishes = Wishes(request.unsupported_policy)
    notes: list[v1.Warning] = []
    row = family(target.known_as)
    points = CachePoints(request.prompt_cache, row, wishes)
    how = thought(request, target, row, wishes)
    tools = Tools(request, target, points, wishes, notes)
    conversation = Conversation(request.messages, target, row, points, wishes, notes)
    config = tools.config(conversation, forced_tools=how.forced_tools)
    body: dict[str, Any] = {"messages": conversation.messages}
    if conversation.system:
        body["system"] = conversation.system
    if config:
        body["toolConfig"] = config
    _sampling(body, request.sampling, row, how, wishes)
    _output(body, request.output, wishes)
    if how.fields:
        body["additionalModelRequestFields"] = how.fields
    if request.routing.service_tier:
        body["serviceTier"] = {"type": request.routing.service_tier}
    if request.end_user_id:
        wishes.unmet("end_user_id", "Converse has no word for end users")
    if stream and request.include_provider_response:
        wishes.unmet("include_provider_response", "a stream has no one body to return")
    points.settle(
        config.get("tools", []), conversation.system, *(message["content"] for message in conversation.messages)
    )
    return HttpCall(
        path=path(target.model, "converse-stream" if stream else "converse"),
        body=dump(body, request.provider_options_json.get(target.provider, ""), _OURS),
        warnings=(*wishes.warnings(), *notes),
    )


def _sampling(body: dict[str, Any], sampling: v1.SamplingOptions, row: Family, how: Thought, wishes: Wishes) -> None:
    config: dict[str, Any] = {}
    if how.max_tokens is not None:
        config["maxTokens"] = how.max_tokens
    for field, value in sampling.ListFields():
        match field.name:
            case "max_output_tokens":
                pass
            case "stop_sequences":
                config["stopSequences"] = list(value)
            case "temperature" | "top_p" if how.sampling:
                config[_SAMPLING[field.name]] = value
            case "top_k" if how.sampling and row.top_k:
                _put(how.fields, row.top_k, value)
            case "temperature" | "top_p" | "top_k":
                wishes.unmet(f"sampling.{field.name}", f"this model takes no {field.name}")
            case name if value == _SAYS_NOTHING.get(name):
                pass
            case _:
                wishes.unmet(f"sampling.{field.name}", f"Converse has no {field.name}")
    if config:
        body["inferenceConfig"] = config


def _put(fields: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        fields = fields.setdefault(step, {})
    fields[path[-1]] = value


def _output(body: dict[str, Any], output: v1.OutputOptions, wishes: Wishes) -> None:
    match output.WhichOneof("format"):
        case "json_schema":
            form = output.json_schema
            schema = {"schema": form.json_schema, "name": form.name or "output"}
            if form.description:
                schema["description"] = form.description
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        case "json_object":
            wishes.unmet("output.json_object", "Converse gives JSON only to a schema")
    if output.verbosity:
        wishes.unmet("output.verbosity", "Converse has no verbosity")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "Converse takes no predicted output")
