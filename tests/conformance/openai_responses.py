"""What recordings of the Responses API say, read without the dialect: from the API's reference, in the simplest way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.conformance.adapter import Answer, Inexpressible, ToolUse
from tests.conformance.checks import parsed
from tests.conformance.importers.openai_responses import responses_request
from tests.conformance.recording import Recording

_INCOMPLETE = {"max_output_tokens": "LENGTH", "content_filter": "CONTENT_FILTER"}
_FAILURES: dict[str, type[GatewayError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "invalid_api_key": CredentialsRejected,
    "model_not_found": ModelNotFound,
}
_CLIENTS = ("function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call")
"""Items that wait for the client."""


class ResponsesAdapter:
    """The API as one provider serves it."""

    name = "openai-responses"

    def __init__(self, provider: str, quirks: ResponsesQuirks, *, encrypted: bool = False) -> None:
        self._provider = provider
        self._dialect = OpenAIResponses(quirks)
        self._encrypted = encrypted  # only encrypted reasoning can go back
        self._calls_last = quirks.calls_last
        self._repeats = quirks.call_ids_repeat
        self._beside = quirks.reasoning_beside

    def covers(self, recording: Recording) -> bool:
        return recording.api == "responses" and recording.provider == self._provider

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> OpenAIResponses:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        body = recording.request
        model = body.get("model") if isinstance(body, dict) else None
        return Target(recording.provider, model or recording.model)

    # ------------------------------------------------------------------------------------------------------- answers

    def read(self, recording: Recording) -> Answer:
        response = _whole(recording)
        status = response["status"]
        incomplete = response.get("incomplete_details") or {}
        answer = Answer(
            finish="STOP" if status == "completed" else _INCOMPLETE[incomplete["reason"]],
            native_finish=status if status == "completed" else incomplete["reason"],
            usage=_usage(response.get("usage") or {}),
            facts={
                "route.model": response["model"],
                "route.provider_response_id": response["id"],
                "route.service_tier": response.get("service_tier") or "",
                "message.role": v1.ROLE_ASSISTANT,
            },
        )
        for item in response["output"]:
            match item["type"]:
                case "message":
                    for block in item["content"]:
                        self._block(answer, block)
                case "reasoning":
                    answer.reasoning += "\n\n".join(_texts(item))
                case "function_call":
                    id = f"{response['id']}:{item['call_id']}" if self._repeats else item["call_id"]
                    answer.tool_calls.append(ToolUse(id, item["name"], parsed(item["arguments"] or "{}")))
        if self._beside:
            answer.reasoning += response["reasoning"] if response["reasoning"].strip() else ""
        if answer.finish == "STOP" and any(item["type"] in _CLIENTS for item in response["output"]):
            answer.finish = "TOOL_CALL"
        elif answer.finish == "STOP" and answer.refusal:
            answer.finish = "REFUSAL"
        return answer

    @staticmethod
    def _block(answer: Answer, block: Mapping[str, Any]) -> None:
        if block["type"] == "refusal":
            answer.refusal += block["refusal"]
            return
        answer.text += block["text"]
        answer.citations += [note.get("url") or note["filename"] for note in block.get("annotations") or ()]
        answer.logprobs += [(token["token"], token["logprob"]) for token in block.get("logprobs") or ()]

    # ------------------------------------------------------------------------------------------------------ requests

    def request(self, recording: Recording) -> v1.ChatRequest:
        target = self.target(recording)
        if self._calls_last and recording.status == 400:
            raise Inexpressible("calls before other items of their turn, which the API refuses")
        return responses_request(recording.request, target.provider, target.model)

    def normal(self, body: Any) -> Any:
        """Without what says nothing: nulls, empty lists, documented defaults; one form for what has several.

        Whether the answer is stored, and whether reasoning comes encrypted as well, is not part of what is asked: the
        dialect always says that nothing is to be stored. A function without `strict` is one that the API makes strict
        if it can; ours always says, and says no where nobody asked.
        """
        said = {
            name: value
            for name, value in body.items()
            if value not in (None, []) and name not in ("stream", "stream_options", "instructions", "store")
        }
        if body.get("store"):
            said["store"] = True
        items = body["input"]
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        if body.get("instructions"):
            items = [{"role": "system", "content": body["instructions"]}, *items]
        said["input"] = _joined(_normal_item(item) for item in items)
        include = [name for name in said.pop("include", ()) if name != "reasoning.encrypted_content"]
        if include:
            said["include"] = sorted(include)
        if "user" in said:
            said["safety_identifier"] = said.pop("user")
        if "tools" in said:
            said["tools"] = [_normal_tool(tool) for tool in said["tools"]]
        match said.get("text"):
            case {"format": {"type": "json_schema", "schema": schema} as form, **rest}:
                said["text"] = rest | {"format": form | {"schema": json.dumps(schema)}}
            case {"format": {"type": "text"}}:
                del said["text"]["format"]
        return said

    def turn(self, recording: Recording) -> Any:
        items: list[Any] = []
        response = _whole(recording)
        for item in response["output"]:
            if item["type"] == "reasoning" and self._encrypted and not item.get("encrypted_content"):
                continue
            said = _normal_item(item)
            if item["type"] == "function_call" and self._repeats:
                said["call_id"] = f"{response['id']}:{item['call_id']}"
            items.append(said)
        while items and items[-1]["type"] == "reasoning" and self._encrypted:
            items.pop()  # the API refuses reasoning that nothing follows
        if self._calls_last:
            items.sort(key=lambda item: item["type"] == "function_call")
        return _joined(items) or None

    def turn_sent(self, body: Any) -> Any:
        items = [_normal_item(item) for item in body["input"]]
        while items and not _is_of_model(items[-1]):
            items.pop()
        start = next((n for n in range(len(items), 0, -1) if not _is_of_model(items[n - 1])), 0)
        return _joined(items[start:])

    def failure(self, recording: Recording) -> type[GatewayError]:
        body = json.loads(recording.body)
        error = body.get("error")
        said = error if isinstance(error, dict) else body
        words = error if isinstance(error, str) else said.get("message") or ""
        if said.get("code") in _FAILURES:
            return _FAILURES[said["code"]]
        if recording.status == 401 or "Incorrect API key" in words:
            return CredentialsRejected
        if words.startswith("Model not found"):
            return ModelNotFound
        if recording.status == 429:
            return RateLimited
        return InvalidRequest if recording.status < 500 else Unavailable


def _whole(recording: Recording) -> dict[str, Any]:
    """The response. That of a stream is in its last event; its items have events of their own, and these count: where
    encrypted content is encrypted anew in the last event, the API asks for the first copy."""
    if not recording.streamed:
        whole: dict[str, Any] = json.loads(recording.body)
        return whole
    items = []
    for line in re.split(r"\r\n|\n|\r", recording.body.decode()):
        if line.startswith("data:") and line.removeprefix("data:").strip() != "[DONE]":
            event = json.loads(line.removeprefix("data:"))
            if event["type"] == "response.output_item.done":
                items.append(event["item"])
            elif event["type"] in ("response.completed", "response.incomplete"):
                return {**event["response"], "output": items or event["response"]["output"]}
    raise AssertionError("a stream without an end")


def _texts(item: Mapping[str, Any]) -> list[str]:
    return [piece["text"] for piece in (*(item.get("summary") or ()), *(item.get("content") or ())) if piece["text"]]


def _usage(said: Mapping[str, Any]) -> dict[str, int]:
    of_input, of_output = said.get("input_tokens_details") or {}, said.get("output_tokens_details") or {}
    counts = {
        "input_tokens": said.get("input_tokens"),
        "output_tokens": said.get("output_tokens"),
        "total_tokens": said.get("total_tokens"),
        "cache_read_input_tokens": of_input.get("cached_tokens"),
        "cache_write_input_tokens": of_input.get("cache_write_tokens"),
        "reasoning_output_tokens": of_output.get("reasoning_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None}


def _is_of_model(item: Mapping[str, Any]) -> bool:
    told = item["type"] == "function_call_output" or item.get("role", "assistant") != "assistant"
    return not told


def _normal_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item in its longest form, without what only tells where it is stored, and which state it once was in."""
    said = {name: value for name, value in item.items() if value is not None}
    kind = said.setdefault("type", "message")
    match kind:
        case "message":
            block = "output_text" if said["role"] == "assistant" else "input_text"
            content = said["content"]
            content = [{"type": block, "text": content}] if isinstance(content, str) else content
            said["content"] = [_normal_block(piece) for piece in content]
        case "function_call_output":
            output = said["output"]
            output = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
            said["output"] = [_normal_block(piece) for piece in output]
        case "function_call":
            said["arguments"] = said["arguments"] or "{}"
        case "reasoning":
            return {name: value for name, value in said.items() if name != "status" and value != []}
        case _:
            return said
    return {name: value for name, value in said.items() if name not in ("id", "item_id", "output_index", "status")}


def _normal_block(block: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in block.items() if name not in ("annotations", "logprobs")}
    if said.get("detail") == "auto":
        del said["detail"]
    return said


def _joined(items: Any) -> list[dict[str, Any]]:
    """Consecutive messages of the model joined, unless they are of different phases."""
    joined: list[dict[str, Any]] = []
    for item in items:
        last: Mapping[str, Any] = joined[-1] if joined else {}
        same = ("type", "role", "phase")
        if item.get("role") == "assistant" and all(last.get(name) == item.get(name) for name in same):
            joined[-1] = {**last, "content": [*last["content"], *item["content"]]}
        else:
            joined.append(item)
    return joined


def _normal_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in tool.items() if value not in (None, "")}
    if said["type"] == "function" and "function" not in said:
        said.setdefault("strict", False)
        schema = said.get("parameters") or {}
        if not schema.get("properties") and schema.get("type", "object") == "object":
            said.pop("parameters", None)  # no arguments, in any words
        else:
            said["parameters"] = json.dumps(schema)  # as text: the order of keys matters to models
    return said


def _adapters() -> Iterator[ResponsesAdapter]:
    for provider in ("openai", "chatgpt-codex"):
        yield ResponsesAdapter(provider, ResponsesQuirks.openai(), encrypted=True)
    for provider in ("azure-openai", "azure-ai"):
        yield ResponsesAdapter(provider, ResponsesQuirks.azure(), encrypted=True)
    yield ResponsesAdapter("bedrock", ResponsesQuirks.mantle())
    yield ResponsesAdapter("xai", ResponsesQuirks.xai())
    yield ResponsesAdapter("openrouter", ResponsesQuirks.openrouter())
    yield ResponsesAdapter("deepseek", ResponsesQuirks.deepseek())
    yield ResponsesAdapter("mistralrs", ResponsesQuirks.mistralrs())
    for provider in ("copilot", "llamacpp"):
        yield ResponsesAdapter(provider, ResponsesQuirks.compatible())


ADAPTERS = tuple(_adapters())
