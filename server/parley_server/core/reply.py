"""One model turn, finished or still arriving.

Two traps shaped this file. Closing an asynchronous generator that was never started does not run its body, so a reply
carries its *owner*, the exit stack that holds the upstream connection, and closes it itself. And "the call returned" is
not "the answer is over", so whatever is held for the answer (permits, spans, counts) is kept by the reply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from parley import v1
from parley.fold import Fold, unfold
from parley_server.core.errors import StreamInterrupted

Batch = list[v1.StreamChatResponse]
"""All events that one upstream read delivered, in order."""

Batches = AsyncGenerator[Batch, None]
Final = v1.ChatResponse | v1.EmbedResponse | v1.RerankResponse | v1.ResponseCompleted
"""The end of an answer; all have `usage`, `route` and `warnings`."""

Answer = TypeVar("Answer", bound=v1.ChatResponse | v1.EmbedResponse | v1.RerankResponse)


@dataclass(slots=True)
class Outcome:
    """How an answer ended. Exactly one of three: `final` is set (complete), `error` is set (failed), or `cancelled`.

    `usage` is the last that the provider reported, also before the end; None if it has not said anything.
    `chars` counts the characters of text, reasoning and arguments that have arrived in deltas since that report.
    """

    final: Final | None = None
    usage: v1.Usage | None = None
    error: Exception | None = None
    cancelled: bool = False
    chars: int = 0


class Reply(Generic[Answer]):
    """An answer that may still be arriving. It owns its upstream: closing it, read or unread, closes the connection.

    Read it once, either with `response()` or batch by batch, inside `async with`.
    """

    def __init__(self, *, response: Answer | None, batches: Batches | None, owner: AsyncExitStack | None) -> None:
        self._response = response
        self._generators = [] if batches is None else [batches]  # each one reads the one before it
        self._owner = owner
        self._on_final: list[Callable[[Final], None]] = []
        self._on_over: list[Callable[[Outcome], None]] = []
        self.outcome = Outcome()  # so far; settled once the reply is over
        self._over = False

    @classmethod
    def of(cls, response: Answer) -> Reply[Answer]:
        """A finished answer."""
        return cls(response=response, batches=None, owner=None)

    @classmethod
    async def primed(cls, batches: Batches, owner: AsyncExitStack) -> Reply[Answer]:
        """An arriving answer, once it has content: start frames are held back until then.

        Takes over `owner`. Whatever fails before the first content is raised here, with the upstream closed.
        """
        held: Batch = []
        try:
            async for batch in batches:
                held += batch
                if any(_is_content(event) for event in batch):
                    break
            else:
                raise StreamInterrupted("the provider ended its answer before it began")
        except BaseException:
            await owner.aclose()
            raise
        reply = cls(response=None, batches=batches, owner=owner)
        return reply.through(lambda rest: _after(held, rest))

    def on_final(self, f: Callable[[Final], None]) -> None:
        """Call `f` once with the end of the answer before it travels on; `f` may fill it in. Inner layers first."""
        self._on_final.append(f)

    def on_over(self, f: Callable[[Outcome], None]) -> None:
        """Call `f` once when the answer is over: complete, failed, cancelled or closed unread. Inner layers first."""
        self._on_over.append(f)

    def keep(self, held: AsyncExitStack) -> None:
        """Release `held` when the reply is over, before the upstream is."""
        self._owner = self._owner or AsyncExitStack()
        self._owner.push_async_exit(held)

    def through(self, f: Callable[[Batches], Batches]) -> Reply[Answer]:
        """Bound or rewrite the batches of an arriving answer; a finished one passes untouched."""
        if self._generators:
            self._generators.append(f(self._generators[-1]))
        return self

    async def response(self) -> Answer:
        """The whole answer; free if it is finished, otherwise the fold of its events."""
        if self._response is not None:
            self._end(self._response)
            return self._response
        fold = Fold()
        async for batch in self:
            for event in batch:
                fold.feed(event)
        return fold.response()  # type: ignore[return-value]  # only chat answers arrive as events

    def __aiter__(self) -> AsyncIterator[Batch]:
        batches = self._unfolded() if self._response is not None else self._observed(self._generators[-1])
        self._generators.append(batches)
        return batches

    async def _unfolded(self) -> Batches:
        events = unfold(self._response)  # type: ignore[arg-type]  # only chat answers are read as events
        self._end(events[-1].completed)
        yield events

    async def _observed(self, batches: Batches) -> Batches:
        outcome = self.outcome
        async for batch in batches:
            if (
                outcome.final is not None
            ):  # read on, so that the connection can be used again, but nothing follows the end
                continue
            for event in batch:
                match event.WhichOneof("event"):
                    case "part_delta":
                        outcome.chars += _length(event.part_delta)
                    case "usage":
                        outcome.usage = event.usage
                        outcome.chars = 0
                    case "completed" if outcome.final is None:
                        self._end(event.completed)
            yield batch
        if outcome.final is None:  # decoders see to this; a reader must never take a torn answer for a whole one
            raise StreamInterrupted("the answer ended without its end")

    def _end(self, final: Final) -> None:
        for f in self._on_final:
            f(final)
        self.outcome.final = final
        self.outcome.usage = final.usage

    async def aclose(self, error: BaseException | None = None) -> None:
        """End the reply: tell the observers, release what is kept, close the upstream. Safe to call twice.

        `error` is what ended it, if it is not complete.
        """
        if self._over:
            return
        self._over = True
        outcome = self.outcome
        if outcome.final is None:
            outcome.error = error if isinstance(error, Exception) else None
            outcome.cancelled = outcome.error is None
        try:
            for f in self._on_over:
                f(outcome)
        finally:
            await self._release(self._generators.copy())

    async def _release(self, generators: list[Batches]) -> None:
        """Close the outermost generator first and the upstream last, each whatever becomes of those before it."""
        try:
            while generators:
                await generators.pop().aclose()
        finally:
            if generators:
                await self._release(generators)
            elif self._owner is not None:
                await self._owner.aclose()

    async def __aenter__(self) -> Reply[Answer]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        await self.aclose(error)


def _is_content(event: v1.StreamChatResponse) -> bool:
    return event.WhichOneof("event") in ("part_delta", "part_completed", "completed")


def _length(delta: v1.PartDelta) -> int:
    return len(delta.text) + len(delta.reasoning) + len(delta.arguments_json)


async def _after(held: Batch, rest: Batches) -> Batches:
    yield held
    async for batch in rest:
        yield batch
