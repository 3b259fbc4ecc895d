"""Amazon Bedrock: Converse, and Claude's own API inside InvokeModel."""

from __future__ import annotations

import base64
import json
import string
import struct
from typing import Any
from zlib import crc32

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.bedrock import BedrockConverse
from parley_server.providers.bedrock import CLAUDE
from tests.contract.case import Case, dump
from tests.contract.cases.anthropic import Anthropic
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces
from tests.upstream import Request

_LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
_SIGNATURE = "EqQBCkYIBxgCKkBzaWduYXR1cmU="
_CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"


class Converse(Case):
    """Binary frames, each an event by its header; the counts come last, and the answer is one without them."""

    name = "bedrock"
    dialect = BedrockConverse()
    target = Target("bedrock", _CLAUDE)
    lacks = frozenset({"refusal", "reasoning_tokens"})
    content_type = "application/vnd.amazon.eventstream"
    trailing = 0
    free_keys = frozenset({"input"})

    def body(self, said: Said) -> Any:
        content: list[dict[str, Any]] = []
        if said.reasoning:
            text = {"text": said.reasoning, "signature": _SIGNATURE}
            content.append({"reasoningContent": {"reasoningText": text}})
        if said.text:
            content.append({"text": said.text})
        for call in said.calls:
            use = {"toolUseId": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")}
            content.append({"toolUse": use})
        message = {"role": "assistant", "content": content}
        return {"output": {"message": message}, "stopReason": _reason(said), **_usage(said.used)}

    def events(self, said: Said) -> list[Any]:
        blocks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]] = []
        if said.reasoning:
            thoughts = [{"reasoningContent": {"text": piece}} for piece in pieces(said.reasoning)]
            blocks.append((None, [*thoughts, {"reasoningContent": {"signature": _SIGNATURE}}]))
        if said.text:
            blocks.append((None, [{"text": piece} for piece in pieces(said.text)]))
        for call in said.calls:
            start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            blocks.append((start, [{"toolUse": {"input": piece}} for piece in pieces(call.arguments)]))
        found: list[Any] = [{"messageStart": {"role": "assistant"}}]
        for index, (begun, deltas) in enumerate(blocks):
            place = {"contentBlockIndex": index}
            if begun is not None:
                found.append({"contentBlockStart": {**place, "start": begun}})
            found += [{"contentBlockDelta": {**place, "delta": delta}} for delta in deltas]
            found.append({"contentBlockStop": place})
        return [*found, {"messageStop": {"stopReason": _reason(said)}}, {"metadata": _usage(said.used)}]

    def enough(self, said: Said) -> int:
        return len(self.events(said)) - 1

    def frame(self, event: Any) -> bytes:
        name = next(iter(event))
        return message("event", name, dump(_padded(event[name])))

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return message("exception", "serviceUnavailableException", dump({"message": "Try again."})), Overloaded

    def strangers(self) -> list[Any]:
        return [{"zzNewEvent": {"contentBlockIndex": 0, "delta": {"text": "?"}}}]

    def garbage(self) -> bytes:
        return b"\0\0\0\x20\0\0\0\x05nonsense"

    def endless(self) -> bytes:
        prelude = struct.pack(">II", 1 << 30, 0)
        return prelude + struct.pack(">I", crc32(prelude)) + b"x" * (1 << 16)

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"message": message})

    def provider(self, base_url: str) -> dict[str, Any]:
        urls = {"base_url": base_url, "control_url": base_url, "openai_url": f"{base_url}/openai/v1"}
        return {"kind": "bedrock", "region": "us-east-1", "api_key": "env:CASE_KEY", **urls}

    def streams(self, request: Request) -> bool:
        return request.path.endswith("/converse-stream")

    def turn(self, body: Any) -> Turn:
        blocks = [turn for turn in body["messages"] if turn["role"] == "assistant"][-1]["content"]
        thoughts = [block["reasoningContent"]["reasoningText"] for block in blocks if "reasoningContent" in block]
        assert all(thought["signature"] == _SIGNATURE for thought in thoughts)
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        return Turn(
            text="".join(block["text"] for block in blocks if "text" in block),
            reasoning="".join(thought["text"] for thought in thoughts),
            calls=tuple(Call(use["toolUseId"], use["name"], canonical(use["input"])) for use in uses),
        )

    def results(self, body: Any) -> list[tuple[str, str]]:
        results = [
            block["toolResult"] for turn in body["messages"] for block in turn["content"] if "toolResult" in block
        ]
        return [(result["toolUseId"], "".join(inner["text"] for inner in result["content"])) for result in results]


class ClaudeOnBedrock(Anthropic):
    """The events of the Messages API, each in base64 in a frame of its own."""

    name = "bedrock, claude"
    dialect: ChatDialect = CLAUDE
    target = Target("bedrock", _CLAUDE)
    content_type = "application/vnd.amazon.eventstream"
    trailing = 0
    over_sockets = False  # which API is used goes by the request

    def frame(self, event: Any) -> bytes:
        packed = base64.b64encode(dump(event)).decode()
        return message("event", "chunk", dump(_padded({"bytes": packed})))

    def strangers(self) -> list[Any]:
        return [{"type": "ping"}, {"type": "zz_new_event", "index": 0, "text": "?"}]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"message": message})


def _padded(payload: dict[str, Any]) -> dict[str, Any]:
    """With letters that hide how long a text is."""
    return {**payload, "p": _LETTERS[: len(dump(payload)) * 37 % (len(_LETTERS) + 1)]}


def message(kind: str, name: str, payload: bytes) -> bytes:
    """A frame of an AWS event stream."""
    told = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in told.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    frame = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return frame + struct.pack(">I", crc32(frame))


def _reason(said: Said) -> str:
    return "max_tokens" if said.cut else "tool_use" if said.calls else "end_turn"


def _usage(used: Used | None) -> dict[str, Any]:
    told: dict[str, Any] = {"metrics": {"latencyMs": 5}}
    if used is not None:
        told["usage"] = {
            "inputTokens": used.input - used.cache_read - used.cache_write,
            "outputTokens": used.output,
            "totalTokens": used.input + used.output,
            "cacheReadInputTokens": used.cache_read,
            "cacheWriteInputTokens": used.cache_write,
        }
    return told


CASES = (Converse(), ClaudeOnBedrock())
