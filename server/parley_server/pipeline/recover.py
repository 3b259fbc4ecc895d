"""Go on with a stream that broke off after content was sent, as the request wishes.

Directly around the router, which asks the targets that are left: what fails before the first content is its business
and that of the layers further in; what fails afterwards gets here. Inside everything that watches the call as a whole,
which sees one answer. A request without the wish passes untouched.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from parley import v1
from parley.fold import hollow, pieces
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.core.overlap import Overlap
from parley_server.core.reply import Batch, Batches, Reply
from parley_server.core.service import Service

_RESTART = v1.RoutingOptions.MID_STREAM_FALLBACK_RESTART
_CONTINUE = v1.RoutingOptions.MID_STREAM_FALLBACK_CONTINUE
_PARAGRAPH = v1.RoutingOptions.CONTINUATION_PARAGRAPH
_SUMMARIZE = v1.RoutingOptions.CONTINUATION_SUMMARIZE
_TAIL = 2000  # characters of the text so far that CONTINUATION_SUMMARIZE sends
_PARAGRAPH_BREAK = "\n\n"

_GO_ON = (
    "Your answer above was interrupted. Go on from exactly where it ends, in the middle of a word if need be. "
    "Repeat nothing of it, and do not mention the interruption."
)
_GO_ON_FROM = (
    "You have answered this already, but the answer was interrupted before its end. These are its last words:\n\n"
    "{tail}\n\n"
    "Go on from exactly where they end, in the middle of a word if need be. Repeat nothing of them, do not start "
    "again, and do not mention the interruption."
)


class Recover:
    """Makes one stream of the attempts that it takes, as `routing.mid_stream_fallback` and `continuation` say.

    A failure is recovered from if another target, or the same one in a moment, may do better, while `ctx.budget` has
    attempts left. Each attempt is settled on its own; the usage at the end is that of all whose content was sent. If
    nobody goes on, the error is that of the attempt that was sent last.
    """

    def __call__(self, inner: Service) -> Service:
        async def recovered(request: Any, ctx: Context) -> Reply[Any]:
            if not ctx.streaming or request.routing.mid_stream_fallback < _RESTART:
                return await inner(request, ctx)
            recovery = _Recovery(inner, request, ctx, await inner(request, ctx))
            owner = AsyncExitStack()
            owner.push_async_callback(recovery.aclose)
            return Reply(response=None, batches=recovery.batches(), owner=owner)

        return recovered


@dataclass(slots=True)
class _Part:
    """A part of the stream so far."""

    kind: str
    shell: v1.Part
    complete: bool = False
    fragments: list[str] = field(default_factory=list)


class _Recovery:
    """One stream under way: the attempt that is read now, and what the client has been sent."""

    def __init__(self, inner: Service, request: v1.ChatRequest, ctx: Context, reply: Reply[Any]) -> None:
        self._inner = inner
        self._request = request
        self._ctx = ctx
        self._reply = reply
        self._continues = request.routing.mid_stream_fallback == _CONTINUE
        self._parts: dict[int, _Part] = {}  # by their index at the client; without those that are void
        self._offset = 0  # what the indices of the present attempt are shifted by
        self._next = 0  # the index of the next part
        self._spent: list[v1.Usage] = []  # by attempts that broke off
        self._goes_on: tuple[v1.Attempt, str] | None = None  # after which attempt and text; until the client is told
        self._overlap: Overlap | None = None
        self._held: v1.StreamChatResponse | None = None  # the delta that what is held back will go out with

    async def aclose(self) -> None:
        """End the attempt that is being read."""
        await self._reply.aclose()

    async def batches(self) -> Batches:
        """The events as the client gets them."""
        while True:
            try:
                async for batch in self._reply:
                    if events := self._told(batch):
                        yield events
                return
            except GatewayError as error:
                failure = error
            await self._reply.aclose(failure)
            rest: Batch = []
            self._release(rest)
            if rest:
                yield rest
            await self._go_on(failure)

    async def _go_on(self, failure: GatewayError) -> None:
        """Let another attempt go on. Raises `failure` where that cannot be."""
        ctx, request, text = self._ctx, self._request, ""
        if not (failure.retryable or failure.falls_back) or ctx.budget.left <= 0:
            raise failure
        if self._continues:
            if not self._may_continue():
                raise failure
            text = "".join("".join(part.fragments) for part in self._parts.values() if part.kind == "text")
            if request.routing.continuation == _PARAGRAPH:
                head, paragraph_break, _ = text.rpartition(_PARAGRAPH_BREAK)
                text = head + paragraph_break
            request = _continuing(request, text)
            ctx.continues = bool(text) and request.routing.continuation != _SUMMARIZE
        failed = ctx.ledger.attempts[-1] if ctx.ledger.attempts else v1.Attempt()
        self._spent.append(failed.usage)
        ctx.broken.append(f"{failed.provider}/{failed.model}")
        try:
            self._reply = await self._inner(request, ctx)
        except GatewayError as error:
            raise failure from error
        for warning in ctx.warnings.copy():  # of the router, which says again whom it passes over
            while ctx.warnings.count(warning) > 1:
                ctx.warnings.remove(warning)
        self._goes_on = failed, text

    def _told(self, batch: Batch) -> Batch:
        """The events of an attempt, made to follow what was sent before it."""
        if not self._spent and not self._continues:  # what the first attempt says is forgotten if it fails
            for event in batch:
                if event.WhichOneof("event") == "part_started":
                    self._next = max(self._next, event.part_started.part_index + 1)
            return batch
        out = self._announced(batch) if self._goes_on is not None else []
        for event in batch:
            match event.WhichOneof("event"):
                case "part_delta":
                    delta = event.part_delta
                    if self._offset:
                        delta.part_index += self._offset
                    if self._overlap is None:
                        self._note(delta)
                        out.append(event)
                    else:
                        self._overlapping(event, out)
                    continue
                case "part_started":
                    self._release(out)
                    self._start(event.part_started)
                case "part_completed":
                    self._release(out)
                    event.part_completed.part_index += self._offset
                    self._complete(event.part_completed)
                case "started" if self._spent:
                    continue
                case "usage" if self._spent:
                    event.usage.CopyFrom(counting.total((*self._spent, event.usage)))
                case "completed":
                    self._release(out)
                    if self._spent:
                        event.completed.usage.CopyFrom(counting.total((*self._spent, event.completed.usage)))
            out.append(event)
        return out

    def _announced(self, batch: Batch) -> Batch:
        """What tells the client that another attempt goes on, and what becomes of the parts it has."""
        assert self._goes_on is not None  # noqa: S101  # asked by the only caller
        (failed, text), self._goes_on = self._goes_on, None
        fallback = v1.FallbackStarted(failed_attempt=failed)
        for event in batch:
            if event.WhichOneof("event") == "started":
                fallback.provider, fallback.model = event.started.provider, event.started.provider_model
        told = v1.StreamChatResponse(fallback_started=fallback)
        if self._continues and self._request.routing.continuation != _PARAGRAPH:
            out = [*self._closed(), told]
        else:
            told.fallback_started.first_valid_part_index = self._next
            self._parts.clear()
            out = [told, *self._kept(text)]
        self._offset = self._next
        self._overlap = Overlap(text) if text else None
        return out

    def _start(self, started: v1.PartStarted) -> None:
        started.part_index += self._offset
        self._next = max(self._next, started.part_index + 1)
        if self._continues:
            self._parts[started.part_index] = _Part(started.part.WhichOneof("kind") or "", started.part)

    def _overlapping(self, event: v1.StreamChatResponse, out: Batch) -> None:
        """A delta that may repeat what was said before the break."""
        delta = event.part_delta
        if self._overlap is not None and self._is_text(delta):
            fresh = self._overlap.feed(delta.text)
            self._held = event
            if self._overlap.done:
                self._overlap = self._held = None
            if fresh != delta.text:
                del delta.logprobs[:]  # they are those of other words
                delta.text = fresh
            if not fresh:
                return
        self._note(delta)
        out.append(event)

    def _note(self, delta: v1.PartDelta) -> None:
        """Remember what is sent, in case that it is to be gone on with."""
        if self._continues and self._is_text(delta):
            self._parts[delta.part_index].fragments.append(delta.text)

    def _is_text(self, delta: v1.PartDelta) -> bool:
        """Whether it is of a text part: refusals have text too, and citations belong to texts."""
        part = self._parts.get(delta.part_index)
        return part is not None and part.kind == "text" and delta.WhichOneof("delta") == "text"

    def _complete(self, completed: v1.PartCompleted) -> None:
        if completed.part_index in self._parts:
            part = self._parts[completed.part_index]
            part.complete = True
            part.shell = completed.part

    def _release(self, out: Batch) -> None:
        """Send what is held back, the part being over: no more will come that could make it a repetition."""
        if self._overlap is None or self._held is None:
            return
        event, fresh = self._held, self._overlap.finish()
        self._overlap = self._held = None
        if fresh:
            event.part_delta.text = fresh
            self._note(event.part_delta)
            out.append(event)

    def _may_continue(self) -> bool:
        """Whether all that was sent is such that somebody else can go on with it."""
        if self._request.output.WhichOneof("format") in ("json_object", "json_schema"):
            return False
        for part in self._parts.values():
            if part.shell.HasField("replay_state"):
                return False
            if part.kind != "text" and not (part.kind == "reasoning" and part.complete):
                return False
        return True

    def _closed(self) -> Batch:
        """The ends of the parts that are open."""
        out: Batch = []
        for index, part in self._parts.items():
            if not part.complete:
                part.complete = True
                shell = hollow(part.shell)
                out.append(v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=index, part=shell)))
        return out

    def _kept(self, text: str) -> Batch:
        """A part that says again what is kept."""
        if not text:
            return []
        index = self._next
        self._next += 1
        shell = v1.Part(text="")
        self._parts[index] = _Part("text", shell, complete=True, fragments=[text])
        return [
            v1.StreamChatResponse(part_started=v1.PartStarted(part_index=index, part=shell)),
            *(v1.StreamChatResponse(part_delta=v1.PartDelta(part_index=index, text=piece)) for piece in pieces(text)),
            v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=index, part=shell)),
        ]


def _continuing(request: v1.ChatRequest, text: str) -> v1.ChatRequest:
    """The request, asking to go on from `text`; itself if there is none."""
    if not text:
        return request
    asked = v1.ChatRequest()
    asked.CopyFrom(request)
    if request.routing.continuation == _SUMMARIZE:
        instruction = _GO_ON_FROM.format(tail=text[-_TAIL:])
    else:
        asked.messages.add(role=v1.ROLE_ASSISTANT).parts.add(text=text)
        instruction = _GO_ON
    asked.messages.add(role=v1.ROLE_USER).parts.add(text=instruction)
    return asked
