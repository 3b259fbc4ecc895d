"""Responses and their streams as the Responses API sends them, for tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks

OPENAI = Target("openai", "gpt-5.4")
SERVER = Target("local", "some-model")
COMPATIBLE = ResponsesQuirks.compatible()

Item = dict[str, Any]
HEAD = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5.4-2026-03-05", "error": None}


def words(text: str, **rest: Any) -> Item:
    """A piece of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **rest}


def message(*content: Item, **rest: Any) -> Item:
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": list(content),
        **rest,
    }


def reasoning(*summary: str, content: Iterable[str] = (), **rest: Any) -> Item:
    item: Item = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": s} for s in summary]}
    told = [{"type": "reasoning_text", "text": text} for text in content]
    return item | ({"content": told} if told else {}) | rest


def function_call(name: str = "f", arguments: str = "{}", id: str = "call_1", **rest: Any) -> Item:
    return {
        "id": "fc_1",
        "type": "function_call",
        "status": "completed",
        "call_id": id,
        "name": name,
        "arguments": arguments,
        **rest,
    }


def response(*output: Item, status: str = "completed", **rest: Any) -> dict[str, Any]:
    return {**HEAD, "status": status, "incomplete_details": None, "output": list(output), "usage": None, **rest}


def incomplete(reason: str, *output: Item, **rest: Any) -> dict[str, Any]:
    return response(*output, status="incomplete", incomplete_details={"reason": reason}, **rest)


def decode(
    *output: Item, target: Target = OPENAI, quirks: ResponsesQuirks | None = None, **rest: Any
) -> v1.ChatResponse:
    """What a unary body comes to."""
    return OpenAIResponses(quirks).decode(json.dumps(response(*output, **rest)).encode(), target)


# -------------------------------------------------------------------------------------------------------------- streams


def event(kind: str, **fields: Any) -> bytes:
    """An event, its number last, as OpenAI writes it."""
    number = fields.pop("sequence_number", 7)
    said = {"type": kind, **fields, "sequence_number": number}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def delta(text: str, *, output: int = 0, content: int = 0, **rest: Any) -> bytes:
    fields = {"content_index": content, "delta": text, "item_id": "msg_1", "logprobs": [], "output_index": output}
    return event("response.output_text.delta", **(fields | rest))


def created(**rest: Any) -> bytes:
    return event("response.created", response=response(status="in_progress", **rest))


def ended(whole: dict[str, Any]) -> bytes:
    return event(f"response.{whole['status']}", response=whole)


def stream(whole: dict[str, Any], pieces: Iterator[int] | None = None) -> list[bytes]:
    """The events that add up to a response; `pieces`: how long the deltas are, in code points."""
    sizes = pieces or itertools.repeat(3)
    frames = [created(), event("response.in_progress", response=response(status="in_progress"))]
    for index, item in enumerate(whole["output"]):
        frames += _item(index, item, sizes)
    return [*frames, ended(whole)]


def _item(index: int, item: Item, sizes: Iterator[int]) -> Iterator[bytes]:
    begun = dict(item)
    match item["type"]:
        case "message":
            begun |= {"content": [], "status": "in_progress"}
        case "reasoning":
            begun |= {"summary": [], **({"content": []} if "content" in item else {})}
        case "function_call":
            begun |= {"arguments": "", "status": "in_progress"}
    place = {"output_index": index, "item_id": item.get("id")}
    yield event("response.output_item.added", output_index=index, item=begun)
    match item["type"]:
        case "message":
            for number, piece in enumerate(item["content"]):
                yield from _piece(place | {"content_index": number}, piece, sizes)
        case "reasoning":
            for number, told in enumerate(item["summary"]):
                yield event("response.reasoning_summary_part.added", summary_index=number, part=told, **place)
                for fragment in cut(told["text"], sizes):
                    kind = "response.reasoning_summary_text.delta"
                    yield event(kind, summary_index=number, delta=fragment, **place)
            for number, told in enumerate(item.get("content") or ()):
                for fragment in cut(told["text"], sizes):
                    yield event("response.reasoning_text.delta", content_index=number, delta=fragment, **place)
        case "function_call":
            for fragment in cut(item["arguments"], sizes):
                yield event("response.function_call_arguments.delta", delta=fragment, **place)
            yield event("response.function_call_arguments.done", arguments=item["arguments"], **place)
    yield event("response.output_item.done", output_index=index, item=item)


def _piece(place: dict[str, Any], piece: Item, sizes: Iterator[int]) -> Iterator[bytes]:
    field = "refusal" if piece["type"] == "refusal" else "text"
    kind = "refusal" if field == "refusal" else "output_text"
    yield event("response.content_part.added", part={**piece, field: "", "annotations": []}, **place)
    if tokens := piece.get("logprobs"):
        for token in tokens:
            yield event("response.output_text.delta", delta=token["token"], logprobs=[token], **place)
    else:
        for fragment in cut(piece[field], sizes):
            yield event(f"response.{kind}.delta", delta=fragment, logprobs=[], **place)
    for number, annotation in enumerate(piece.get("annotations") or ()):
        told = {"annotation_index": number, "annotation": annotation}
        yield event("response.output_text.annotation.added", **told, **place)
    yield event(f"response.{kind}.done", **{field: piece[field]}, **place)
    yield event("response.content_part.done", part=piece, **place)


def cut(text: str, sizes: Iterator[int]) -> Iterator[str]:
    while text:
        size = next(sizes)
        yield text[:size]
        text = text[size:]


def events(
    frames: Iterable[bytes], target: Target = OPENAI, quirks: ResponsesQuirks | None = None, *, one_read: bool = False
) -> list[v1.StreamChatResponse]:
    """All events of a stream whose frames arrive one by one, or all in one read."""
    decoder = OpenAIResponses(quirks).decoder(target)
    reads = [list(frames)] if one_read else [[frame] for frame in frames]
    found = [event for read in reads for event in decoder.feed(read)]
    return found + decoder.finish()


def streamed(
    frames: Iterable[bytes], target: Target = OPENAI, quirks: ResponsesQuirks | None = None
) -> v1.ChatResponse:
    """The answer that a stream adds up to."""
    return fold(events(frames, target, quirks))


def kinds(found: list[v1.StreamChatResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in found]
