"""The stream of `streamGenerateContent` as stream events, incrementally."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.gemini import answers
from parley_server.dialects.gemini.citations import Ruler, citations, recited
from parley_server.dialects.gemini.errors import blocked, error_inside
from parley_server.dialects.gemini.learned import Chunk, learn
from parley_server.dialects.gemini.partial import PartialCall
from parley_server.dialects.learned import run
from parley_server.dialects.parts import PartWriter

_PLAIN = {"content", "index"}
_MEASURE_EVERY = 16  # reads
_COUNT_EVERY = 64  # output tokens; every chunk brings counts, and each event of them costs more than its text


class ChunkDecoder:
    """Reads chunks, each of which is a whole answer that says what is new. No marker ends them: the body does.

    A part with a signature is never joined with another. Texts of the answer stay open until the end, because their
    sources come last. Kept besides: what measures the texts, the last counts, how it ended, a call that is in pieces.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = PartWriter()
        self._growing: Hashable = None  # key of the part that the next text goes to, if it is of the same kind
        self._grows = ""
        self._ruler: Ruler | None = None
        self._rulers: list[Ruler | None] = []
        self._states: dict[Hashable, v1.ReplayState] = {}
        self._calls = 0
        self._partial: PartialCall | None = None
        self._head: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._counted = self._counts
        self._count_again = 0
        self._grounding: dict[str, Any] = {}
        self._recited: list[Mapping[str, Any]] = []
        self._reason: Any = None
        self._filtered = False
        self._started = False
        self._shape: Chunk | None = None  # of chunks with more of the text that grows
        self._fresh: list[str] = []  # what chunks of that shape brought, not yet measured
        self._unread = 0  # characters in chunks of that shape since counts were read: hardly ever fewer than tokens

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some chunks. Raises the error that the provider reports, ProtocolError for nonsense."""
        try:
            at = 0
            while at < len(frames):
                if self._shape is not None and self._grows == "text":
                    known, words = run(self._shape, frames, at)
                    if known:
                        at += known
                        self._writer.append(self._growing, "text", words)
                        self._fresh.append(words)
                        if len(self._fresh) >= _MEASURE_EVERY and self._measure() >= _COUNT_EVERY:
                            self._unread = 0
                            self._counts = self._shape.counts(frames[at - 1]) or self._counts
                        continue
                    self._measure()
                self._frame(frames[at])
                at += 1
            if self._counts is not self._counted:
                self._count()
            return self._writer.take()
        except answers.NONSENSE as error:
            raise ProtocolError("a chunk of the provider is not of its protocol") from error

    def _measure(self) -> int:
        """Take the measure of what chunks of the shape have brought; gives the characters since counts were read."""
        if self._fresh:
            text = "".join(self._fresh)
            self._fresh.clear()
            self._ruler.add(text)  # type: ignore[union-attr]  # a text that grows is measured
            self._unread += len(text)
        return self._unread

    def _frame(self, frame: bytes) -> None:
        if frame == b"[DONE]":
            return  # some gateways append it
        chunk = answers.load(frame)
        if self._grows == "text" and (words := self._more_text(chunk)) is not None:
            if words and self._shape is None:
                self._shape = learn(frame, words, lambda found: _plain_text(found) == "")
        else:
            self._any(chunk)

    def read(self, chunks: Iterable[dict[str, Any]]) -> Batch:
        """The events of some chunks, parsed."""
        try:
            for chunk in chunks:
                self._chunk(chunk)
            self._count()
            return self._writer.take()
        except answers.NONSENSE as error:
            raise ProtocolError("a chunk of the provider is not of its protocol") from error

    def finish(self) -> Batch:
        """Sources, counts, the end. Raises StreamInterrupted if no chunk said why it ended."""
        self._measure()
        if self._reason is None:
            raise StreamInterrupted("the provider's stream ended before its answer did")
        try:
            self._end()
        except answers.NONSENSE as error:
            raise ProtocolError("a chunk of the provider is not of its protocol") from error
        return self._writer.take()

    def _more_text(self, chunk: dict[str, Any]) -> str | None:
        """Take in a chunk that is nothing but more of the text that grows, as most are; None if it is not one."""
        text = _plain_text(chunk)
        if text is not None:
            self._writer.append(self._growing, "text", text)
            self._ruler.add(text)  # type: ignore[union-attr]  # a text that grows is measured
            self._counts = chunk.get("usageMetadata") or self._counts
        return text

    def _any(self, said: Any) -> None:
        """A chunk, or a list of all of them where events were not understood."""
        for chunk in said if isinstance(said, list) else (said,):
            self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            raise error_inside(chunk, self._target)
        if not self._started:
            self._start(chunk)
        self._counts = chunk.get("usageMetadata") or self._counts
        candidate = answers.candidate(chunk)
        if candidate is None:
            self._feedback(chunk.get("promptFeedback"))
            return
        parts = (candidate.get("content") or {}).get("parts") or ()
        if "logprobsResult" in candidate:
            self._with_logprobs(parts, candidate["logprobsResult"])
        else:
            for wire in parts:
                self._part(wire)
        self._beside(candidate)

    def _count(self) -> None:
        if self._counts is self._counted:
            return
        self._counted = self._counts
        written = answers.written(self._counts)
        if written >= self._count_again:
            self._count_again = written + _COUNT_EVERY
            self._writer.usage(answers.usage(self._counts, v1.Usage.SOURCE_PARTIAL))

    def _start(self, chunk: dict[str, Any]) -> None:
        feedback = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason") and not chunk.get("candidates"):
            raise blocked(feedback, self._target)
        self._started = True
        self._head = {name: chunk.get(name) for name in ("modelVersion", "responseId")}
        self._writer.started(answers.route(self._head).model)

    def _feedback(self, feedback: Mapping[str, Any] | None) -> None:
        """No candidate: only counts, or the end of an answer that was found to be of a prompt to be blocked."""
        if not feedback or not feedback.get("blockReason"):
            return
        if not self._rulers:
            raise blocked(feedback, self._target)
        self._reason, self._filtered = feedback["blockReason"], True

    def _beside(self, candidate: Mapping[str, Any]) -> None:
        """What stands beside the content, mostly in the last chunk."""
        if candidate.get("finishReason"):
            self._reason = candidate["finishReason"]
        for name, value in (candidate.get("groundingMetadata") or {}).items():
            if value:
                self._grounding[name] = value
        self._recited += [one for one in recited(candidate) if one not in self._recited]

    def _part(self, wire: Mapping[str, Any]) -> None:
        signature, text = wire.get("thoughtSignature"), answers.text_of(wire)
        if text is None:
            self._whole(wire, signature)
        elif text or signature:
            self._text(text, "reasoning" if wire.get("thought") else "text", signature)

    def _text(self, text: str, kind: str, signature: Any) -> None:
        if kind != self._grows or signature:
            self._open(kind, signature)
        self._writer.append(self._growing, "text" if kind == "text" else "reasoning", text)
        if self._ruler is not None:
            self._ruler.add(text)
        if signature:
            self._rest()

    def _open(self, kind: str, signature: Any) -> None:
        self._end_call()
        self._rest()
        key = self._growing = len(self._rulers)
        self._grows = kind
        if kind == "text":
            self._ruler = Ruler()
            self._writer.open(key, v1.Part(text=""))
        else:
            self._writer.open(key, v1.Part(reasoning=v1.ReasoningPart()))
        if signature or kind != "text":
            self._states[key] = answers.state(signature, self._target)
        self._rulers.append(self._ruler)

    def _rest(self) -> None:
        """The part that was growing does no more. Reasoning is then complete."""
        if self._grows == "reasoning":
            self._writer.close(self._growing, self._states[self._growing])
        self._growing, self._grows, self._ruler = None, "", None

    def _whole(self, wire: Mapping[str, Any], signature: Any) -> None:
        call = wire.get("functionCall")
        if self._partial is not None or (call is not None and PartialCall.begins(call)):
            if call is not None:
                self._piece(call, signature)
                return
            self._end_call()
        self._rest()
        if call is not None:
            part = answers.tool_call(call, self._head.get("responseId") or "", self._calls)
            self._calls += 1
        else:
            part = answers.opaque(wire, self._target)
        if signature:
            part.replay_state.CopyFrom(answers.state(signature, self._target))
        self._writer.whole(part)
        self._rulers.append(None)

    def _piece(self, call: Mapping[str, Any], signature: Any) -> None:
        """A piece of a call whose arguments come value by value, which Google Cloud does if it is asked to."""
        if self._partial is not None and call.get("name"):
            self._end_call()
        if self._partial is None:
            self._rest()
            self._partial = PartialCall()
            id = answers.call_id(call, self._head.get("responseId") or "", self._calls)
            self._writer.open("call", v1.Part(tool_call=v1.ToolCall(id=id, name=call["name"])))
            self._calls += 1
            self._rulers.append(None)
        if signature:
            self._states["call"] = answers.state(signature, self._target)
        self._partial.add(call)
        if not call.get("willContinue"):
            self._end_call()

    def _end_call(self) -> None:
        if self._partial is not None:
            self._writer.append("call", "arguments_json", answers.compact(self._partial.arguments))
            self._writer.close("call", self._states.pop("call", None))
            self._partial = None

    def _with_logprobs(self, parts: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
        """A chunk with log probabilities: they go with its text, or else with the last text there is."""
        match parts:
            case [{"text": str(text), **rest}] if text and not rest:
                if self._grows != "text":
                    self._open("text", None)
                self._writer.logprobs(self._growing, answers.logprobs(result), text)
                self._ruler.add(text)  # type: ignore[union-attr]  # a text that grows is measured
                return
        for wire in parts:
            self._part(wire)
        texts = [index for index, ruler in enumerate(self._rulers) if ruler is not None]
        if texts:
            self._writer.logprobs(texts[-1], answers.logprobs(result), "")

    def _end(self) -> None:
        self._end_call()
        self._rest()
        if not self._rulers:
            self._writer.whole(v1.Part(text=""))
        for index, citation in citations(self._grounding, self._recited, self._rulers):
            self._writer.cite(index, citation)
        for key in self._writer.open_keys:
            self._writer.close(key, self._states.get(key))
        reason, word = answers.finish(self._reason, called=self._calls > 0)
        if self._filtered:
            reason = v1.FINISH_REASON_CONTENT_FILTER
        self._writer.completed(
            v1.ResponseCompleted(
                finish_reason=reason,
                native_finish_reason=word,
                usage=answers.usage(self._counts, v1.Usage.SOURCE_PROVIDER, self._grounding) if self._counts else None,
                route=answers.route({**self._head, "usageMetadata": self._counts}),
            )
        )


def _plain_text(chunk: Any) -> str | None:
    """The text of a chunk that has nothing else; None for any other."""
    try:
        (candidate,) = chunk["candidates"]
        (wire,) = candidate["content"]["parts"]
        text = wire["text"]
    except (KeyError, TypeError, ValueError):
        return None
    if len(wire) > 1 or candidate.keys() != _PLAIN or candidate["index"] or "error" in chunk:
        return None
    return text  # type: ignore[no-any-return]  # a text, or the writer says so
