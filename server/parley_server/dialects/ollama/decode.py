"""A whole answer of `POST /api/chat` as a `ChatResponse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.ollama import answers
from parley_server.dialects.ollama.errors import error_inside


def decode(body: bytes, target: Target) -> v1.ChatResponse:
    """The answer. Raises what an error inside it means, ProtocolError if `body` is no answer."""
    answer = answers.load(body)
    if answer.get("error"):
        raise error_inside(answer, target)
    try:
        message = answer["message"]
        calls = message.get("tool_calls") or ()
        native = answer.get("done_reason") or ""
        return v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=_parts(message, calls, answer, target)),
            finish_reason=answers.finish_reason(native, called=bool(calls)),
            native_finish_reason=native,
            logprobs=answers.logprobs(answer.get("logprobs")),
            usage=answers.usage(answer),
            route=v1.RouteInfo(model=answer.get("model") or ""),
        )
    except answers.MALFORMED as problem:
        raise ProtocolError("the provider's answer is not of the form it should have") from problem


def _parts(message: dict[str, Any], calls: Any, answer: dict[str, Any], target: Target) -> Iterator[v1.Part]:
    thinking, content = message.get("thinking"), message.get("content")
    if thinking:
        yield v1.Part(reasoning=v1.ReasoningPart(text=thinking), replay_state=answers.reasoning_state(target))
    if content or not (thinking or calls):  # an answer of nothing is still a turn that can be appended
        yield v1.Part(text=content or "")
    for number, call in enumerate(calls):
        yield answers.tool_call(call, number, answer.get("created_at") or "")
