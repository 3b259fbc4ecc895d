"""What the pieces of an answer mean: the same in a message as in a stream."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.target import Target

_FINISH = {
    "end_turn": v1.FINISH_REASON_STOP,
    "stop_sequence": v1.FINISH_REASON_STOP,
    "max_tokens": v1.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": v1.FINISH_REASON_CONTEXT_WINDOW,
    "tool_use": v1.FINISH_REASON_TOOL_CALL,
    "guardrail_intervened": v1.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": v1.FINISH_REASON_CONTENT_FILTER,
    "malformed_model_output": v1.FINISH_REASON_MALFORMED_OUTPUT,
    "malformed_tool_use": v1.FINISH_REASON_MALFORMED_OUTPUT,
}
LONG_NUMBER = re.compile(rb"\d{19}")
"""Where it is found there may be an integer beyond 64 bits, which orjson would round."""
NONSENSE = (KeyError, TypeError, ValueError, AttributeError)
"""What reading raises that finds another shape than the API documents."""
SERVER_TOOL = "server_tool_use"
_RANGES = {
    "documentChar": "char_range",
    "documentPage": "page_range",
    "documentChunk": "block_range",
    "searchResultLocation": "block_range",
}


def part(block: Mapping[str, Any], target: Target) -> v1.Part:
    """A whole block as a part; one without a unified form as a block of the provider."""
    match block:
        case {"text": str(text)}:
            return v1.Part(text=text)
        case {"citationsContent": {"content": [*content]}}:
            citations = block["citationsContent"].get("citations") or []
            text = "".join(piece["text"] for piece in content)
            answer = v1.Part(text=text, citations=map(citation, citations))
            if citations:
                answer.replay_state.CopyFrom(citations_state(citations, target))
            return answer
        case {"reasoningContent": {"reasoningText": {"text": str(text), "signature": str(signature)}}} if signature:
            reasoning = v1.ReasoningPart(text=text)
            return v1.Part(reasoning=reasoning, replay_state=state(signature.encode(), target))
        case {"reasoningContent": {"reasoningText": {"text": str(text)}}}:
            return v1.Part(reasoning=v1.ReasoningPart(text=text))
        case {"reasoningContent": {"redactedContent": str(data)}}:
            reasoning = v1.ReasoningPart(redacted=True)
            return v1.Part(reasoning=reasoning, replay_state=state(base64.b64decode(data), target))
        case {"toolUse": {"toolUseId": str(id), "name": str(name)}} if block["toolUse"].get("type") != SERVER_TOOL:
            given = block["toolUse"].get("input")
            arguments = compact(given) if given else "{}"
            return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments_json=arguments))
        case _:
            return opaque(block, target)


def opaque(block: Mapping[str, Any], target: Target) -> v1.Part:
    """A block as the provider wrote it."""
    kind = next(iter(block), "")
    return v1.Part(provider_part=v1.ProviderPart(provider=target.provider, type=kind, json=compact(block)))


def state(data: bytes, target: Target) -> v1.ReplayState:
    """The state of reasoning: a signature, or what was withheld. The Messages API keeps it in the same form."""
    return v1.ReplayState(provider=target.provider, model=target.model, data=data)


def redacted(data: bytes) -> str:
    """What was withheld, as Converse writes it."""
    return base64.b64encode(data).decode("ascii")


def citations_state(citations: list[Any], target: Target) -> v1.ReplayState:
    """The state of a text with citations: they go back as they came."""
    return state(orjson.dumps({"citationsContent": citations}), target)


def citation(said: Mapping[str, Any]) -> v1.Citation:
    """A citation of a whole block, so without a span in it. Ranges in the source are half-open there as here."""
    answer = v1.Citation(
        cited_text="".join(piece.get("text") or "" for piece in said.get("sourceContent") or ()),
        title=said.get("title") or "",
        uri=said.get("source") or "",
    )
    for kind, place in (said.get("location") or {}).items():
        if kind == "web":
            answer.uri = answer.uri or place.get("url") or ""
            answer.title = answer.title or place.get("domain") or ""
        source = place.get("documentIndex", place.get("searchResultIndex"))
        if source is not None:
            answer.source_index = source
        if kind in _RANGES:
            span = v1.IndexRange(start=place.get("start") or 0, end=place.get("end") or 0)
            getattr(answer, _RANGES[kind]).CopyFrom(span)
    return answer


def usage(counts: Mapping[str, Any], source: v1.Usage.Source.ValueType) -> v1.Usage:
    """Inclusive totals. Cache reads and writes are usually counted apart from the input: the total tells where not."""
    answer = v1.Usage(source=source)
    given = {name: count for name, count in counts.items() if isinstance(count, int)}
    if "cacheReadInputTokens" in given:
        answer.cache_read_input_tokens = given["cacheReadInputTokens"]
    if "cacheWriteInputTokens" in given:
        answer.cache_write_input_tokens = given["cacheWriteInputTokens"]
    if counts.get("cacheDetails"):  # the writes by their lifetime
        lives = ((detail.get("ttl"), detail["inputTokens"]) for detail in counts["cacheDetails"])
        answer.cache_write_1h_input_tokens = sum(tokens for life, tokens in lives if life == "1h")
    if "outputTokens" in given:
        answer.output_tokens = given["outputTokens"]
    if "inputTokens" in given:
        fresh = given["inputTokens"]
        cached = answer.cache_read_input_tokens + answer.cache_write_input_tokens
        inclusive = "outputTokens" in given and given.get("totalTokens") == fresh + answer.output_tokens
        answer.input_tokens = fresh if inclusive else fresh + cached
    if answer.HasField("input_tokens") and answer.HasField("output_tokens"):
        answer.total_tokens = answer.input_tokens + answer.output_tokens
    for name, count in (counts.get("serverToolUsage") or {}).items():
        if isinstance(count, int) and count:
            answer.server_tool_calls[name] = count
    return answer


def end(reason: str | None, fields: Any) -> dict[str, Any]:
    """How it ended, as fields that `ChatResponse` and `ResponseCompleted` share.

    `fields`: `additionalModelResponseFields`, which hold the stop sequence where the request asked for it.
    """
    word = reason or ""
    return {
        "finish_reason": _FINISH.get(word, v1.FINISH_REASON_UNSPECIFIED),
        "native_finish_reason": word,
        "stop_sequence": (fields.get("stop_sequence") or "") if isinstance(fields, dict) else "",
    }


def route(answer: Mapping[str, Any]) -> v1.RouteInfo:
    """What the answer tells of who answered."""
    tier = answer.get("serviceTier") or {}
    return v1.RouteInfo(service_tier=tier.get("type") or "")


def compact(value: Any) -> str:
    """JSON text without spaces, keys in order, integers of any size."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_object(text: str) -> dict[str, Any] | None:
    """`text` as an object whose members orjson can write; None if it is none."""
    long = LONG_NUMBER.search(text.encode())
    try:
        value = json.loads(text) if long else orjson.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return {name: orjson.Fragment(compact(item)) for name, item in value.items()} if long else value
