"""From the body of a finished answer to a `ChatResponse`; the pieces that the stream decoder reads the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import load_object
from parley_server.dialects.openai_chat.blocks import DETAILS, split_block
from parley_server.dialects.openai_chat.errors import said_inside
from parley_server.dialects.openai_chat.quirks import Quirks
from parley_server.dialects.openai_chat.tags import IN_TAGS, split

Body = Mapping[str, Any]

_FINISH = {
    "stop": v1.FINISH_REASON_STOP,
    "eos": v1.FINISH_REASON_STOP,
    "end_turn": v1.FINISH_REASON_STOP,
    "length": v1.FINISH_REASON_LENGTH,
    "max_tokens": v1.FINISH_REASON_LENGTH,
    "time_limit": v1.FINISH_REASON_LENGTH,
    "model_length": v1.FINISH_REASON_CONTEXT_WINDOW,
    "model_context_window_exceeded": v1.FINISH_REASON_CONTEXT_WINDOW,
    "tool_calls": v1.FINISH_REASON_TOOL_CALL,
    "tool_call": v1.FINISH_REASON_TOOL_CALL,
    "function_call": v1.FINISH_REASON_TOOL_CALL,
    "content_filter": v1.FINISH_REASON_CONTENT_FILTER,
    "sensitive": v1.FINISH_REASON_CONTENT_FILTER,
    "error": v1.FINISH_REASON_ERROR,
    "cancelled": v1.FINISH_REASON_ERROR,
    "network_error": v1.FINISH_REASON_ERROR,
    "insufficient_system_resource": v1.FINISH_REASON_ERROR,
}
_PREDICTED = ("accepted_prediction_tokens", "rejected_prediction_tokens")
_CACHE_READS = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_input_tokens", "created_cache_tokens")
_ALWAYS = {"role", "content"}  # what every message has
_NUMBER = (int, float)
_NATURAL = (v1.FINISH_REASON_UNSPECIFIED, v1.FINISH_REASON_STOP, v1.FINISH_REASON_TOOL_CALL)


MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading JSON of another shape than expected raises: a number where a text belongs, say."""


def decode(body: bytes, target: Target, quirks: Quirks) -> v1.ChatResponse:
    """The first choice of the answer. Raises what an error inside it means, ProtocolError if there is no choice."""
    answer = load_object(body)
    if quirks.error_inside is not None and (error := quirks.error_inside(answer, target)) is not None:
        raise error
    if answer.get("error"):
        raise said_inside(answer, target)
    if not answer.get("choices"):
        raise ProtocolError("the provider answered without a choice")
    try:
        return _response(answer, target, quirks)
    except MALFORMED as problem:
        raise ProtocolError("the provider's answer is not of the form it should have") from problem


def _response(answer: Body, target: Target, quirks: Quirks) -> v1.ChatResponse:
    choices = answer["choices"]
    choice = choices[0] if len(choices) == 1 else min(choices, key=lambda c: c.get("index") or 0)
    message = choice.get("message") or {}
    native = text(choice.get("finish_reason"))
    # Messages inside messages are filled in place, here and below: made on their own they would be copied in.
    response = v1.ChatResponse(
        native_finish_reason=native,
        stop_sequence=stop_sequence(choice),
        logprobs=logprobs(choice.get("logprobs")),
    )
    response.message.role = v1.ROLE_ASSISTANT
    called = refused = False
    if (words := _only_words(message, quirks)) is not None:  # nearly every answer
        response.message.parts.add(text=words)
    else:
        parts = list(_parts(message, answer, target, quirks))
        kinds = {part.WhichOneof("kind") for part in parts}
        called = "tool_call" in kinds or ("provider_part" in kinds and any(_is_call(part) for part in parts))
        refused = "refusal" in kinds
        response.message.parts.extend(parts or [v1.Part(text="")])
    response.finish_reason = finish_reason(native, called=called, refused=refused)
    fill_route(response.route, answer, target)
    if said := told_usage(answer):
        fill_usage(response.usage, said, apart=quirks.reasoning_apart)
    return response


def _only_words(message: Body, quirks: Quirks) -> str | None:
    """The text of a message that is a text and nothing else; None for any other."""
    content = message.get("content")
    if not isinstance(content, str) or quirks.think_tags or any(message[name] for name in message.keys() - _ALWAYS):
        return None
    return content


def _parts(message: Body, answer: Body, target: Target, quirks: Quirks) -> Iterator[v1.Part]:
    field = next((name for name in quirks.reasoning_fields if message.get(name)), "")
    details = {name: message[name] for name in DETAILS if message.get(name)}
    if field or details:
        text = message[field] if field else ""
        yield v1.Part(
            reasoning=v1.ReasoningPart(text=text, redacted=not text),
            replay_state=reasoning_state(field, target, details=details),
        )
    content = message.get("content")
    if quirks.think_tags and isinstance(content, str):
        thought, content = split(content)
        if thought:
            state = reasoning_state(IN_TAGS, target)
            yield v1.Part(reasoning=v1.ReasoningPart(text=thought), replay_state=state)
    match content:
        case str(text) if text:
            yield v1.Part(text=text, citations=citations(message.get("annotations")))
        case [*blocks]:
            for block in blocks:
                yield from content_block(block, target)
    if refusal := message.get("refusal"):
        yield v1.Part(refusal=v1.RefusalPart(text=refusal))
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
    if not calls and isinstance(legacy := message.get("function_call"), dict) and legacy.get("name"):
        calls = [{"function": legacy}]
    for number, call in enumerate(calls):
        yield _call(call, f"call_{id_stamp(answer)}_{number}", target)
    if isinstance(audio := message.get("audio"), dict) and audio.get("id"):
        yield provider_part(audio, target, kind="audio")


def _call(call: dict[str, Any], made_up_id: str, target: Target) -> v1.Part:
    function = call.get("function")
    if not isinstance(function, dict):
        return provider_part(call, target, kind="custom")
    if not function.get("name"):
        raise ProtocolError("the provider called a tool without naming it")
    part = v1.Part(
        tool_call=v1.ToolCall(
            id=call_id(call) or made_up_id,
            name=function["name"],
            arguments_json=arguments(function.get("arguments")) or "{}",
        )
    )
    if extra := call.get("extra_content"):
        part.replay_state.CopyFrom(replay_state({"extra_content": extra}, target))
    return part


def _is_call(part: v1.Part) -> bool:
    return part.provider_part.type == "custom"


def content_block(block: Any, target: Target) -> Iterator[v1.Part]:
    """The part of one block of list content."""
    match block:
        case {"type": "text", "text": str(text)}:
            yield v1.Part(text=text)
        case {"type": str()} if (thought := split_block(block)) is not None:
            words, rest = thought
            state = reasoning_state("", target, block=rest)
            yield v1.Part(reasoning=v1.ReasoningPart(text=words), replay_state=state)
        case {"type": str()}:
            yield provider_part(block, target)
        case str(text):
            yield v1.Part(text=text)


def provider_part(block: Mapping[str, Any], target: Target, kind: str = "") -> v1.Part:
    """`block` verbatim."""
    json = orjson.dumps(block).decode()
    return v1.Part(provider_part=v1.ProviderPart(provider=target.provider, type=kind or block["type"], json=json))


def text(value: Any) -> str:
    """A text that may be null. Raises TypeError for anything else, before it gets anywhere."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"a text is wanted, not {type(value).__name__}")
    return value or ""


def call_id(call: Body) -> str:
    """The ID of a tool call, or of a fragment of one; Mistral has written "null" where there was none."""
    said = text(call.get("id"))
    return "" if said == "null" else said


def arguments(value: Any) -> str:
    """Arguments of a tool call as text: as the model wrote them, or rendered where the server has parsed them."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return orjson.dumps(value).decode()


def id_stamp(answer: Body) -> str:
    """Something of this response for IDs that are made up, so that they differ between responses."""
    return re.sub(r"[^A-Za-z0-9]", "", str(answer.get("id") or answer.get("created") or ""))[-24:]


def replay_state(kept: Mapping[str, Any], target: Target) -> v1.ReplayState:
    """What `messages.py` needs to send a part back as it came."""
    return v1.ReplayState(provider=target.provider, model=target.model, data=orjson.dumps(kept))


def reasoning_state(
    field: str, target: Target, *, details: Body | None = None, block: Body | None = None
) -> v1.ReplayState:
    """The field or the block that reasoning text came in, and by field blocks that must go back unchanged."""
    kept: dict[str, Any] = {"field": field} if field else {}
    if details:
        kept |= details
    if block is not None:
        kept["block"] = block
    return replay_state(kept, target)


def finish_reason(native: str, *, called: bool, refused: bool) -> v1.FinishReason.ValueType:
    """Servers say "stop", or nothing, with tool calls present: presence decides."""
    reason = _FINISH.get(native, v1.FINISH_REASON_UNSPECIFIED)
    if reason not in _NATURAL:
        return reason
    if called:
        return v1.FINISH_REASON_TOOL_CALL
    if refused:
        return v1.FINISH_REASON_REFUSAL
    return v1.FINISH_REASON_STOP if native in _FINISH else reason


def stop_sequence(choice: Body) -> str:
    """The stop sequence that matched, where the server tells (vLLM and its kin; token IDs are no sequence)."""
    told = choice.get("stop_reason") or choice.get("matched_stop")
    return told if isinstance(told, str) else ""


def fill_route(route: v1.RouteInfo, answer: Body, target: Target) -> None:
    """Who answered, as the answer itself says."""
    route.model = answer.get("model") or target.model
    route.provider_response_id = answer.get("id") or ""
    route.service_tier = answer.get("service_tier") or ""
    route.system_fingerprint = answer.get("system_fingerprint") or ""


def citations(annotations: Any) -> Iterator[v1.Citation]:
    """Citations of `annotations`; offsets are code points on both sides."""
    for annotation in annotations if isinstance(annotations, list) else ():
        match annotation:
            case {"type": "url_citation", "url_citation": {"url": str(uri)} as cited}:
                yield v1.Citation(
                    uri=uri,
                    title=cited.get("title") or "",
                    cited_text=cited.get("content") or "",
                    start_index=cited.get("start_index"),
                    end_index=cited.get("end_index"),
                )


def logprobs(said: Any) -> list[v1.TokenLogprob]:
    """Log probabilities of the text, or of the refusal where there is no text."""
    if not isinstance(said, dict):
        return []
    return [_logprob(token) for token in said.get("content") or said.get("refusal") or () if isinstance(token, dict)]


def _logprob(token: Body) -> v1.TokenLogprob:
    text = token.get("token") or ""
    raw = bytes(token.get("bytes") or ())
    whole = not raw or raw == text.encode()
    return v1.TokenLogprob(
        token=text,
        logprob=token.get("logprob") or 0.0,
        token_bytes=b"" if whole else raw,
        top_logprobs=[_logprob(alternative) for alternative in token.get("top_logprobs") or ()],
    )


def told_usage(answer: Body) -> Body | None:
    """What an answer or chunk says of its usage: at the top, in `x_groq`, or in the choice (Moonshot)."""
    said = answer.get("usage") or (answer.get("x_groq") or {}).get("usage")
    if not said:
        choices = answer.get("choices")
        said = choices[0].get("usage") if choices else None
    return said if isinstance(said, dict) else None


def fill_usage(
    usage: v1.Usage,
    said: Body,
    source: v1.Usage.Source.ValueType = v1.Usage.SOURCE_PROVIDER,
    *,
    apart: bool = False,
) -> None:
    """Inclusive totals, where some servers leave parts out. `apart` is `Quirks.reasoning_apart`.

    xAI counts reasoning beside `completion_tokens`, which the total gives away; its cache reads may be beside
    `prompt_tokens`, which is so where they are more.
    """
    usage.source = source
    prompt, total = _count(said, "prompt_tokens"), _count(said, "total_tokens")
    completion = _count(said, "completion_tokens")
    of_prompt = said.get("prompt_tokens_details") or said.get("prompt_token_details") or {}
    of_completion = said.get("completion_tokens_details") or {}
    reasoning = _count(of_completion, "reasoning_tokens")
    if reasoning and completion is not None:
        beside = total == (prompt or 0) + completion + reasoning
        completion += reasoning if beside or (apart and reasoning > completion) else 0
    read = _count(of_prompt, "cached_tokens")
    if read is None:
        read = _first(said, _CACHE_READS)
    if read and prompt is not None and read > prompt:
        prompt += read
    if total is not None and prompt is not None:
        total = max(total, prompt + (completion or 0))
    counts = [
        ("input_tokens", prompt),
        ("output_tokens", completion),
        ("total_tokens", total),
        ("cache_read_input_tokens", read),
        ("reasoning_output_tokens", reasoning),
    ]
    if of_prompt:
        counts.append(("cache_write_input_tokens", _first(of_prompt, _CACHE_WRITES)))
    if of_completion:
        counts += [(name, _count(of_completion, name)) for name in _PREDICTED]
    for name, count in counts:
        if count is not None:
            setattr(usage, name, count)


def _count(said: Body, name: str) -> int | None:
    value = said.get(name)
    return int(value) if isinstance(value, _NUMBER) and 0 <= value < 2**31 else None


def _first(said: Body, names: tuple[str, ...]) -> int | None:
    """The first of the named counts that is told."""
    return next((count for name in names if (count := _count(said, name)) is not None), None)
