"""OpenAI's chat completions, as OpenAI sends them and as its followers do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.contract.case import Case, dump, sse
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces, turn_of

_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-5.1-2026-01-01", "service_tier": "default"}


class OpenAI(Case):
    """api.openai.com: always ends with [DONE], shows no reasoning."""

    name = "openai_chat"
    dialect: ChatDialect = OpenAIChat(Quirks.openai())
    target = Target("openai", "gpt-5.1")
    lacks = frozenset({"reasoning"})

    def body(self, said: Said) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": said.refusal or None}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        if said.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in said.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": _finish(said), "logprobs": None}
        usage = {} if said.used is None else {"usage": _usage(said.used)}
        return {**_HEAD, "object": "chat.completion", "choices": [choice], **usage}

    def events(self, said: Said) -> list[Any]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": piece} for piece in pieces(said.reasoning)]
        deltas += [{"content": piece} for piece in pieces(said.text)]
        deltas += [{"refusal": piece} for piece in pieces(said.refusal)]
        for index, call in enumerate(said.calls):
            function = {"name": call.name, "arguments": ""}
            deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces(call.arguments)
            ]
        found: list[Any] = [_chunk(delta) for delta in deltas]
        found.append(_chunk({}, _finish(said)))
        if said.used is not None:
            found.append({**_chunk({}), "choices": [], "usage": _usage(said.used)})
        return [*found, "[DONE]"]

    def frame(self, event: Any) -> bytes:
        return sse(event)

    def broken(self) -> tuple[Any, type[GatewayError]]:
        error = {"message": "The engine is overloaded.", "type": "server_error", "code": "server_is_overloaded"}
        return {"error": error}, Overloaded

    def strangers(self) -> list[Any]:
        return [
            b": keep-alive\n\n",
            b"event: ping\ndata:\n\n",
            {**_HEAD, "object": "chat.completion.chunk", "choices": [], "obfuscation": "aQz"},
        ]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"error": {"message": message, "type": "error", "param": None, "code": None}})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "openai", "base_url": f"{base_url}/v1", "api_key": "env:CASE_KEY"}

    def turn(self, body: Any) -> Turn:
        said = [message for message in body["messages"] if message["role"] == "assistant"][-1]
        calls = tuple(
            Call(call["id"], call["function"]["name"], canonical(call["function"]["arguments"]))
            for call in said.get("tool_calls") or ()
        )
        reasoning = said.get("reasoning_content") or said.get("reasoning") or ""
        return Turn(_text(said.get("content")), reasoning, said.get("refusal") or "", calls)

    def results(self, body: Any) -> list[tuple[str, str]]:
        tools = [message for message in body["messages"] if message["role"] == "tool"]
        return [(message["tool_call_id"], _text(message["content"])) for message in tools]


class Compatible(OpenAI):
    """Any server that follows: reasoning in a field, perhaps no [DONE]; a refusal goes back as the text it was."""

    name = "openai_chat, compatible"
    dialect = OpenAIChat(Quirks.compatible())
    target = Target("lab", "some-model")
    lacks = frozenset()

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "openai-compatible", "base_url": f"{base_url}/v1", "api_key": "env:CASE_KEY"}

    def enough(self, said: Said) -> int:
        return len(self.events(said)) - 1 - (said.used is not None)

    def returned(self, said: Said) -> Turn:
        turn = turn_of(said)
        return replace(turn, text=turn.text + turn.refusal, refusal="")


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {**_HEAD, "object": "chat.completion.chunk", "choices": [choice], "usage": None}


def _finish(said: Said) -> str:
    return "length" if said.cut else "tool_calls" if said.calls else "stop"


def _usage(used: Used) -> dict[str, Any]:
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cache_read, "cache_write_tokens": used.cache_write},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


CASES = (OpenAI(), Compatible())
