"""What Bedrock sends, written from its reference, and what the dialect makes of it, for tests."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.bedrock import BedrockConverse

DIALECT = BedrockConverse()
CLAUDE = Target("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
NOVA = Target("bedrock", "us.amazon.nova-2-lite-v1:0")

HeaderValue = str | bytes | bool | int
EVENT = {":message-type": "event", ":content-type": "application/json"}


def header(name: str, value: HeaderValue) -> bytes:
    """One header of a frame: text, bytes, a truth value, or a number of 32 bits."""
    start = bytes([len(name)]) + name.encode()
    match value:
        case bool():
            return start + bytes([0 if value else 1])
        case int():
            return start + b"\x04" + struct.pack(">i", value)
        case bytes():
            return start + b"\x06" + struct.pack(">H", len(value)) + value
        case str():
            return start + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()


def frame(headers: Mapping[str, HeaderValue] | bytes, payload: bytes) -> bytes:
    """One frame; headers as a mapping or already encoded."""
    block = headers if isinstance(headers, bytes) else b"".join(header(*item) for item in headers.items())
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    head = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return head + struct.pack(">I", crc32(head))


def event(name: str, fields: Mapping[str, Any]) -> bytes:
    """An event with JSON inside, padded as Bedrock pads it."""
    return frame({":event-type": name, **EVENT}, json.dumps({**fields, "p": "abc"}, ensure_ascii=False).encode())


def exception(name: str, fields: Mapping[str, Any]) -> bytes:
    """An exception."""
    headers = {":exception-type": name, ":message-type": "exception", ":content-type": "application/json"}
    return frame(headers, json.dumps(fields).encode())


def chunk(fields: Mapping[str, Any]) -> bytes:
    """An event of somebody else's stream, wrapped."""
    inside = base64.b64encode(json.dumps(fields).encode()).decode()
    return frame(
        {":event-type": "chunk", **EVENT}, json.dumps({"bytes": inside, "p": "ab"}, separators=(",", ":")).encode()
    )


def answer(content: list[Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    """A whole answer of Converse."""
    usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 1}, **more}


def streamed(said: Mapping[str, Any], pieces: int = 1) -> list[bytes]:
    """The events that say the same as a whole answer; texts in so many pieces."""
    frames = [event("messageStart", {"role": "assistant"})]
    for index, block in enumerate(said["output"]["message"]["content"]):
        start, deltas = _cut(block, pieces)
        if start:
            frames.append(event("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        frames += [event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        frames.append(event("contentBlockStop", {"contentBlockIndex": index}))
    stop = {"stopReason": said["stopReason"]}
    if "additionalModelResponseFields" in said:
        stop["additionalModelResponseFields"] = said["additionalModelResponseFields"]
    tier = {"serviceTier": said["serviceTier"]} if "serviceTier" in said else {}
    return [*frames, event("messageStop", stop), event("metadata", {"usage": said["usage"], **tier})]


def _cut(block: Mapping[str, Any], pieces: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block:
        case {"text": text}:
            return {}, [{"text": piece} for piece in in_pieces(text, pieces)]
        case {"citationsContent": {"content": [{"text": text}], "citations": citations}}:
            return {}, [{"text": text}, *({"citation": citation} for citation in citations)]
        case {"reasoningContent": {"reasoningText": said}}:
            deltas = [{"reasoningContent": {"text": piece}} for piece in in_pieces(said["text"], pieces)]
            if "signature" in said:
                deltas.append({"reasoningContent": {"signature": said["signature"]}})
            return {}, deltas
        case {"reasoningContent": said}:
            return {}, [{"reasoningContent": said}]
        case {"toolUse": {"input": input, **head}}:
            text = json.dumps(input, ensure_ascii=False, separators=(",", ":")) if input else ""
            return {"toolUse": head}, [{"toolUse": {"input": piece}} for piece in in_pieces(text, pieces)]
        case {"toolResult": {"content": content, **head}}:
            return {"toolResult": head}, [{"toolResult": [piece]} for piece in content]
    raise AssertionError(f"no way to stream {block}")


def in_pieces(text: str, pieces: int) -> list[str]:
    """`text` in so many pieces, at least one."""
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def read(
    data: bytes, cuts: Iterable[int] = (), dialect: ChatDialect = DIALECT, target: Target = CLAUDE
) -> v1.ChatResponse:
    """What a stream says that arrives cut at these places."""
    framing, decoder = dialect.framing(), dialect.decoder(target)
    places = sorted(place % (len(data) + 1) for place in cuts)
    events: list[v1.StreamChatResponse] = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        events += decoder.feed(framing.feed(data[start:end]))
    events += decoder.feed(framing.finish())
    return fold(events + decoder.finish())


def decoded(said: Mapping[str, Any], target: Target = CLAUDE) -> v1.ChatResponse:
    """What a whole answer says."""
    return DIALECT.decode(json.dumps(said).encode(), target)


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` cut at these places, taken modulo its length."""
    at = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]
