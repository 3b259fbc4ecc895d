"""Reads recorded answers and refusals of chat completions in the plainest way: everything put together first."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from tests.conformance.adapter import Answer, ToolUse
from tests.conformance.checks import parsed
from tests.conformance.recording import Recording

_FINISH = {
    "stop": "STOP",
    "length": "LENGTH",
    "content_filter": "CONTENT_FILTER",
    "error": "ERROR",
    "eos": "STOP",
    "end_turn": "STOP",
}
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
_CODES: dict[str, type[GatewayError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "exceed_context_size_error": ContextLengthExceeded,
    "too_many_prompt_tokens": ContextLengthExceeded,
    "insufficient_quota": QuotaExhausted,
    "credit_balance_exhausted": QuotaExhausted,
    "model_decommissioned": ModelNotFound,
    "invalid_model": ModelNotFound,
    "tool_use_failed": ProtocolError,
}
_THOUGHT = re.compile(r"\s*<think>\s*(.*?)</think>\s*(.*)", re.DOTALL)


def answer_of(whole: dict[str, Any], reasoning_fields: Sequence[str], *, tags: bool = False) -> Answer:
    """What an answer says, apart from facts that are not in its body. `tags`: reasoning may stand in <think>."""
    if whole.get("error"):
        return Answer(failure=of_status(whole["error"].get("code")))
    if not whole.get("choices"):
        return Answer(failure=ProtocolError)
    choice = first(whole)
    message = choice["message"]
    if "finish_reason" not in choice and not message.get("tool_calls") and not words(message.get("content")):
        return Answer(failure=ProtocolError)  # ended without a word, and without a reason for that
    native = choice.get("finish_reason") or ""
    text, reasoning = words(message.get("content")), thoughts(message, reasoning_fields)
    if tags and not reasoning:
        reasoning, text = cut_thought(text)
    answer = Answer(
        text=text,
        reasoning=reasoning,
        refusal=message.get("refusal") or "",
        native_finish=native,
        finish=_FINISH.get(native, "UNSPECIFIED"),
        usage=usage_of(whole.get("usage") or {}),
        citations=[a["url_citation"]["url"] for a in message.get("annotations") or () if "url_citation" in a],
        logprobs=[(t["token"], t["logprob"]) for t in (choice.get("logprobs") or {}).get("content") or ()],
    )
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function["arguments"] if function.get("arguments") else "{}"
        answer.tool_calls.append(
            ToolUse(id_of(call), function["name"], parsed(arguments) if isinstance(arguments, str) else arguments)
        )
    if answer.tool_calls and answer.finish in ("STOP", "UNSPECIFIED"):
        answer.finish = "TOOL_CALL"
    elif native == "tool_calls":
        answer.finish = "STOP"
    elif answer.refusal and answer.finish == "STOP":
        answer.finish = "REFUSAL"
    return answer


def cut_thought(text: str) -> tuple[str, str]:
    """Reasoning in tags before a text, and the text."""
    cut = _THOUGHT.fullmatch(text)
    return (cut.group(1), cut.group(2)) if cut else ("", text)


def answers_in(recording: Recording) -> int:
    """Answers in a stream: some files hold those of two calls behind each other."""
    if not recording.streamed:
        return 1
    chunks = [json.loads(line) for line in re.findall(r"^data: *(\{.*)$", recording.body.decode(), re.MULTILINE)]
    ended = [chunk.get("id") for chunk in chunks if any(c.get("finish_reason") for c in chunk.get("choices") or ())]
    return len(set(ended))


def first(whole: dict[str, Any]) -> dict[str, Any]:
    """The choice of index 0."""
    choice: dict[str, Any] = next(c for c in whole["choices"] if not c.get("index"))
    return choice


def id_of(call: dict[str, Any]) -> str:
    """The ID of a tool call; Mistral writes "null" for none."""
    return "" if call.get("id") in (None, "null") else str(call["id"])


def words(content: Any) -> str:
    """The text of content, in one string or in blocks."""
    if isinstance(content, list):
        return "".join(block["text"] for block in content if block["type"] == "text")
    return content or ""


def thoughts(message: dict[str, Any], fields: Sequence[str]) -> str:
    """The reasoning of a message: in a field, or in blocks of its content."""
    if said := next((message[field] for field in fields if message.get(field)), ""):
        return str(said)
    content = message.get("content")
    blocks = [block for block in content if block["type"] == "thinking"] if isinstance(content, list) else []
    return "".join(piece["text"] for block in blocks for piece in block["thinking"])


def whole_of(recording: Recording) -> dict[str, Any]:
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
        if name == "content" and (isinstance(value, list) or isinstance(message.get(name), list)):
            before = message.get(name) or []
            blocks = [{"type": "text", "text": before}] if isinstance(before, str) else before
            message[name] = blocks
            for block in [{"type": "text", "text": value or ""}] if not isinstance(value, list) else value:
                _add_block(blocks, block)
        elif name in ("content", "refusal", "reasoning", "reasoning_content") and isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        elif name == "annotations" and value:
            message[name] = message.get(name, []) + value
        elif name == "reasoning_details" and value:
            _join(message.setdefault(name, []), value)
    for fragment in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        number = fragment.get("index", len(calls))
        same = number < len(calls) and (not fragment.get("id") or fragment["id"] == calls[number]["id"])
        if number < len(calls) and not same:  # Cerebras numbers all calls 0
            number = len(calls)
        while len(calls) <= number:
            calls.append({"id": "", "function": {"name": "", "arguments": ""}})
        call = calls[number]
        call["id"] = call["id"] or fragment.get("id") or ""
        call["function"]["name"] = call["function"]["name"] or fragment["function"].get("name") or ""
        arguments = fragment["function"].get("arguments") or ""
        call["function"]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)


def _add_block(blocks: list[Any], block: dict[str, Any]) -> None:
    last = blocks[-1] if blocks and blocks[-1]["type"] == block["type"] else None
    if last is None:
        blocks.append(dict(block))
    elif block["type"] == "text":
        last["text"] += block["text"]
    else:
        pieces = last.get("thinking", []) + block.get("thinking", [])
        last.update(block)
        last["thinking"] = pieces


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


def usage_of(said: dict[str, Any]) -> dict[str, int]:
    """Counts by our names."""
    prompt, completion = said.get("prompt_tokens_details") or {}, said.get("completion_tokens_details") or {}
    reasoning = completion.get("reasoning_tokens")
    output = said.get("completion_tokens")
    if output is not None and said.get("total_tokens") == said.get("prompt_tokens", 0) + output + (reasoning or 0):
        output += reasoning or 0  # xAI
    read = prompt.get("cached_tokens")
    if read is None:
        read = next(
            (said[n] for n in ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens") if n in said), None
        )
    beside = read if read is not None and read > said.get("prompt_tokens", read) else 0  # Grok
    counts = {
        "input_tokens": said["prompt_tokens"] + beside if "prompt_tokens" in said else None,
        "output_tokens": output,
        "total_tokens": said["total_tokens"] + beside if "total_tokens" in said else None,
        "cache_read_input_tokens": read,
        "cache_write_input_tokens": prompt.get("cache_write_tokens"),
        "reasoning_output_tokens": reasoning,
        "accepted_prediction_tokens": completion.get("accepted_prediction_tokens"),
        "rejected_prediction_tokens": completion.get("rejected_prediction_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None}


def vector(said: str | list[float], *, whole_numbers: bool = False) -> list[float]:
    """Numbers, or base64 of float32 or of int8."""
    if not isinstance(said, str):
        return said
    raw = base64.b64decode(said)
    return list(struct.unpack(f"<{len(raw)}b" if whole_numbers else f"<{len(raw) // 4}f", raw))


def failure_of(recording: Recording) -> type[GatewayError]:
    """The class of a recorded refusal: by its code or type where that says more than its status does."""
    body = parsed(recording.body.decode())
    error = body.get("error") if isinstance(body, dict) else None
    told = error if isinstance(error, dict) else body if isinstance(body, dict) else {}
    for word in (told.get("code"), told.get("type")):
        if word in _CODES:
            return _CODES[word]
    if recording.status == 400 and "maximum context length" in str(told.get("message")):
        return ContextLengthExceeded
    if recording.status == 403 and "violates usage guidelines" in recording.body.decode():
        return PromptBlocked
    return of_status(recording.status)


def of_status(status: Any) -> type[GatewayError]:
    """The class of a status."""
    if not isinstance(status, int):
        return Unavailable
    return _STATUS.get(status, InvalidRequest if status < 500 else Unavailable)
