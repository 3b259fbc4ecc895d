"""Ollama's own chat API."""

from __future__ import annotations

import json
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaChat
from tests.contract.case import Case, dump
from tests.contract.said import Call, Said, Turn, canonical, pieces

_HEAD = {"model": "qwen3:4b", "created_at": "2026-11-20T00:00:00Z"}


class Ollama(Case):
    """A JSON object a line, tool calls in one piece, the counts with the last line."""

    name = "ollama"
    dialect = OllamaChat()
    target = Target("ollama", "qwen3:4b")
    lacks = frozenset({"refusal", "cache_read", "cache_write", "reasoning_tokens"})
    content_type = "application/x-ndjson"
    trailing = 1
    free_keys = frozenset({"arguments"})

    def body(self, said: Said) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        if said.reasoning:
            message["thinking"] = said.reasoning
        if said.calls:
            message["tool_calls"] = [_call(call, index) for index, call in enumerate(said.calls)]
        return {**_HEAD, "message": message, **_end(said)}

    def events(self, said: Said) -> list[Any]:
        messages: list[dict[str, Any]] = [{"content": "", "thinking": piece} for piece in pieces(said.reasoning)]
        messages += [{"content": piece} for piece in pieces(said.text)]
        messages += [{"content": "", "tool_calls": [_call(call, index)]} for index, call in enumerate(said.calls)]
        lines = [{**_HEAD, "message": {"role": "assistant", **message}, "done": False} for message in messages]
        return [*lines, {**_HEAD, "message": {"role": "assistant", "content": ""}, **_end(said)}]

    def frame(self, event: Any) -> bytes:
        return dump(event) + b"\n"

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return {"error": "server busy, please try again.  maximum pending requests exceeded"}, Overloaded

    def strangers(self) -> list[Any]:
        return [b"\n", {"status": "loading", "model": "qwen3:4b"}]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"error": message})

    def garbage(self) -> bytes:
        return b"{nonsense\n"

    def endless(self) -> bytes:
        return b'{"x": "' + b"x" * (17 * 1024 * 1024)

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "ollama", "base_url": base_url}

    def turn(self, body: Any) -> Turn:
        said = [message for message in body["messages"] if message["role"] == "assistant"][-1]
        calls = tuple(
            Call(call["id"], call["function"]["name"], canonical(call["function"]["arguments"]))
            for call in said.get("tool_calls") or ()
        )
        return Turn(said["content"], said.get("thinking") or "", "", calls)

    def results(self, body: Any) -> list[tuple[str, str]]:
        tools = [message for message in body["messages"] if message["role"] == "tool"]
        return [(message["tool_call_id"], message["content"]) for message in tools]


def _call(call: Call, index: int) -> dict[str, Any]:
    function: dict[str, Any] = {"index": index, "name": call.name}
    if call.arguments:
        function["arguments"] = json.loads(call.arguments)
    return {"id": call.id, "function": function}


def _end(said: Said) -> dict[str, Any]:
    end: dict[str, Any] = {"done": True, "done_reason": "length" if said.cut else "stop", "total_duration": 5}
    if said.used is not None:
        end |= {"prompt_eval_count": said.used.input, "eval_count": said.used.output}
    return end


CASES = (Ollama(),)
