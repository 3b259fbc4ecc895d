"""A whole answer of `generateContent` as a `ChatResponse`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.gemini import answers
from parley_server.dialects.gemini.citations import Ruler, citations, recited
from parley_server.dialects.gemini.errors import blocked, error_inside
from parley_server.dialects.gemini.stream import ChunkDecoder


def decode(body: bytes, target: Target) -> v1.ChatResponse:
    """The answer. Raises PromptBlocked if the prompt was, ProtocolError if `body` is no answer."""
    said = answers.load(body)
    if isinstance(said, list):  # a stream that was not asked for as events is one list of all its chunks
        decoder = ChunkDecoder(target)
        return fold([*decoder.read(said), *decoder.finish()])
    try:
        if said.get("error"):
            raise error_inside(said, target)
        return _response(said, target)
    except answers.NONSENSE as error:
        raise ProtocolError("the provider's answer is not one of generateContent") from error


def _response(said: Mapping[str, Any], target: Target) -> v1.ChatResponse:
    candidate = answers.candidate(said)
    if candidate is None:
        if (said.get("promptFeedback") or {}).get("blockReason"):
            raise blocked(said["promptFeedback"], target)
        raise ProtocolError("the provider's answer has no candidate")
    parts = _Parts(said.get("responseId") or "", target)
    parts.extend((candidate.get("content") or {}).get("parts") or ())
    grounding = candidate.get("groundingMetadata") or {}
    for index, citation in citations(grounding, recited(candidate), parts.rulers):
        parts.parts[index].citations.append(citation)
    reason, word = answers.finish(candidate.get("finishReason"), called=parts.calls > 0)
    response = v1.ChatResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=parts.parts or [v1.Part(text="")]),
        finish_reason=reason,
        native_finish_reason=word,
        logprobs=answers.logprobs(candidate.get("logprobsResult") if any(parts.rulers) else None),
        route=answers.route(said),
    )
    if counts := said.get("usageMetadata"):
        response.usage.CopyFrom(answers.usage(counts, v1.Usage.SOURCE_PROVIDER, grounding))
    return response


class _Parts:
    """Parts of an answer, and what measures its texts. Texts are joined as in a stream: never with a signature."""

    def __init__(self, response_id: str, target: Target) -> None:
        self.parts: list[v1.Part] = []
        self.rulers: list[Ruler | None] = []
        self.calls = 0
        self._response_id = response_id
        self._target = target
        self._growing = ""

    def extend(self, wires: Iterable[Mapping[str, Any]]) -> None:
        for wire in wires:
            signature = wire.get("thoughtSignature")
            text = answers.text_of(wire)
            if text is None:
                self._whole(wire, signature)
            elif text or signature:
                self._text(text, "reasoning" if wire.get("thought") else "text", signature)

    def _text(self, text: str, kind: str, signature: Any) -> None:
        if kind != self._growing or signature:
            is_answer = kind == "text"
            self.parts.append(v1.Part(text="") if is_answer else v1.Part(reasoning=v1.ReasoningPart()))
            self.rulers.append(Ruler() if is_answer else None)
            self._growing = "" if signature else kind
            if signature or not is_answer:
                self.parts[-1].replay_state.CopyFrom(answers.state(signature, self._target))
        ruler = self.rulers[-1]
        if ruler is not None:
            ruler.add(text)
            self.parts[-1].text += text
        else:
            self.parts[-1].reasoning.text += text

    def _whole(self, wire: Mapping[str, Any], signature: Any) -> None:
        self._growing = ""
        if "functionCall" in wire:
            part = answers.tool_call(wire["functionCall"], self._response_id, self.calls)
            self.calls += 1
        else:
            part = answers.opaque(wire, self._target)
        if signature:
            part.replay_state.CopyFrom(answers.state(signature, self._target))
        self.parts.append(part)
        self.rulers.append(None)
