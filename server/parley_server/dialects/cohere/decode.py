"""A whole answer of `POST /v2/chat` as a `ChatResponse`.

The plan before tool calls is text that the model wrote to the user, so it becomes a text part; see `messages.py` for
its way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import load_object
from parley_server.dialects.cohere import answers


def decode(body: bytes, target: Target) -> v1.ChatResponse:
    """The answer. Raises what an error inside it means, ProtocolError if `body` is no answer."""
    answer = load_object(body)
    try:
        message = answer["message"]
        calls = message.get("tool_calls") or ()
        return v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=_parts(message, answer.get("id") or "", target)),
            logprobs=answers.logprobs(answer.get("logprobs")),
            usage=answers.usage(answer.get("usage"), target),
            route=v1.RouteInfo(model=target.model, provider_response_id=answer.get("id") or ""),
            **answers.end(answer, target, called=bool(calls)),
        )
    except answers.MALFORMED as problem:
        raise ProtocolError("the provider's answer is not of the form it should have") from problem


def _parts(message: Mapping[str, Any], answer_id: str, target: Target) -> list[v1.Part]:
    """Thoughts, the plan, text, tool calls: the order in which the model writes them."""
    content = message.get("content") or ()
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    thoughts: dict[int | str, v1.Part] = {}
    texts: dict[int | str, v1.Part] = {}
    for index, block in enumerate(content):
        match block.get("type"):
            case "thinking":
                reasoning = v1.ReasoningPart(text=block["thinking"])
                thoughts[index] = v1.Part(reasoning=reasoning, replay_state=answers.reasoning_state(target))
            case "text":
                texts[index] = v1.Part(text=block["text"])
    first_text = next((index for index in texts if isinstance(index, int)), None)
    if plan := message.get("tool_plan"):
        texts = {answers.PLAN: v1.Part(text=plan), **texts}
    for citation in message.get("citations") or ():
        cited = answers.cited_block(citation, first_text)
        if cited is not None and cited in texts:
            texts[cited].citations.extend(answers.citations(citation))
    calls = [answers.tool_call(call, number, answer_id) for number, call in enumerate(message.get("tool_calls") or ())]
    for part in calls:
        part.tool_call.arguments_json = part.tool_call.arguments_json or "{}"
    return [*thoughts.values(), *texts.values(), *calls] or [v1.Part(text="")]
