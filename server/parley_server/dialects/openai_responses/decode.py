"""From the body of a finished response to a `ChatResponse`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import load_object
from parley_server.dialects.openai_chat.decode import MALFORMED, logprobs
from parley_server.dialects.openai_responses import answers
from parley_server.dialects.openai_responses.quirks import ResponsesQuirks


def decode(body: bytes, target: Target, quirks: ResponsesQuirks) -> v1.ChatResponse:
    """The answer. Raises what an error inside it means, ProtocolError if `body` is no response."""
    response = load_object(body)
    if response.get("error") or response.get("status") == "failed":
        raise answers.failure(response, target)
    if not isinstance(response.get("output"), list):
        raise ProtocolError("the provider answered without output")
    try:
        return _response(response, target, quirks)
    except MALFORMED as problem:
        raise ProtocolError("the provider's answer is not of the form it should have") from problem


def _response(response: Mapping[str, Any], target: Target, quirks: ResponsesQuirks) -> v1.ChatResponse:
    answer = v1.ChatResponse()
    parts = answer.message.parts
    seen = answers.Seen()
    for item in response["output"]:
        seen.item(item)
        parts.extend(answers.parts(item, response.get("id") or "", target, ids_repeat=quirks.call_ids_repeat))
        if item["type"] == "message":
            for content in item.get("content") or ():
                if tokens := content.get("logprobs"):
                    answer.logprobs.extend(logprobs({"content": tokens}))
    if (beside := reasoning_beside(response, quirks)) is not None:
        parts.append(beside)
    if not parts:
        parts.append(v1.Part(text=""))  # an answer of nothing is still a turn that can be appended
    answer.message.role = v1.ROLE_ASSISTANT
    answer.finish_reason, answer.native_finish_reason = answers.end(response, seen)
    answers.fill_route(answer.route, response, target)
    if isinstance(said := response.get("usage"), dict):
        answers.fill_usage(answer.usage, said, seen.server_calls)
    return answer


def reasoning_beside(response: Mapping[str, Any], quirks: ResponsesQuirks) -> v1.Part | None:
    """Reasoning that stands beside the items, so that nobody knows where it belongs: it comes last."""
    if not quirks.reasoning_beside:
        return None
    text = response.get("reasoning")
    return v1.Part(reasoning=v1.ReasoningPart(text=text)) if isinstance(text, str) and text.strip() else None
