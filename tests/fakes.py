"""Fakes for what tests must control: time, randomness, faults. Everything else in the suite is real."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from parley import v1
from parley_server.core.context import Context
from parley_server.core.reply import Batch, Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.core.verdict import Verdict

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Never waits for time to pass: what the loop would have slept, its clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer is set: only another thread could still wake the loop
            ready = super().select(5)
            if not ready:
                raise RuntimeError("the test waits for something that can never happen")
            return ready
        self.jumped += max(timeout, 0)
        return []


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while something can run, and jumps to the next timer when nothing can.

    For code without sockets or threads: hours pass in milliseconds, in the right order. `loop.time` is the clock.
    """

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1000.0 + self._jumping.jumped


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own with fake time: for properties, which need a fresh loop per example."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(main)


def context(
    operation: str = "chat", *, streaming: bool = True, deadline: float | None = None, attempts: int = 1
) -> Context:
    """A call that has just been received, on the running loop's clock. `deadline`: seconds from now."""
    clock = asyncio.get_running_loop().time
    ctx = Context(
        operation="embed" if operation == "embed" else "rerank" if operation == "rerank" else "chat",
        streaming=streaming,
        request_id="01J00000000000000000000000",
        response_id="resp_01j00000000000000000000000",
        clock=clock,
        received=clock(),
        received_at=1_790_000_000.0,
        deadline=None if deadline is None else clock() + deadline,
        method={"embed": "Embed", "rerank": "Rerank"}.get(operation, "StreamChat" if streaming else "Chat"),
        peer=lambda: "ipv4:127.0.0.1:40312",
    )
    ctx.budget.left = attempts
    return ctx


def chat(model: str = "mock/echo", text: str = "hello") -> v1.ChatRequest:
    """The shortest request."""
    return v1.ChatRequest(model=model, messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])])


def said(text: str, **usage: int) -> v1.ChatResponse:
    """A whole answer."""
    response = v1.ChatResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)]),
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="stop",
    )
    if usage:
        response.usage.MergeFrom(v1.Usage(source=v1.Usage.SOURCE_PROVIDER, **usage))  # type: ignore[arg-type]
    return response


def started() -> v1.StreamChatResponse:
    return v1.StreamChatResponse(started=v1.ResponseStarted(provider="mock", provider_model="echo"))


def opened(index: int = 0) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(part_started=v1.PartStarted(part_index=index, part=v1.Part(text="")))


def delta(text: str, index: int = 0) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(part_delta=v1.PartDelta(part_index=index, text=text))


def used(**counts: int) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(usage=v1.Usage(**counts))  # type: ignore[arg-type]


def completed(**counts: int) -> v1.StreamChatResponse:
    end = v1.ResponseCompleted(finish_reason=v1.FINISH_REASON_STOP, native_finish_reason="stop")
    if counts:
        end.usage.MergeFrom(v1.Usage(source=v1.Usage.SOURCE_PROVIDER, **counts))  # type: ignore[arg-type]
    return v1.StreamChatResponse(completed=end)


Step = Batch | float | BaseException
"""What an upstream does next: send a batch, be silent for so many seconds, break."""


class Upstream:
    """A provider that follows a script, and remembers what became of it."""

    def __init__(self, *script: Step) -> None:
        self.script = script
        self.opened = 0
        self.closed = 0
        self.generators_closed = 0
        self.requests: list[Any] = []
        self.outgoing: list[dict[str, str]] = []

    async def events(self) -> AsyncGenerator[Batch, None]:
        try:
            for step in self.script:
                match step:
                    case list():
                        yield step
                    case BaseException():
                        raise step
                    case _:
                        await asyncio.sleep(step)
        finally:
            self.generators_closed += 1

    async def __call__(self, request: AnyRequest, ctx: Context, /) -> Reply[Any]:
        """As a service: an arriving answer for a stream, what it folds to otherwise."""
        self.requests.append(request)
        self.outgoing.append(dict(ctx.outgoing))
        self.opened += 1
        owner = AsyncExitStack()
        owner.callback(self._close)
        reply: Reply[Any] = await Reply.primed(self.events(), owner)
        if ctx.streaming:
            return reply
        async with reply:
            return Reply.of(await reply.response())

    def _close(self) -> None:
        self.closed += 1


class Attempts:
    """A service that does one thing after another: raise an error, or pass on to another service."""

    def __init__(self, *steps: Exception | Callable[..., Coroutine[Any, Any, Reply[Any]]]) -> None:
        self._steps: Sequence[Any] = steps
        self.requests: list[Any] = []
        self.times: list[float] = []

    @property
    def made(self) -> int:
        return len(self.requests)

    async def __call__(self, request: AnyRequest, ctx: Context, /) -> Reply[Any]:
        step = self._steps[min(self.made, len(self._steps) - 1)]
        self.requests.append(request)
        self.times.append(ctx.clock())
        if isinstance(step, Exception):
            raise step
        reply: Reply[Any] = await step(request, ctx)
        return reply


def answering(text: str, **usage: int) -> Callable[..., Coroutine[Any, Any, Reply[Any]]]:
    """A service that answers at once."""

    async def service(request: AnyRequest, ctx: Context) -> Reply[Any]:
        return Reply.of(said(text, **usage))

    return service


async def drain(service: Service, request: AnyRequest, ctx: Context, *, pause: float = 0) -> list[Batch]:
    """Read an answer to its end, batch by batch, with a pause after each."""
    batches: list[Batch] = []
    async with await service(request, ctx) as reply:
        async for batch in reply:
            batches.append(batch)
            await asyncio.sleep(pause)
    return batches


class Entered(list[v1.Attempt]):
    """Who counts attempts: those that were entered into a ledger, in order. `kinds`: what they were, side by side.

    `chunks`: seconds to the first content of streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.chunks: list[float] = []

    def began(self, ctx: Context) -> str:
        return "hedge" if ctx.hedges else "first" if not ctx.ledger.attempts else "later"

    def first_chunk(self, seconds: float) -> None:
        self.chunks.append(seconds)

    def ended(self, ctx: Context, attempt: v1.Attempt, ended: Verdict, seconds: float, kind: str) -> None:
        self.append(attempt)
        self.kinds.append(kind)
