"""The driver of conversations with several steps: does what a dialect's generator yields, and tells it what came of it.

Like `endpoint.py` it is the innermost service of a stack. What it adds is the end of conversations that are broken off:
a prediction that nobody waits for any more is stopped, whatever the reason, in a task of its own, which is given a few
seconds. Whoever breaks off waits for that, but not for long, and may be cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, Generic, TypeVar

import structlog

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import AttemptTimeout, DeadlineExceeded, GatewayError, ProtocolError, StreamInterrupted
from parley_server.core.reply import Batch, Batches, Final, Reply
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.steps import (
    Ask,
    AskAll,
    Heard,
    Listen,
    Pause,
    Step,
    SteppedChat,
    SteppedModels,
    Steps,
    ending,
)
from parley_server.providers.base import Provider
from parley_server.providers.endpoint import ChatEndpoint, Exchange, Wire, request_id
from parley_server.transports.base import Incoming

_BODY_LIMIT = 64 * 1024 * 1024  # bytes of one answer
_ENDING_TIME = 5.0  # seconds behind a stream for how it ended and what it has used
_UNDO_TIME = 2.0  # seconds to stop what is not wanted any more, and to wait for it

Sleep = Callable[[float], Awaitable[object]]
Result = TypeVar("Result")

log = structlog.get_logger("parley.stepped")

_undoing: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive


class Dialog(Generic[Result]):
    """One conversation under way. Close it, whatever became of it: what it began and nobody waits for is stopped."""

    def __init__(
        self,
        wire: Wire,
        dialect: SteppedChat | SteppedModels,
        steps: Steps[Result],
        ctx: Context | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.result: Result | None = None
        """What the conversation ended with; there once `advance` has returned None."""
        self.first: Incoming | Heard | None = None
        """The first answer."""
        self._wire = wire
        self._dialect = dialect
        self._steps = steps
        self._ctx = ctx
        self._sleep = sleep
        self._over = False
        self._closed = False
        self._undo: HttpCall | None = None
        self._beginning: tuple[asyncio.Task[Heard], float] | None = None
        self._listening: Exchange | None = None

    async def advance(self, failure: GatewayError | None = None) -> Exchange | None:
        """Do steps until one is to listen: the stream, still unread. None: the conversation is over.

        Called again it goes on behind the stream; `failure` is what became of the last step. Raises what the
        conversation cannot get over.
        """
        if self._listening is not None:
            await self._listening.incoming.aclose()
            self._listening = None
        step = self._tell(self._steps.send, None) if failure is None else self._tell(self._steps.throw, failure)
        while step is not None:
            try:
                heard = await self._do(step)
            except DeadlineExceeded:
                raise
            except GatewayError as error:
                step = self._tell(self._steps.throw, error)
                continue
            if isinstance(step, Listen):
                self._listening = heard
                return self._listening
            step = self._tell(self._steps.send, heard)
        return None

    def _tell(self, how: Callable[[Any], Step], what: Any) -> Step | None:
        """Send or throw something in; the next step, None if there is none.

        An error that comes back as it went in was met by nobody, and after nonsense nobody knows: work may go on. Any
        other error tells that it is over.
        """
        try:
            step = how(what)
        except StopIteration as end:
            self._over, self.result = True, end.value
            return None
        except GatewayError as error:
            self._over = error is not what and not isinstance(error, ProtocolError)
            raise self._wire.named(error) from None
        self._undo = None if isinstance(step, AskAll) else step.undo
        return step

    async def _do(self, step: Step) -> Any:
        match step:
            case Ask(call, hear_out=0.0, within=None):
                return await self._ask(call)
            case Ask(call, hear_out=0.0, within=seconds):
                try:
                    async with asyncio.timeout(seconds):
                        return await self._ask(call)
                except TimeoutError:
                    raise self._wire.named(AttemptTimeout(f"no answer within {seconds:g} s")) from None
            case Ask(call, hear_out=seconds):
                asking = asyncio.create_task(self._ask(call))
                self._beginning = asking, seconds
                try:
                    return await asyncio.shield(asking)
                finally:
                    if asking.done():
                        self._beginning = None
            case AskAll(calls, at_once):
                return await self._ask_all(calls, at_once)
            case Pause(seconds):
                return await self._pause(seconds)
            case Listen(call):
                exchange = await self._wire.open(call, self._dialect, self._ctx)
                self.first = self.first or exchange.incoming
                return exchange

    async def _ask(self, call: HttpCall) -> Heard:
        incoming = await self._wire.send(call, self._dialect, self._ctx)
        try:
            async with aclosing(incoming):
                heard = Heard(incoming.status, incoming.headers, await incoming.read(_BODY_LIMIT))
        except GatewayError as error:
            raise self._wire.named(error, incoming) from None
        self.first = self.first or heard
        return heard

    async def _ask_all(self, calls: tuple[HttpCall, ...], at_once: int) -> list[Heard | GatewayError]:
        came: dict[int, Heard | GatewayError] = {}
        left = iter(enumerate(calls))

        async def ask() -> None:
            for index, call in left:  # shared: whoever is free takes the next
                try:
                    came[index] = await self._ask(call)
                except GatewayError as error:
                    came[index] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(calls))):
                group.create_task(ask())
        return [came[index] for index in range(len(calls))]

    async def _pause(self, seconds: float) -> None:
        remaining = None if self._ctx is None else self._ctx.remaining()
        if remaining is not None and remaining <= seconds:
            await self._sleep(max(remaining, 0.0))
            raise DeadlineExceeded("the provider was not done before the deadline")
        await self._sleep(seconds)

    async def aclose(self) -> None:
        """Close the stream, and stop the work that has begun unless it is over. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        stopping: Coroutine[Any, Any, None] | None = None
        if self._beginning is not None:
            stopping = self._hear_out(*self._beginning)
        elif not self._over and self._undo is not None:
            stopping = self._stop(self._undo)
        if stopping is None:
            self._steps.close()
        else:
            task = asyncio.create_task(stopping)  # lives on if whoever waits for it here does not
            _undoing.add(task)
            task.add_done_callback(_undoing.discard)
        try:
            if self._listening is not None:
                await self._listening.incoming.aclose()
        finally:
            if stopping is not None:
                await asyncio.wait({task}, timeout=_UNDO_TIME)

    async def _hear_out(self, asking: asyncio.Task[Heard], seconds: float) -> None:
        """Wait for the answer that says how to stop what its call has begun."""
        try:
            async with asyncio.timeout(seconds):
                step = self._steps.send(await asking)
        except (GatewayError, TimeoutError, StopIteration):  # nothing has begun, or it is over already
            self._steps.close()
            return
        if not isinstance(step, AskAll) and step.undo is not None:
            await self._stop(step.undo)

    async def _stop(self, undo: HttpCall) -> None:
        self._steps.close()
        try:
            async with asyncio.timeout(_UNDO_TIME):
                await (await self._wire.send(undo, self._dialect)).aclose()
        except (GatewayError, TimeoutError) as error:
            provider = self._wire.target.provider
            log.warning("work_not_stopped", provider=provider, error=str(error) or "no answer in time")


class SteppedChatEndpoint:
    """Chat and StreamChat for one target whose dialect takes several calls for them."""

    def __init__(self, wire: Wire, dialect: SteppedChat, sleep: Sleep = asyncio.sleep) -> None:
        self._wire = wire
        self._dialect = dialect
        self._sleep = sleep

    async def __call__(self, request: v1.ChatRequest, ctx: Context, /) -> Reply[v1.ChatResponse]:
        target = self._wire.target
        steps = self._dialect.converse(request, target, stream=ctx.streaming)
        dialog = Dialog(self._wire, self._dialect, steps, ctx, self._sleep)
        try:
            exchange = await dialog.advance()
        except BaseException:
            await dialog.aclose()
            raise
        if exchange is None:
            reply = Reply.of(_result(dialog))
        else:
            owner = AsyncExitStack()
            owner.push_async_callback(dialog.aclose)
            reply = await Reply.primed(self._events(dialog, exchange, ctx), owner)
        reply.on_final(lambda final: _sign(final, target, dialog))
        return reply

    async def _events(self, dialog: Dialog[v1.ChatResponse], exchange: Exchange, ctx: Context) -> Batches:
        """The parts as they come; the end from what the conversation finds out behind the stream."""
        framing, decoder = self._dialect.framing(), self._dialect.decoder(self._wire.target)
        broken: StreamInterrupted | None = None
        try:
            async for block in exchange.incoming:
                if batch := decoder.feed(framing.feed(block)):
                    self._sign_start(batch)
                    yield batch
                if decoder.over:
                    break
            else:
                if batch := decoder.feed(framing.finish()) + decoder.finish():
                    yield batch
        except StreamInterrupted as error:
            broken = error
        except GatewayError as error:
            exchange.failed(error)
            raise error from None
        if broken is None:
            exchange.auth.accepted()
            await self._end(dialog, ctx)
        else:
            exchange.failed(broken)
            await dialog.advance(broken)
            rest = decoder.rest(_result(dialog).message)
            if rest is None:
                raise broken
            self._sign_start(rest)
            yield rest
        yield [ending(_result(dialog))]

    async def _end(self, dialog: Dialog[v1.ChatResponse], ctx: Context) -> None:
        """Find out how the stream ended, soon enough for nobody to take that for silence: the text is there."""
        try:
            async with asyncio.timeout(min(_ENDING_TIME, ctx.idle * 0.8)):
                await dialog.advance()
        except TimeoutError:
            await dialog.advance(AttemptTimeout("the provider did not say in time how its answer ended"))

    def _sign_start(self, batch: Batch) -> None:
        if batch and batch[0].HasField("started"):
            batch[0].started.provider = self._wire.target.provider


def chat_endpoint(provider: Provider, wire: Wire) -> ChatEndpoint | SteppedChatEndpoint:
    """The driver for the way a provider chats."""
    if isinstance(provider.chat, SteppedChat):
        return SteppedChatEndpoint(wire, provider.chat)
    return ChatEndpoint(wire, provider.choose_chat)


async def converse_models(wire: Wire, dialect: SteppedModels) -> list[v1.Model]:
    """All models that a listing of several steps finds. Raises what it cannot get over."""
    async with aclosing(Dialog(wire, dialect, dialect.converse(wire.target.provider))) as dialog:
        await dialog.advance()
        return dialog.result or []


async def probe(wire: Wire, dialect: SteppedModels) -> None:
    """Ask for the beginning of a listing. Raises unless the provider answers, and in its own way."""
    steps = dialect.converse(wire.target.provider)
    step = next(steps)
    if isinstance(step, Ask):
        async with aclosing(await wire.send(step.call, dialect)) as incoming:
            heard = Heard(incoming.status, incoming.headers, await incoming.read(_BODY_LIMIT))
        with suppress(StopIteration):
            steps.send(heard)
    steps.close()


def _result(dialog: Dialog[v1.ChatResponse]) -> v1.ChatResponse:
    if dialog.result is None:
        raise TypeError("a conversation listens once, and ends with an answer")
    return dialog.result


def _sign(final: Final, target: Target, dialog: Dialog[Any]) -> None:
    route = final.route
    route.provider = target.provider
    route.region = target.region
    route.model = route.model or target.model
    if dialog.first is not None:
        route.provider_request_id = route.provider_request_id or request_id(dialog.first.headers)
