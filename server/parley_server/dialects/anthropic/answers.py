"""What the pieces of an answer mean: the same in a message as in a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target

_FINISH = {
    "end_turn": v1.FINISH_REASON_STOP,
    "stop_sequence": v1.FINISH_REASON_STOP,
    "max_tokens": v1.FINISH_REASON_LENGTH,
    "tool_use": v1.FINISH_REASON_TOOL_CALL,
    "refusal": v1.FINISH_REASON_REFUSAL,
    "pause_turn": v1.FINISH_REASON_PAUSE,
    "compaction": v1.FINISH_REASON_COMPACTION,
    "model_context_window_exceeded": v1.FINISH_REASON_CONTEXT_WINDOW,
}
LONG_NUMBER = re.compile(rb"\d{19}")
"""Where it is found there may be an integer beyond 64 bits, which orjson would round."""
NONSENSE = (KeyError, TypeError, ValueError, AttributeError)
"""What reading raises that finds another shape than the API documents."""


def opened(block: Mapping[str, Any], message_id: str, index: int, target: Target) -> v1.Part | None:
    """A block as a part, without the state that is known when it is complete; None if it has no unified form."""
    match block["type"]:
        case "text":
            part = v1.Part(citations=map(citation, block.get("citations") or ()))
            part.text = block["text"]  # a null raises here, in the constructor it would give a part of no kind
            return part
        case "thinking":
            return v1.Part(reasoning=v1.ReasoningPart(text=block["thinking"]))
        case "redacted_thinking":
            return v1.Part(reasoning=v1.ReasoningPart(redacted=True))
        case "tool_use":
            id = block.get("id") or f"call_{message_id}_{index}"
            arguments = compact(block["input"]) if block.get("input") else ""
            return v1.Part(tool_call=v1.ToolCall(id=id, name=block["name"], arguments_json=arguments))
        case str():
            return None
    raise TypeError("a block without a type")


def closing_state(block: Mapping[str, Any], target: Target) -> v1.ReplayState | None:
    """What a complete block needs to be sent back: a signature, or as JSON the fields that a part has no word for."""
    match block:
        case {"type": "redacted_thinking", "data": str(data)}:
            return _state(data.encode(), target)
        case {"type": "thinking", "signature": str(signature)} if signature:
            return _state(signature.encode(), target)
        case {"type": "text", "citations": [_, *_] as citations}:
            return _state(orjson.dumps({"citations": citations}), target)
        case {"type": "tool_use", "caller": {"type": str(kind)} as caller} if kind != "direct":
            return _state(orjson.dumps({"caller": caller}), target)
    return None


def _state(data: bytes, target: Target) -> v1.ReplayState:
    return v1.ReplayState(provider=target.provider, model=target.model, data=data)


def opaque(block: Mapping[str, Any], target: Target) -> v1.Part:
    """A block as the provider wrote it."""
    return v1.Part(provider_part=v1.ProviderPart(provider=target.provider, type=block["type"], json=compact(block)))


def trailers(end: Mapping[str, Any], target: Target) -> Iterator[v1.Part]:
    """Parts for what stands beside the blocks, in a message as in the last delta of a stream.

    The container of the provider's own tools is carried as a block, so that a turn that is sent back goes on in it.
    """
    if end.get("stop_reason") == "refusal":
        details = end.get("stop_details") or {}
        text, category = details.get("explanation") or "", details.get("category") or ""
        yield v1.Part(refusal=v1.RefusalPart(text=text, category=category))
    if end.get("container"):
        yield opaque({"type": "container", **end["container"]}, target)


def end(message: Mapping[str, Any]) -> dict[str, Any]:
    """How it ended, as fields that `ChatResponse` and `ResponseCompleted` share."""
    word = message.get("stop_reason") or ""
    return {
        "finish_reason": _FINISH.get(word, v1.FINISH_REASON_UNSPECIFIED),
        "native_finish_reason": word,
        "stop_sequence": message.get("stop_sequence") or "",
    }


def route(message: Mapping[str, Any]) -> v1.RouteInfo:
    """Who answered."""
    tier = (message.get("usage") or {}).get("service_tier") or ""
    return v1.RouteInfo(model=message.get("model", ""), provider_response_id=message.get("id", ""), service_tier=tier)


def usage(counts: Mapping[str, Any], source: v1.Usage.Source.ValueType) -> v1.Usage:
    """Inclusive totals: the API counts cache reads and writes apart from the rest of the input."""
    answer = v1.Usage(source=source)
    given = {name: count for name, count in counts.items() if count is not None}
    if "cache_read_input_tokens" in given:
        answer.cache_read_input_tokens = given["cache_read_input_tokens"]
    if "cache_creation_input_tokens" in given:
        answer.cache_write_input_tokens = given["cache_creation_input_tokens"]
    for_an_hour = given.get("cache_creation", {}).get("ephemeral_1h_input_tokens")
    if for_an_hour is not None:
        answer.cache_write_1h_input_tokens = for_an_hour
    if "input_tokens" in given:
        answer.input_tokens = given["input_tokens"] + answer.cache_read_input_tokens + answer.cache_write_input_tokens
    if "output_tokens" in given:
        answer.output_tokens = given["output_tokens"]
    if answer.HasField("input_tokens") and answer.HasField("output_tokens"):
        answer.total_tokens = answer.input_tokens + answer.output_tokens
    thinking = given.get("output_tokens_details", {}).get("thinking_tokens")
    if thinking is not None:
        answer.reasoning_output_tokens = thinking
    for name, count in given.get("server_tool_use", {}).items():
        if count and name.endswith("_requests"):
            answer.server_tool_calls[name.removesuffix("_requests")] = count
    return answer


def citation(said: Mapping[str, Any]) -> v1.Citation:
    """A citation of a whole text block, so without a span in it. Ranges in the source are half-open there as here."""
    answer = v1.Citation(
        cited_text=said.get("cited_text") or "",
        title=said.get("document_title") or said.get("title") or "",
        uri=said.get("url") or said.get("source") or "",
    )
    source = said.get("document_index", said.get("search_result_index"))
    if source is not None:
        answer.source_index = source
    match said["type"]:
        case "char_location":
            answer.char_range.CopyFrom(v1.IndexRange(start=said["start_char_index"], end=said["end_char_index"]))
        case "page_location":
            answer.page_range.CopyFrom(v1.IndexRange(start=said["start_page_number"], end=said["end_page_number"]))
        case "content_block_location" | "search_result_location":
            answer.block_range.CopyFrom(v1.IndexRange(start=said["start_block_index"], end=said["end_block_index"]))
    return answer


def compact(value: Any) -> str:
    """JSON text without spaces, keys in order, integers of any size."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
