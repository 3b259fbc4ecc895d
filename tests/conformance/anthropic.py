"""What recordings of the Messages API say, read without the dialect: from the API's reference, in the simplest way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core import errors
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.base import ChatDialect
from tests.conformance.adapter import Answer, ToolUse
from tests.conformance.importers.anthropic import Importer
from tests.conformance.recording import Recording

_FINISH = {
    "end_turn": "STOP",
    "stop_sequence": "STOP",
    "max_tokens": "LENGTH",
    "tool_use": "TOOL_CALL",
    "pause_turn": "PAUSE",
    "refusal": "REFUSAL",
    "model_context_window_exceeded": "CONTEXT_WINDOW",
}
_FAILURES: dict[str, type[errors.GatewayError]] = {
    "invalid_request_error": errors.InvalidRequest,
    "authentication_error": errors.CredentialsRejected,
    "not_found_error": errors.ModelNotFound,
    "rate_limit_error": errors.RateLimited,
    "overloaded_error": errors.Overloaded,
    "api_error": errors.Unavailable,
}
# Fields whose documented default is this value: leaving them out says the same.
_DEFAULTS: dict[str, Any] = {
    "stream": False,
    "is_error": False,
    "disable_parallel_tool_use": False,
    "caller": {"type": "direct"},
    "ttl": "5m",
}


class AnthropicAdapter:
    """The Messages API, as one provider serves it."""

    name = "anthropic"

    def __init__(
        self, provider: str, *, apis: tuple[str, ...] = ("messages",), dialect: ChatDialect | None = None
    ) -> None:
        self._provider = provider
        self._apis = apis
        self._dialect = dialect or AnthropicMessages()

    def covers(self, recording: Recording) -> bool:
        return recording.api in self._apis and recording.provider == self._provider

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> ChatDialect:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        return Target(provider=recording.provider, model=recording.model)

    def read(self, recording: Recording) -> Answer:
        message = _message(recording)
        answer = Answer(
            native_finish=message["stop_reason"] or "",
            finish=_FINISH[message["stop_reason"]],
            usage=_usage(message["usage"]),
            facts={
                "route.model": message["model"],
                "route.provider_response_id": message["id"],
                "route.service_tier": message["usage"].get("service_tier") or "",
                "stop_sequence": message["stop_sequence"] or "",
                "message.role": v1.ROLE_ASSISTANT,
            },
        )
        for block in message["content"]:
            match block["type"]:
                case "text":
                    answer.text += block["text"]
                    for citation in block.get("citations") or ():
                        answer.citations.append(citation.get("url") or citation.get("document_title") or "")
                case "thinking":
                    answer.reasoning += block["thinking"]
                case "tool_use":
                    answer.tool_calls.append(ToolUse(block["id"], block["name"], block["input"]))
        return answer

    def request(self, recording: Recording) -> v1.ChatRequest:
        return Importer(recording.request, self.target(recording)).request()

    def normal(self, body: Any) -> Any:
        said = _without_defaults(body)
        if "output_format" in said:  # the field's name while it was a beta
            said.setdefault("output_config", {})["format"] = said.pop("output_format")
        if "system" in said:
            said["system"] = _blocks(said["system"])
        turns: list[dict[str, Any]] = []
        for message in said["messages"]:
            content = [_normal_block(block) for block in _blocks(message["content"]) if not _is_blank(block)]
            if turns and turns[-1]["role"] == message["role"]:  # the API joins consecutive turns of one role
                turns[-1]["content"] += content
            else:
                turns.append({"role": message["role"], "content": content})
        said["messages"] = turns
        for tool in said.get("tools", ()):
            if tool.get("type") == "custom":  # what a tool without a type is
                del tool["type"]
        return said

    def turn(self, recording: Recording) -> Any:
        turns = recording.request["messages"]
        begun = _blocks(turns[-1]["content"]) if turns[-1]["role"] == "assistant" else []  # the answer goes on with it
        return _turn([*begun, *_message(recording)["content"]])

    def turn_sent(self, body: Any) -> Any:
        return _turn(next(turn for turn in reversed(body["messages"]) if turn["role"] == "assistant")["content"])

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        said = json.loads(recording.body)["error"]
        if said["message"].startswith("prompt is too long"):
            return errors.ContextLengthExceeded
        return _FAILURES[said["type"]]


def _message(recording: Recording) -> dict[str, Any]:
    """The recorded message; that of a stream put together."""
    if not recording.streamed:
        message: dict[str, Any] = json.loads(recording.body)
        return message
    message = {}
    for line in recording.body.decode().splitlines():
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append({**event["content_block"], "json": ""})
            case "content_block_delta":
                _grow(message["content"][event["index"]], event["delta"])
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= {name: value for name, value in event["usage"].items() if value is not None}
    for block in message["content"]:
        written = block.pop("json")
        if written:
            block["input"] = json.loads(written)
    return message


def _grow(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case "input_json_delta":
            block["json"] += delta["partial_json"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _usage(said: Mapping[str, Any]) -> dict[str, int]:
    counts = {"input_tokens": said["input_tokens"], "output_tokens": said["output_tokens"]}
    for name, ours in (("read", "cache_read_input_tokens"), ("creation", "cache_write_input_tokens")):
        cached = said.get(f"cache_{name}_input_tokens")
        if cached is not None:
            counts[ours] = cached
            counts["input_tokens"] += cached
    by_life = said.get("cache_creation")
    if by_life is not None and by_life.get("ephemeral_1h_input_tokens") is not None:
        counts["cache_write_1h_input_tokens"] = by_life["ephemeral_1h_input_tokens"]
    counts["total_tokens"] = counts["input_tokens"] + counts["output_tokens"]
    details = said.get("output_tokens_details")
    if details:
        counts["reasoning_output_tokens"] = details["thinking_tokens"]
    return counts


def _without_defaults(value: Any) -> Any:
    """`value` without what says nothing: nulls, documented defaults, and lists and descriptions that are empty."""
    match value:
        case dict():
            said = {name: _without_defaults(inner) for name, inner in value.items() if not _says_nothing(name, inner)}
            return said
        case list():
            return [_without_defaults(inner) for inner in value]
    return value


def _says_nothing(name: str, value: Any) -> bool:
    if name in ("input", "input_schema", "schema"):
        return False
    empty = name in ("tools", "stop_sequences", "citations", "description", "system") and value in ([], "")
    return value is None or empty or (name in _DEFAULTS and value == _DEFAULTS[name])


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _normal_block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "tool_result" and "content" in block:
        return {**block, "content": _blocks(block["content"])}
    return block


def _is_blank(block: Mapping[str, Any]) -> bool:
    """Text of white space alone says nothing, and the API refuses it nearly everywhere."""
    return block["type"] == "text" and not block["text"].strip()


def _turn(content: Any) -> Any:
    """Blocks as they are sent back."""
    blocks = [block for block in _without_defaults(_blocks(content)) if not _is_blank(block)]
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
    return blocks


ADAPTERS = (AnthropicAdapter("anthropic"), AnthropicAdapter("azure-ai"))
