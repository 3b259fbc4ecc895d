"""Holds a dialect against one recording, as an adapter reads it."""

from __future__ import annotations

import array
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from parley import v1
from parley.fold import fold
from parley_server.core.errors import GatewayError, StreamInterrupted
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from tests.conformance.adapter import (
    Answer,
    AnyAdapter,
    ChatAdapter,
    EmbedAdapter,
    Inexpressible,
    RerankAdapter,
    ToolUse,
)
from tests.conformance.recording import Recording

_CUTS = (1 << 30, 2000, 200, 20)
"""Largest piece, in bytes, of each way a stream is cut."""
_PREFIXES = 12


@dataclass(frozen=True, slots=True)
class Miss:
    """A check that failed, and how."""

    file: str
    check: str
    reason: str


def operation(adapter: AnyAdapter) -> Literal["chat", "embed", "rerank"]:
    """What the APIs of an adapter do."""
    if hasattr(adapter, "turn"):
        return "chat"
    return "rerank" if getattr(adapter, "operation", "") == "rerank" else "embed"


def check(adapter: AnyAdapter, recording: Recording) -> tuple[list[Miss], list[str]]:
    """What is wrong, and which checks could not be made. An exception of the dialect is a miss."""
    does = operation(adapter)
    checks: dict[str, Callable[[Any, Recording], Iterator[str]]] = {}
    if recording.status >= 400:
        checks["error"] = _error
    elif does == "chat":
        checks |= {"answer": _stream if recording.streamed else _unary, "replay": _replay}
    else:
        checks["answer"] = _vectors if does == "embed" else _ranking
    if isinstance(recording.request, dict):
        checks["request"] = _request if does == "chat" else _plain_request
    misses: list[Miss] = []
    notes: list[str] = []
    for name, run in checks.items():
        try:
            misses += [Miss(recording.file, name, reason) for reason in run(adapter, recording)]
        except Inexpressible as reason:
            notes.append(f"{name} not checked: {reason}")
        except Exception as error:  # whatever it is, it goes into the report
            misses.append(Miss(recording.file, name, f"{type(error).__name__}: {error}"))
    return misses, notes


# -------------------------------------------------------------------------------------------------------------- answers


def _unary(adapter: ChatAdapter, recording: Recording) -> Iterator[str]:
    expected = adapter.read(recording)
    dialect, target = adapter.dialect(recording), adapter.target(recording)
    if expected.failure is not None:
        yield from _raises(lambda: dialect.decode(recording.body, target), expected.failure)
        return
    yield from differences(expected, dialect.decode(recording.body, target))


def _stream(adapter: ChatAdapter, recording: Recording) -> Iterator[str]:
    expected = adapter.read(recording)
    dialect, target = adapter.dialect(recording), adapter.target(recording)
    chance = random.Random(recording.file)
    for most in _CUTS:
        pieces = list(cut(recording.body, most, chance))
        if expected.failure is not None:
            yield from _raises(lambda pieces=pieces: decoded(dialect, target, pieces), expected.failure)  # type: ignore[misc]
            continue
        for reason in differences(expected, decoded(dialect, target, pieces)):
            yield f"cut into pieces of at most {most} bytes: {reason}"
    if expected.failure is None:
        for _ in range(_PREFIXES):
            end = chance.randrange(len(recording.body))
            yield from _interrupted(dialect, target, recording.body[:end], expected)


def _interrupted(dialect: ChatDialect, target: Target, prefix: bytes, expected: Answer) -> Iterator[str]:
    """A prefix is interrupted, unless all that is missing comes behind the answer: usage, facts, the end marker."""
    try:
        response = decoded(dialect, target, [prefix])
    except StreamInterrupted:
        return
    for reason in differences(expected, response):
        if not reason.startswith(("usage", "route.")):
            yield f"a prefix of {len(prefix)} bytes passed for an answer: {reason}"


def cut(body: bytes, most: int, chance: random.Random) -> Iterator[bytes]:
    """`body` in pieces of 1 to `most` bytes."""
    start = 0
    while start < len(body):
        end = start + chance.randint(1, most) if most < len(body) else len(body)
        yield body[start:end]
        start = end


def decoded(dialect: ChatDialect, target: Target, pieces: Sequence[bytes]) -> v1.ChatResponse:
    """What framing, decoder and fold make of a stream that arrives in `pieces`."""
    framing, decoder = dialect.framing(), dialect.decoder(target)
    events: list[v1.StreamChatResponse] = []
    for piece in pieces:
        events += decoder.feed(framing.feed(piece))
    events += decoder.feed(framing.finish())
    events += decoder.finish()
    kinds = [event.WhichOneof("event") for event in events]
    if kinds[:1] != ["started"] or kinds[-1:] != ["completed"] or kinds.count("completed") != 1:
        raise AssertionError(f"events out of order: {kinds[:2]} … {kinds[-2:]}")
    return fold(events)


def _raises(call: Callable[[], object], expected: type[GatewayError]) -> Iterator[str]:
    try:
        call()
    except GatewayError as error:
        if type(error) is not expected:
            yield f"raised {type(error).__name__} instead of {expected.__name__}"
        return
    yield f"did not raise {expected.__name__}"


def differences(expected: Answer, response: v1.ChatResponse) -> Iterator[str]:
    """Where `response` says something else than `expected`."""
    found = heard(response)
    for name in ("text", "reasoning", "refusal", "finish", "native_finish", "usage", "citations", "logprobs"):
        wanted, got = getattr(expected, name), getattr(found, name)
        if wanted != got:
            yield f"{name}: {_short(wanted)} expected, {_short(got)} found"
    ids = [call.id for call in found.tool_calls]
    if "" in ids or len(set(ids)) != len(ids):
        yield f"tool call IDs are not unique: {ids}"
    for number, call in enumerate(found.tool_calls):
        if number < len(expected.tool_calls) and not expected.tool_calls[number].id:
            found.tool_calls[number] = ToolUse("", call.name, call.arguments)
    if expected.tool_calls != found.tool_calls:
        yield f"tool calls: {_short(expected.tool_calls)} expected, {_short(found.tool_calls)} found"
    for path, wanted in expected.facts.items():
        got = response
        for step in path.split("."):
            got = getattr(got, step)
        if got != wanted:
            yield f"{path}: {_short(wanted)} expected, {_short(got)} found"
    if response.message.role != v1.ROLE_ASSISTANT or not response.message.parts:
        yield "the turn cannot be appended to a conversation"


def heard(response: v1.ChatResponse) -> Answer:
    """A response in the words of `Answer`."""
    answer = Answer(
        finish=v1.FinishReason.Name(response.finish_reason).removeprefix("FINISH_REASON_"),
        native_finish=response.native_finish_reason,
        usage=usage_of(response.usage),
        logprobs=[(entry.token, entry.logprob) for entry in response.logprobs],
    )
    for part in response.message.parts:
        match part.WhichOneof("kind"):
            case "text":
                answer.text += part.text
                answer.citations += [citation.uri or citation.title for citation in part.citations]
            case "reasoning":
                answer.reasoning += part.reasoning.text
            case "refusal":
                answer.refusal += part.refusal.text
            case "tool_call":
                call = part.tool_call
                answer.tool_calls.append(ToolUse(call.id, call.name, parsed(call.arguments_json)))
    return answer


def usage_of(usage: v1.Usage) -> dict[str, int]:
    """The counts that are set, by name."""
    return {name.name: value for name, value in usage.ListFields() if name.name.endswith("_tokens")}


def parsed(text: str) -> Any:
    """JSON text parsed, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# ------------------------------------------------------------------------------------------------------------- requests


def _request(adapter: ChatAdapter, recording: Recording) -> Iterator[str]:
    stream = bool(recording.request.get("stream")) or recording.streamed
    call = adapter.dialect(recording).encode(adapter.request(recording), adapter.target(recording), stream=stream)
    yield from unlike(adapter.normal(recording.request), adapter.normal(json.loads(call.body)))


def _plain_request(adapter: Any, recording: Recording) -> Iterator[str]:
    call = adapter.dialect(recording).encode(adapter.request(recording), adapter.target(recording))
    yield from unlike(adapter.normal(recording.request), adapter.normal(json.loads(call.body)))


def _replay(adapter: ChatAdapter, recording: Recording) -> Iterator[str]:
    if adapter.read(recording).failure is not None or (wanted := adapter.turn(recording)) is None:
        return
    dialect, target = adapter.dialect(recording), adapter.target(recording)
    try:
        request = adapter.request(recording) if isinstance(recording.request, dict) else _hello()
    except Inexpressible:
        request = _hello()
    if recording.streamed:
        message = decoded(dialect, target, [recording.body]).message
    else:
        message = dialect.decode(recording.body, target).message
    request.messages.append(message)
    results = [
        v1.Part(
            tool_result=v1.ToolResult(tool_call_id=p.tool_call.id, name=p.tool_call.name, parts=[v1.Part(text="done")])
        )
        for p in message.parts
        if p.HasField("tool_call")
    ]
    if results:
        request.messages.add(role=v1.ROLE_TOOL, parts=results)
    else:
        request.messages.add(role=v1.ROLE_USER, parts=[v1.Part(text="Go on.")])
    call = dialect.encode(request, target, stream=False)
    yield from unlike(wanted, adapter.turn_sent(json.loads(call.body)), "turn")


def _hello() -> v1.ChatRequest:
    return v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Hello")])])


def unlike(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Paths at which two JSON values differ, with both sides."""
    match wanted, found:
        case dict(), dict():
            for name in sorted(wanted.keys() | found.keys()):
                here = f"{path}.{name}" if path else name
                if name not in found:
                    yield f"{here}: {_short(wanted[name])} is missing"
                elif name not in wanted:
                    yield f"{here}: {_short(found[name])} is too much"
                else:
                    yield from unlike(wanted[name], found[name], here)
        case list(), list() if len(wanted) == len(found):
            for index, (left, right) in enumerate(zip(wanted, found, strict=True)):
                yield from unlike(left, right, f"{path}[{index}]")
        case _ if wanted != found:
            yield f"{path}: {_short(wanted)} expected, {_short(found)} found"


# ---------------------------------------------------------------------------------------- vectors, rankings and errors


def _vectors(adapter: EmbedAdapter, recording: Recording) -> Iterator[str]:
    vectors, usage = adapter.read(recording)
    dialect, target = adapter.dialect(recording), adapter.target(recording)
    packed = dialect.decode(recording.body, target, v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    floats = dialect.decode(recording.body, target, v1.EMBEDDING_ENCODING_FLOAT)
    for response in (packed, floats):
        if len(response.embeddings) != len(vectors):
            yield f"{len(vectors)} vectors expected, {len(response.embeddings)} found"
            return
        if usage_of(response.usage) != dict(usage):
            yield f"usage: {usage} expected, {usage_of(response.usage)} found"
    for index, vector in enumerate(vectors):
        wanted = array.array("f", vector)
        if array.array("f", packed.embeddings[index].packed) != wanted:
            yield f"vector {index} differs in packed form"
        if array.array("f", floats.embeddings[index].floats.values) != wanted:
            yield f"vector {index} differs as floats"
        if {packed.embeddings[index].dimensions, floats.embeddings[index].dimensions} != {len(vector)}:
            yield f"vector {index} has wrong dimensions"


def _ranking(adapter: RerankAdapter, recording: Recording) -> Iterator[str]:
    wanted, usage = adapter.read(recording)
    response = adapter.dialect(recording).decode(recording.body, adapter.target(recording))
    found = [(result.index, result.score) for result in response.results]
    if found != wanted:
        yield f"ranking: {_short(wanted)} expected, {_short(found)} found"
    if usage_of(response.usage) != dict(usage):
        yield f"usage: {usage} expected, {usage_of(response.usage)} found"


def _error(adapter: AnyAdapter, recording: Recording) -> Iterator[str]:
    target = adapter.target(recording)
    error = adapter.dialect(recording).error(recording.status, recording.headers, recording.body, target)
    expected = adapter.failure(recording)
    if type(error) is not expected:
        yield f"{type(error).__name__} instead of {expected.__name__}"
    said = error.provider_error
    if said is None or said.http_status != recording.status or said.provider != target.provider:
        yield "what the provider said is not kept"
    elif len(said.message.encode()) > 512 or not said.message:
        yield f"the provider's message is kept as {_short(said.message)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:100]} … {text[-50:]}"
