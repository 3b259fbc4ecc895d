"""Anthropic's Messages API."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.base import ChatDialect
from tests.contract.case import Case, dump, named_sse
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces, turn_of

_HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929"}
_SIGNATURE = "EqQBCkYIBxgCKkBzaWduYXR1cmU="


class Anthropic(Case):
    """Blocks that begin and end; every count of the input apart from the others. A refusal is told by its reason."""

    name = "anthropic"
    dialect: ChatDialect = AnthropicMessages()
    target = Target("anthropic", "claude-sonnet-4-5")
    free_keys = frozenset({"input"})

    def body(self, said: Said) -> Any:
        content: list[dict[str, Any]] = []
        if said.reasoning:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": _SIGNATURE})
        if said.text:
            content.append({"type": "text", "text": said.text})
        for call in said.calls:
            given = json.loads(call.arguments or "{}")
            content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
        usage = {} if said.used is None else {"usage": _usage(said.used)}
        return {**_HEAD, "content": content, **_end(said), **usage}

    def events(self, said: Said) -> list[Any]:
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if said.reasoning:
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(said.reasoning)]
            deltas.append({"type": "signature_delta", "signature": _SIGNATURE})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
        if said.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(said.text)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in said.calls:
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(call.arguments))]
            blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas))
        counts: dict[str, Any] = {} if said.used is None else {"usage": _usage(said.used) | {"output_tokens": 0}}
        begun: dict[str, Any] = {**_HEAD, "content": [], "stop_reason": None, "stop_sequence": None, **counts}
        found: list[Any] = [{"type": "message_start", "message": begun}]
        for index, (block, deltas) in enumerate(blocks):
            found.append({"type": "content_block_start", "index": index, "content_block": block})
            found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            found.append({"type": "content_block_stop", "index": index})
        told = {} if said.used is None else {"usage": {"output_tokens": said.used.output, **_thought(said.used)}}
        return [*found, {"type": "message_delta", "delta": _end(said), **told}, {"type": "message_stop"}]

    def frame(self, event: Any) -> bytes:
        frame = named_sse(event)
        return frame[:-3] + b" " * (len(frame) * 7 % 15) + frame[-3:]  # which hides how long a text is

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Overloaded

    def strangers(self) -> list[Any]:
        return [{"type": "ping"}, {"type": "zz_new_event", "index": 0, "text": "?"}, b": comment\n\n"]

    def refusal(self, status: int, message: str) -> bytes:
        types = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}
        return dump({"type": "error", "error": {"type": types.get(status, "new_error"), "message": message}})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "anthropic", "base_url": f"{base_url}/v1", "api_key": "env:CASE_KEY"}

    def returned(self, said: Said) -> Turn:
        turn = turn_of(said)
        return replace(turn, text=turn.text + turn.refusal, refusal="")

    def turn(self, body: Any) -> Turn:
        blocks = [turn for turn in body["messages"] if turn["role"] == "assistant"][-1]["content"]
        for block in blocks:
            if block["type"] == "thinking":
                assert block["signature"] == _SIGNATURE
        return Turn(
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            reasoning="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            calls=tuple(
                Call(block["id"], block["name"], canonical(block["input"]))
                for block in blocks
                if block["type"] == "tool_use"
            ),
        )

    def results(self, body: Any) -> list[tuple[str, str]]:
        return [
            (block["tool_use_id"], "".join(inner["text"] for inner in block["content"]))
            for turn in body["messages"]
            for block in turn["content"]
            if block["type"] == "tool_result"
        ]


def _end(said: Said) -> dict[str, Any]:
    if said.refusal:
        details = {"stop_details": {"type": "refusal", "category": None, "explanation": said.refusal}}
        return {"stop_reason": "refusal", "stop_sequence": None, **details}
    return {
        "stop_reason": "max_tokens" if said.cut else "tool_use" if said.calls else "end_turn",
        "stop_sequence": None,
    }


def _usage(used: Used) -> dict[str, Any]:
    return {
        "input_tokens": used.input - used.cache_read - used.cache_write,
        "cache_read_input_tokens": used.cache_read,
        "cache_creation_input_tokens": used.cache_write,
        "output_tokens": used.output,
        **_thought(used),
    }


def _thought(used: Used) -> dict[str, Any]:
    return {"output_tokens_details": {"thinking_tokens": used.reasoning}}


CASES = (Anthropic(),)
