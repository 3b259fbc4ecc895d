"""An answer in OpenAI's words: a whole body, or the events of a stream.

Of a stream all that does not change from piece to piece is written once; an event is then the bytes before, the piece
as a JSON string, and the bytes behind.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import orjson

from parley_server.transports.mock import tokens
from parley_server.transports.mock.answer import Answer, Repeat, Usage

CREATED = 1_767_225_600  # 2026-01-01: the same answer is the same bytes on every day
_DONE = b"data: [DONE]\n\n"
_ARGUMENTS_PIECE = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds an answer: the response's ID and what the request said about its form."""

    id: str
    model: str
    service_tier: str
    chunking: tokens.Chunking
    logprobs: bool
    alternatives: int
    include_usage: bool

    @classmethod
    def of(cls, request: Mapping[str, Any], id: str, chunking: tokens.Chunking) -> Frame:
        """The frame that a chat request asks for. With log probabilities a stream is cut by words at least."""
        tier = request.get("service_tier") or "default"
        wanted = bool(request.get("logprobs"))
        return cls(
            id=id,
            model=request["model"],
            service_tier="default" if tier == "auto" else tier,
            chunking="words" if wanted and isinstance(chunking, int) else chunking,
            logprobs=wanted,
            alternatives=request.get("top_logprobs") or 0,
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        )

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that body and events share."""
        return {
            "id": self.id,
            "object": kind,
            "created": CREATED,
            "model": self.model,
            "service_tier": self.service_tier,
            "system_fingerprint": "fp_mock",
        }


@dataclass(frozen=True, slots=True)
class Events:
    """The events of a stream: the role, the pieces one by one (they may never end), and what closes it."""

    start: bytes
    pieces: Iterator[bytes]
    end: tuple[bytes, ...]


def stream(answer: Answer, frame: Frame) -> Events:
    """`answer` as server-sent events: reasoning, text or refusal, calls; then finish, usage if asked for, `[DONE]`."""
    opening = b"data: " + orjson.dumps(frame.head("chat.completion.chunk"))[:-1] + b',"choices":['
    closing = (b'],"usage":null}' if frame.include_usage else b"]}") + b"\n\n"

    def event(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return opening + orjson.dumps(choice) + closing

    def text(field: bytes) -> Callable[[str], bytes]:
        before = opening + b'{"index":0,"delta":{"' + field + b'":'
        behind = b'},"logprobs":null,"finish_reason":null}' + closing
        dumps = orjson.dumps
        return lambda piece: before + dumps(piece) + behind

    def logged(piece: str) -> bytes:
        entries = {"content": tokens.logprobs(piece, frame.alternatives), "refusal": None}
        choice = {"index": 0, "delta": {"content": piece}, "logprobs": entries, "finish_reason": None}
        return opening + orjson.dumps(choice) + closing

    def pieces() -> Iterator[bytes]:
        yield from map(text(b"reasoning_content"), tokens.pieces(answer.reasoning, frame.chunking))
        content = logged if frame.logprobs else text(b"content")
        yield from map(content, tokens.pieces(answer.text or "", frame.chunking))
        if answer.repeat is not None:
            yield from _repeated(answer.repeat, content)
        yield from map(text(b"refusal"), tokens.pieces(answer.refusal or "", frame.chunking))
        for index, call in enumerate(answer.calls):
            named = {"name": call.name, "arguments": ""}
            yield event({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": named}]})
            chunking = _ARGUMENTS_PIECE if frame.chunking == "words" else frame.chunking
            for fragment in tokens.pieces(call.arguments, chunking):
                yield event({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})

    silent = answer.text is None and answer.repeat is None
    start: dict[str, Any] = {"role": "assistant", "content": None if silent else "", "refusal": None}
    if answer.refusal is not None:
        start["refusal"] = ""
    end = [event({}, answer.finish_reason)]
    if frame.include_usage:
        usage = {**frame.head("chat.completion.chunk"), "choices": [], "usage": _usage(answer.usage)}
        end.append(b"data: " + orjson.dumps(usage) + b"\n\n")
    return Events(event(start), pieces(), (*end, _DONE))


def whole(answer: Answer, frame: Frame) -> Iterator[bytes]:
    """`answer` as one JSON body: a single block, or many if the text is too long to be kept."""
    text = answer.text
    if answer.repeat is not None:
        text = f"@{frame.id}@"  # stands for the long text; no other text has the ID of its own answer in it
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": answer.refusal}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    else:
        message["annotations"] = []
    logprobs = None
    if frame.logprobs and answer.text is not None:
        logprobs = {"content": tokens.logprobs(answer.text, frame.alternatives), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": answer.finish_reason}
    body = orjson.dumps({**frame.head("chat.completion"), "choices": [choice], "usage": _usage(answer.usage)})
    if answer.repeat is None:
        yield body
        return
    before, _, behind = body.partition(orjson.dumps(text)[1:-1])
    yield before
    yield from _repeated(answer.repeat, lambda piece: orjson.dumps(piece)[1:-1])
    yield behind


def count_pieces(answer: Answer, frame: Frame) -> int:
    """How many pieces `answer` has as a stream, calls not counted."""
    return sum(
        1 for text in (answer.reasoning, answer.text, answer.refusal) for _ in tokens.pieces(text or "", frame.chunking)
    )


def _repeated(repeat: Repeat, written: Callable[[str], bytes]) -> Iterator[bytes]:
    """The pieces over and over, each written once only."""
    blocks = [written(piece) for piece in repeat.pieces]
    if repeat.size is None:
        yield from cycle(blocks)
        return
    piece = repeat.pieces[0]  # a sized text repeats one piece
    times, rest = divmod(repeat.size, len(piece))
    for _ in range(times):
        yield blocks[0]
    if rest:
        yield written(piece[:rest])


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def error_event(body: bytes) -> bytes:
    """An error inside a stream."""
    return b"data: " + body + b"\n\n"


def embeddings(vectors: Iterable[array[float]], model: str, prompt_tokens: int, *, packed: bool) -> bytes:
    """The body of an embeddings answer, as base64 of little-endian float32 or as numbers."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def rerank(
    results: Iterable[tuple[int, float]], documents: Sequence[str], model: str, tokens: int, *, with_documents: bool
) -> bytes:
    """The body of a reranking answer, as Jina and those who follow it write it."""
    rows: list[dict[str, Any]] = [{"index": index, "relevance_score": score} for index, score in results]
    if with_documents:
        for row in rows:
            row["document"] = {"text": documents[row["index"]]}
    return orjson.dumps({"model": model, "object": "list", "results": rows, "usage": {"total_tokens": tokens}})


def _packed(vector: array[float]) -> str:
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()


def models(names: Iterable[str]) -> bytes:
    """The body of the model listing."""
    return orjson.dumps({"object": "list", "data": [_model(name) for name in names]})


def one_model(name: str) -> bytes:
    """The body that describes one model."""
    return orjson.dumps(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"}
