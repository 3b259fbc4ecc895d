"""OpenAI's chat completions and embeddings, read from the recorded JSON in the plainest way."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from tests.conformance.adapter import Answer, ChatAdapter, EmbedAdapter, ToolUse
from tests.conformance.checks import parsed
from tests.conformance.importers.openai import chat_request, embed_request
from tests.conformance.recording import Recording

_FINISH = {"stop": "STOP", "length": "LENGTH", "content_filter": "CONTENT_FILTER", "error": "ERROR", "eos": "STOP"}
_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    503: Overloaded,
}


class OpenAIChatAdapter:
    """The recordings of api.openai.com, or of servers that follow it."""

    def __init__(self, name: str, home: bool, quirks: Quirks) -> None:
        self.name = name
        self._home = home
        self._dialect = OpenAIChat(quirks)
        self._reasoning = quirks.reasoning_fields

    def covers(self, recording: Recording) -> bool:
        return recording.api == "chat" and (recording.provider == "openai") == self._home

    def out_of_scope(self, recording: Recording) -> str:
        if not self._home and recording.provider in ("mistral", "anthropic"):
            return "content in blocks of its own: a dialect of its own"
        return ""

    def dialect(self, recording: Recording) -> OpenAIChat:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        model = recording.request.get("model") if isinstance(recording.request, dict) else recording.model
        return Target(recording.provider, model or "")

    # ------------------------------------------------------------------------------------------------------- answers

    def read(self, recording: Recording) -> Answer:
        whole = _whole(recording)
        if whole.get("error"):
            return Answer(failure=_of_status(whole["error"].get("code")))
        if not whole.get("choices"):
            return Answer(failure=ProtocolError)
        choice = next(c for c in whole["choices"] if not c.get("index"))
        message = choice["message"]
        native = choice.get("finish_reason") or ""
        answer = Answer(
            text=_text(message.get("content")),
            reasoning=next((message[field] for field in self._reasoning if message.get(field)), ""),
            refusal=message.get("refusal") or "",
            native_finish=native,
            finish=_FINISH.get(native, "UNSPECIFIED"),
            usage=_usage(whole.get("usage") or {}),
            citations=[a["url_citation"]["url"] for a in message.get("annotations") or ()],
            logprobs=[(t["token"], t["logprob"]) for t in (choice.get("logprobs") or {}).get("content") or ()],
            facts={
                "route.model": whole.get("model") or self.target(recording).model,
                "route.provider_response_id": whole.get("id") or "",
                "route.service_tier": whole.get("service_tier") or "",
                "route.system_fingerprint": whole.get("system_fingerprint") or "",
            },
        )
        for call in message.get("tool_calls") or ():
            function = call["function"]
            answer.tool_calls.append(
                ToolUse(call.get("id") or "", function["name"], parsed(function["arguments"] or "{}"))
            )
        if answer.tool_calls and answer.finish in ("STOP", "UNSPECIFIED"):
            answer.finish = "TOOL_CALL"
        elif native == "tool_calls":
            answer.finish = "STOP"
        elif answer.refusal and answer.finish == "STOP":
            answer.finish = "REFUSAL"
        return answer

    # ------------------------------------------------------------------------------------------------------ requests

    def request(self, recording: Recording) -> v1.ChatRequest:
        return chat_request(recording.request, recording.provider, reasoning_fields=self._reasoning)

    def normal(self, body: Any) -> Any:
        """Without what says nothing: nulls, empty lists, documented defaults; one name for what has two."""
        said = {
            name: value
            for name, value in body.items()
            if value is not None and name not in ("stream", "stream_options")
        }
        for old, new in (("max_tokens", "max_completion_tokens"), ("user", "safety_identifier")):
            if old in said:
                said[new] = said.pop(old)
        if not said.get("model"):  # Azure has it in the path
            said.pop("model", None)
        if not said.get("tools"):
            said.pop("parallel_tool_calls", None)
        if said.get("n") == 1:
            del said["n"]
        if said.get("logprobs") is False:
            del said["logprobs"]
        if said.get("top_logprobs") == 0:
            del said["top_logprobs"]
        if said.get("response_format") == {"type": "text"}:
            del said["response_format"]
        if "stop" in said:
            said["stop"] = [said["stop"]] if isinstance(said["stop"], str) else said["stop"]
            if not said["stop"]:
                del said["stop"]
        match said.get("response_format"):
            case {"json_schema": {"schema": schema} as named}:
                kept = {name: value for name, value in named.items() if value not in (None, "")}
                said["response_format"] |= {"json_schema": kept | {"schema": json.dumps(schema)}}
        if "tools" in said:
            said["tools"] = [_normal_tool(tool) for tool in said["tools"]]
            if not said["tools"]:
                del said["tools"]
        said["messages"] = [_normal_message(message) for message in body["messages"]]
        return said

    def turn(self, recording: Recording) -> Any:
        choice = next(c for c in _whole(recording)["choices"] if not c.get("index"))
        return self._said(choice["message"])

    def turn_sent(self, body: Any) -> Any:
        return self._said([message for message in body["messages"] if message["role"] == "assistant"][-1])

    def _said(self, message: dict[str, Any]) -> Any:
        return {
            "text": _text(message.get("content")),
            "refusal": message.get("refusal") or "",
            "reasoning": {field: message[field] for field in self._reasoning if message.get(field)},
            "details": details if isinstance(details := message.get("reasoning_details"), list) else [],
            "calls": [
                (call.get("id") or "", call["function"]["name"], call["function"]["arguments"] or "{}")
                for call in message.get("tool_calls") or ()
            ],
        }

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _failure(recording)


class OpenAIEmbedAdapter:
    """The embeddings of api.openai.com, or of servers that follow it."""

    def __init__(self, name: str, home: bool) -> None:
        self.name = name
        self._home = home
        self._dialect = OpenAIEmbed()

    def covers(self, recording: Recording) -> bool:
        return recording.api == "embeddings" and (recording.provider == "openai") == self._home

    def out_of_scope(self, recording: Recording) -> str:
        return "" if "/usage/" not in recording.path else "not an answer of /embeddings but an account's usage report"

    def dialect(self, recording: Recording) -> OpenAIEmbed:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        return Target(
            recording.provider, recording.request.get("model") or "" if recording.request else recording.model
        )

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        answer = json.loads(recording.body)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        usage = _usage(answer.get("usage") or {})
        return [_vector(row["embedding"]) for row in rows], {n: v for n, v in usage.items() if n != "output_tokens"}

    def request(self, recording: Recording) -> v1.EmbedRequest:
        return embed_request(recording.request, recording.provider)

    def normal(self, body: Any) -> Any:
        """One text is a list of one; the encoding on the wire is ours to choose."""
        said = {name: value for name, value in body.items() if value not in (None, "") and name != "encoding_format"}
        if isinstance(said["input"], str) or (said["input"] and isinstance(said["input"][0], int)):
            said["input"] = [said["input"]]
        return said

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _failure(recording)


def _vector(said: str | list[float]) -> list[float]:
    if isinstance(said, str):
        raw = base64.b64decode(said)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return said


def _whole(recording: Recording) -> dict[str, Any]:
    """The answer as one unary body; a stream put together by appending."""
    if not recording.streamed:
        whole: dict[str, Any] = json.loads(recording.body)
        return whole
    whole = {"choices": []}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "message": message}
    for line in re.split(r"\r\n|\n|\r", recording.body.decode()):
        if not line.startswith("data:") or line.removeprefix("data:").strip() == "[DONE]":
            continue
        chunk = json.loads(line.removeprefix("data:"))
        used = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        news = {name: value for name, value in chunk.items() if value and name not in ("choices", "usage")}
        whole |= news | ({"usage": used} if used else {})
        for part in chunk.get("choices") or ():
            if part.get("index"):
                continue
            whole["choices"] = [choice]
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            if part.get("logprobs"):
                tokens = choice.setdefault("logprobs", {"content": []})["content"]
                tokens += part["logprobs"].get("content") or []
            _append(message, part.get("delta") or {})
    return whole


def _append(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name in ("content", "refusal", "reasoning", "reasoning_content") and isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        elif name == "annotations" and value:
            message[name] = message.get(name, []) + value
        elif name == "reasoning_details" and value:
            _join(message.setdefault(name, []), value)
    for fragment in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        number = fragment.get("index", len(calls))
        while len(calls) <= number:
            calls.append({"id": "", "function": {"name": "", "arguments": ""}})
        call = calls[number]
        call["id"] = call["id"] or fragment.get("id") or ""
        call["function"]["name"] = call["function"]["name"] or fragment["function"].get("name") or ""
        arguments = fragment["function"].get("arguments") or ""
        call["function"]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)


def _join(blocks: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    """Pieces with the same index and type are one block."""
    for piece in pieces:
        same = [b for b in blocks if (b.get("index"), b["type"]) == (piece.get("index"), piece["type"])]
        if same and "index" in piece:
            for name in ("text", "summary", "data", "signature"):
                if piece.get(name):
                    same[0][name] = (same[0].get(name) or "") + piece[name]
        else:
            blocks.append(dict(piece))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(block["text"] for block in content if block["type"] == "text")
    return content or ""


def _usage(said: dict[str, Any]) -> dict[str, int]:
    prompt, completion = said.get("prompt_tokens_details") or {}, said.get("completion_tokens_details") or {}
    reasoning = completion.get("reasoning_tokens")
    output = said.get("completion_tokens")
    if output is not None and said.get("total_tokens") == said.get("prompt_tokens", 0) + output + (reasoning or 0):
        output += reasoning or 0  # xAI
    counts = {
        "input_tokens": said.get("prompt_tokens"),
        "output_tokens": output,
        "total_tokens": said.get("total_tokens"),
        "cache_read_input_tokens": prompt.get(
            "cached_tokens", said.get("prompt_cache_hit_tokens", said.get("cached_tokens"))
        ),
        "cache_write_input_tokens": prompt.get("cache_write_tokens"),
        "reasoning_output_tokens": reasoning,
        "accepted_prediction_tokens": completion.get("accepted_prediction_tokens"),
        "rejected_prediction_tokens": completion.get("rejected_prediction_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None}


def _normal_message(message: dict[str, Any]) -> Any:
    said = {name: value for name, value in message.items() if value not in (None, [], "")}
    content = said.get("content", [])
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    said["content"] = [_normal_block(block) for block in blocks]
    if message["role"] == "tool":
        said.pop("name", None)  # the call of that ID says the same
    if message["role"] == "assistant":
        said.pop("annotations", None)  # said by the server, and ignored in requests
    if "tool_calls" in said:
        said["tool_calls"] = [{name: v for name, v in call.items() if name != "index"} for call in said["tool_calls"]]
    return said


def _normal_block(block: Any) -> Any:
    match block:
        case {"type": "image_url", "image_url": {"detail": "auto", **rest}}:
            return {"type": "image_url", "image_url": rest}
    return block


def _normal_tool(tool: dict[str, Any]) -> Any:
    match tool:
        case {"type": "function", "function": function}:
            said = {name: value for name, value in function.items() if value not in (None, "")}
            schema = said.get("parameters") or {}
            if not schema.get("properties") and schema.get("type", "object") == "object":
                said.pop("parameters", None)  # no arguments, in any words
            else:
                said["parameters"] = json.dumps(schema)  # as text: the order of keys matters to models
            return {"type": "function", "function": said}
    return tool


def _failure(recording: Recording) -> type[GatewayError]:
    body = parsed(recording.body.decode())
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if (
        code == "context_length_exceeded"
        or (isinstance(error, dict) and error.get("type")) == "exceed_context_size_error"
    ):
        return ContextLengthExceeded
    if code in ("insufficient_quota", "credit_balance_exhausted"):
        return QuotaExhausted
    return _of_status(recording.status)


def _of_status(status: Any) -> type[GatewayError]:
    if not isinstance(status, int):
        return Unavailable
    return _STATUS.get(status, InvalidRequest if status < 500 else Unavailable)


ADAPTERS: tuple[ChatAdapter | EmbedAdapter, ...] = (
    OpenAIChatAdapter("openai-chat", home=True, quirks=Quirks.openai()),
    OpenAIEmbedAdapter("openai-embed", home=True),
)
EXTRA: tuple[ChatAdapter | EmbedAdapter, ...] = (
    OpenAIChatAdapter("compatible-chat", home=False, quirks=Quirks.compatible()),
    OpenAIEmbedAdapter("compatible-embed", home=False),
)
