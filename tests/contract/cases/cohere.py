"""Cohere's chat API, version 2."""

from __future__ import annotations

from typing import Any

from parley_server.core.errors import GatewayError, Unavailable
from parley_server.core.target import Target
from parley_server.dialects.cohere import CohereChat
from tests.contract.case import Case, dump, named_sse
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces

_ID = "2941521a-b87a-45f6-9b0d-235fd66c3025"


class Cohere(Case):
    """Named events about blocks and calls. Text beside calls is the plan, which stands apart."""

    name = "cohere"
    dialect = CohereChat()
    target = Target("cohere", "command-a-03-2025")
    lacks = frozenset({"refusal", "cache_write", "reasoning_tokens"})

    def body(self, said: Said) -> Any:
        message: dict[str, Any] = {"role": "assistant"}
        content: list[dict[str, Any]] = []
        if said.reasoning:
            content.append({"type": "thinking", "thinking": said.reasoning})
        if said.text and said.calls:
            message["tool_plan"] = said.text
        elif said.text:
            content.append({"type": "text", "text": said.text})
        if content:
            message["content"] = content
        if said.calls:
            message["tool_calls"] = [_call(call, call.arguments) for call in said.calls]
        return {"id": _ID, "message": message, **_end(said)}

    def events(self, said: Said) -> list[Any]:
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        found: list[Any] = [{"type": "message-start", "id": _ID, "delta": {"message": empty}}]
        if said.reasoning:
            found += _block(0, "thinking", said.reasoning)
        if said.calls:
            found += [{"type": "tool-plan-delta", **_delta({"tool_plan": piece})} for piece in pieces(said.text)]
        elif said.text:
            found += _block(1 if said.reasoning else 0, "text", said.text)
        for index, call in enumerate(said.calls):
            found.append({"type": "tool-call-start", "index": index, **_delta({"tool_calls": _call(call, "")})})
            for piece in pieces(call.arguments):
                more = {"tool_calls": {"function": {"arguments": piece}}}
                found.append({"type": "tool-call-delta", "index": index, **_delta(more)})
            found.append({"type": "tool-call-end", "index": index})
        return [*found, {"type": "message-end", "delta": _end(said)}]

    def frame(self, event: Any) -> bytes:
        return named_sse(event)

    def broken(self) -> tuple[Any, type[GatewayError]]:
        delta = {"finish_reason": "ERROR", "error": "something went wrong"}
        return {"type": "message-end", "delta": delta}, Unavailable

    def strangers(self) -> list[Any]:
        return [{"type": "debug", "prompt": "?"}, {"type": "zz-new-delta", "index": 0, "delta": {}}, b": comment\n\n"]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"id": _ID, "message": message})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "cohere", "base_url": base_url, "api_key": "env:CASE_KEY"}

    def turn(self, body: Any) -> Turn:
        said = [message for message in body["messages"] if message["role"] == "assistant"][-1]
        content = said.get("content") or []
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        calls = tuple(
            Call(call["id"], call["function"]["name"], canonical(call["function"]["arguments"]))
            for call in said.get("tool_calls") or ()
        )
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        return Turn(said.get("tool_plan", "") + text, thoughts, "", calls)

    def results(self, body: Any) -> list[tuple[str, str]]:
        found = []
        for message in body["messages"]:
            if message["role"] == "tool":
                content = message["content"]
                text = content if isinstance(content, str) else "".join(block["text"] for block in content)
                found.append((message["tool_call_id"], text))
        return found


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    return {"delta": {"message": message}}


def _block(index: int, kind: str, text: str) -> list[Any]:
    return [
        {"type": "content-start", "index": index, **_delta({"content": {"type": kind, kind: ""}})},
        *({"type": "content-delta", "index": index, **_delta({"content": {kind: piece}})} for piece in pieces(text)),
        {"type": "content-end", "index": index},
    ]


def _call(call: Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _end(said: Said) -> dict[str, Any]:
    reason = "MAX_TOKENS" if said.cut else "TOOL_CALL" if said.calls else "COMPLETE"
    return {"finish_reason": reason, **({} if said.used is None else {"usage": _usage(said.used)})}


def _usage(used: Used) -> dict[str, Any]:
    return {
        "billed_units": {"input_tokens": 1.0, "output_tokens": 1.0},
        "tokens": {"input_tokens": float(used.input), "output_tokens": float(used.output)},
        "cached_tokens": float(used.cache_read),
    }


CASES = (Cohere(),)
