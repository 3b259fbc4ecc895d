"""What the pieces of an answer mean: the same in a whole answer as in a chunk of a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target

NONSENSE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
"""What reading raises that finds another shape than the API documents."""

_FINISH = {
    "STOP": v1.FINISH_REASON_STOP,
    "MAX_TOKENS": v1.FINISH_REASON_LENGTH,
    "SAFETY": v1.FINISH_REASON_CONTENT_FILTER,
    "RECITATION": v1.FINISH_REASON_CONTENT_FILTER,
    "BLOCKLIST": v1.FINISH_REASON_CONTENT_FILTER,
    "PROHIBITED_CONTENT": v1.FINISH_REASON_CONTENT_FILTER,
    "SPII": v1.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_SAFETY": v1.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": v1.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_RECITATION": v1.FINISH_REASON_CONTENT_FILTER,
    "MODEL_ARMOR": v1.FINISH_REASON_CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": v1.FINISH_REASON_MALFORMED_OUTPUT,
    "MALFORMED_RESPONSE": v1.FINISH_REASON_MALFORMED_OUTPUT,
    "UNEXPECTED_TOOL_CALL": v1.FINISH_REASON_MALFORMED_OUTPUT,
    "TOO_MANY_TOOL_CALLS": v1.FINISH_REASON_ERROR,
    "MISSING_THOUGHT_SIGNATURE": v1.FINISH_REASON_ERROR,
    "LANGUAGE": v1.FINISH_REASON_ERROR,
    "OTHER": v1.FINISH_REASON_ERROR,
    "NO_IMAGE": v1.FINISH_REASON_ERROR,
    "IMAGE_OTHER": v1.FINISH_REASON_ERROR,
}
_NO_CONTENT = {"text", "thought", "thoughtSignature"}
_LONG_NUMBER = re.compile(rb"\d{19}")
_NO_ID_CHARACTER = re.compile(r"[^0-9A-Za-z]+")
_MADE_UP = re.compile(r"gemini_[0-9A-Za-z]*_\d+")


def load(text: bytes) -> Any:
    """JSON. Integers beyond 64 bits, which orjson would round, go the slow way. Raises ProtocolError."""
    try:
        # Only arguments can hold such, and the search for them costs more than that for the word.
        if b'"functionCall"' in text and _LONG_NUMBER.search(text):
            return json.loads(text)
        return orjson.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("the provider's answer is not JSON") from None


def compact(value: Any) -> str:
    """JSON text without spaces, keys in order, integers of any size. Raises ValueError for what is too deep."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, or more than 254 levels
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("a value that is nested too deep") from None


def candidate(chunk: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first candidate of an answer or a chunk; others are there only if somebody asked for them by an option."""
    for one in chunk.get("candidates") or ():
        if not one.get("index"):
            return one  # type: ignore[no-any-return]
    return None


def text_of(wire: Mapping[str, Any]) -> str | None:
    """The text of a part, empty for one that is only a signature; None for what is no text."""
    text = wire.get("text")
    return "" if text is None and wire.keys() <= _NO_CONTENT else text


def state(signature: Any, target: Target) -> v1.ReplayState:
    """A thought signature as state: the base64 text as it came. Without one it says only whose thoughts these are."""
    data = signature.encode() if signature else b""
    return v1.ReplayState(provider=target.provider, model=target.model, data=data)


def call_id(call: Mapping[str, Any], response_id: str, number: int) -> str:
    """The ID of the `number`th call of an answer; made up where the API gives none, which it mostly does not."""
    return call.get("id") or f"gemini_{_NO_ID_CHARACTER.sub('', response_id)[:24]}_{number}"


def is_made_up(id: str) -> bool:
    """Whether an ID is one of ours, which the API does not know."""
    return _MADE_UP.fullmatch(id) is not None


def tool_call(call: Mapping[str, Any], response_id: str, number: int) -> v1.Part:
    """A whole function call as a part."""
    name = call["name"]
    if not name:
        raise ProtocolError("the provider called a function without naming it")
    arguments = compact(call.get("args") or {})
    return v1.Part(tool_call=v1.ToolCall(id=call_id(call, response_id, number), name=name, arguments_json=arguments))


def opaque(wire: Mapping[str, Any], target: Target) -> v1.Part:
    """A part without unified form (code and its result, media, what is yet to come), its signature apart."""
    block = {name: value for name, value in wire.items() if name != "thoughtSignature"}
    kind = next((name for name, value in block.items() if isinstance(value, dict)), "")
    return v1.Part(provider_part=v1.ProviderPart(provider=target.provider, type=kind, json=compact(block)))


def finish(reason: Any, *, called: bool) -> tuple[v1.FinishReason.ValueType, str]:
    """Why it ended, in our word and in the API's, which has none of its own for calls."""
    word = str(reason or "")
    if called and word == "STOP":
        return v1.FINISH_REASON_TOOL_CALL, word
    return _FINISH.get(word, v1.FINISH_REASON_UNSPECIFIED), word


def route(chunk: Mapping[str, Any]) -> v1.RouteInfo:
    """Who answered. Google Cloud's kind of traffic stands where the Gemini API names the service tier."""
    counts = chunk.get("usageMetadata") or {}
    return v1.RouteInfo(
        model=(chunk.get("modelVersion") or "").removeprefix("models/"),
        provider_response_id=chunk.get("responseId") or "",
        service_tier=counts.get("serviceTier") or counts.get("trafficType") or "",
    )


def usage(
    counts: Mapping[str, Any], source: v1.Usage.Source.ValueType, grounding: Mapping[str, Any] | None = None
) -> v1.Usage:
    """Inclusive totals. The API counts thoughts beside the candidates, and what its own tools fed in beside the prompt.

    Counts of 0 are left out on the wire: where there is a total, what is absent is 0.
    """
    get = counts.get
    answer = v1.Usage(source=source)
    prompt, written, thoughts = get("promptTokenCount"), get("candidatesTokenCount"), get("thoughtsTokenCount")
    totalled = get("totalTokenCount") is not None
    if prompt is not None or totalled:
        answer.input_tokens = (prompt or 0) + (get("toolUsePromptTokenCount") or 0)
    if written is not None or thoughts is not None or totalled:
        answer.output_tokens = (written or 0) + (thoughts or 0)
    if answer.HasField("input_tokens") and answer.HasField("output_tokens"):
        answer.total_tokens = answer.input_tokens + answer.output_tokens
    if thoughts is not None:
        answer.reasoning_output_tokens = thoughts
    if (cached := get("cachedContentTokenCount")) is not None:
        answer.cache_read_input_tokens = cached
    if grounding and grounding.get("webSearchQueries"):
        answer.server_tool_calls["google_search"] = len(grounding["webSearchQueries"])
    return answer


def written(counts: Mapping[str, Any]) -> int:
    """Output tokens so far, as a chunk counts them."""
    return (counts.get("candidatesTokenCount") or 0) + (counts.get("thoughtsTokenCount") or 0)


def logprobs(result: Mapping[str, Any] | None) -> Iterator[v1.TokenLogprob]:
    """The chosen tokens with their alternatives."""
    if not result:
        return
    tops = result.get("topCandidates") or ()
    for position, chosen in enumerate(result.get("chosenCandidates") or ()):
        entry = _token(chosen)
        if position < len(tops):
            entry.top_logprobs.extend(_token(one) for one in tops[position].get("candidates") or ())
        yield entry


def _token(said: Mapping[str, Any]) -> v1.TokenLogprob:
    return v1.TokenLogprob(token=said.get("token") or "", logprob=said.get("logProbability") or 0.0)
