"""`parley.v1.GatewayService` over grpc.aio: makes the context of a call, runs the pipeline, sends what comes of it.

Nothing, not even initial metadata, is sent before the pipeline has content, so everything up to then can still fail as
a bare status that clients may retry. IDs travel in trailing metadata and in the messages.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceServicer
from parley_server import semconv
from parley_server.api import incoming, status, validate
from parley_server.api.calls import Calls
from parley_server.api.checks import seconds
from parley_server.api.models import Models
from parley_server.api.recordings import Ended, Events, Recordings
from parley_server.api.stream import EventWriter, coalesced
from parley_server.core.callers import Callers
from parley_server.core.context import Clock, Context, Operation
from parley_server.core.errors import (
    DeadlineExceeded,
    GatewayError,
    ShuttingDown,
    SlowConsumer,
    StateUnavailable,
)
from parley_server.core.ids import new_id
from parley_server.core.reply import Batch, Final, Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.core.verdict import CANCELLED, Verdict, verdict

_HEARTBEAT = 15.0
log = structlog.get_logger("parley.calls")


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The stacks behind the verbs, for one configuration."""

    chat: Service
    embed: Service
    rerank: Service
    default_policy: v1.UnsupportedPolicy.ValueType = v1.UNSUPPORTED_POLICY_WARN
    callers: Callers | None = None
    """Who may call; None: everybody. The stacks see to it themselves, the edge for what passes none of them."""


@dataclass(slots=True)
class GatewayServicer(GatewayServiceServicer):
    """The stateless verbs."""

    pipelines: Pipelines
    models: Models
    info: v1.GetServerInfoResponse
    calls: Calls
    recordings: Recordings
    max_stall: float = 60.0
    """Seconds that one event of a stream may wait for its client."""
    clock: Clock = time.monotonic
    wall: Callable[[], float] = time.time
    make_id: Callable[[], str] = new_id

    async def Chat(self, request: v1.ChatRequest, context: grpc.aio.ServicerContext[Any, Any]) -> v1.ChatResponse:
        ctx = self._context("chat", "Chat", context)
        response: v1.ChatResponse = await self._answer(self.pipelines.chat, request, ctx, context)
        _set_time(response.create_time, ctx.received_at)
        return response

    async def StreamChat(  # type: ignore[override]  # a coroutine that writes, not a generator: see decisions/0007
        self, request: v1.StreamChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        ctx = self._context("chat", "StreamChat", context)
        options = request.options
        interval = seconds(options.heartbeat_interval) if options.HasField("heartbeat_interval") else _HEARTBEAT
        with self.calls.track(ctx):
            writer = EventWriter(
                context.write, max(1.0, interval), self.max_stall, functools.partial(_announce, ctx, context)
            )
            try:
                incoming.check_stream(request)
                if options.resumable or request.HasField("resume"):
                    await self._resumable(request, writer, ctx)
                    return
                incoming.accept(request.request, ctx, self.pipelines.default_policy)
                async with await self._begin(request, ctx) as reply:
                    try:
                        # Reads are bounded further in, writes here, unless gRPC cancels the call when it is due.
                        async with nullcontext() if ctx.cancelled_when_due else asyncio.timeout(ctx.remaining()):
                            await self._write(reply, writer, request, ctx, context)
                    except TimeoutError:
                        raise DeadlineExceeded("the caller did not take the whole answer in time") from None
                    except grpc.aio.InternalError:
                        # The client went away while an event was being written: there is nobody to tell, and for those
                        # who keep account of the answer it is a cancellation.
                        await reply.aclose()
                        _end(ctx, CANCELLED)
                        return
                    except asyncio.CancelledError:
                        if writer.stalled:  # not the caller's doing, for those who keep account
                            await reply.aclose(self._slow())
                        raise
            except (Exception, asyncio.CancelledError) as error:
                await self._refuse(error, ctx, context, writer)
            finally:
                await writer.aclose()

    async def GetChat(
        self, request: v1.GetChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> v1.GetChatResponse:
        ctx = self._context("chat", "GetChat", context)
        with self.calls.track(ctx):
            try:
                self._identify(ctx)
                incoming.check(validate.response_id(request.response_id))
                return await self.recordings.get(ctx.caller, request.response_id)
            except (Exception, asyncio.CancelledError) as error:
                await self._refuse(error, ctx, context)

    async def CancelChat(
        self, request: v1.CancelChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> v1.CancelChatResponse:
        ctx = self._context("chat", "CancelChat", context)
        with self.calls.track(ctx):
            try:
                self._identify(ctx)
                incoming.check(validate.response_id(request.response_id))
                return await self.recordings.cancel(ctx.caller, request.response_id)
            except (Exception, asyncio.CancelledError) as error:
                await self._refuse(error, ctx, context)

    async def Embed(self, request: v1.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> v1.EmbedResponse:
        ctx = self._context("embed", "Embed", context)
        response: v1.EmbedResponse = await self._answer(self.pipelines.embed, request, ctx, context)
        return response

    async def Rerank(self, request: v1.RerankRequest, context: grpc.aio.ServicerContext[Any, Any]) -> v1.RerankResponse:
        ctx = self._context("rerank", "Rerank", context)
        response: v1.RerankResponse = await self._answer(self.pipelines.rerank, request, ctx, context)
        return response

    async def _answer(
        self, service: Service, request: AnyRequest, ctx: Context, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """The whole answer of `service`, with what only the edge knows of it."""
        with self.calls.track(ctx):
            try:
                incoming.accept(request, ctx, self.pipelines.default_policy)
                async with await service(request, ctx) as reply:
                    response = await reply.response()
                    self._sign(response, ctx)
                    response.model = request.model
                    response.id = ctx.response_id
                    if ctx.initial or ctx.cache_mode:
                        await _announce(ctx, context)
            except (Exception, asyncio.CancelledError) as error:
                await self._refuse(error, ctx, context)
        return response

    async def ListModels(
        self, request: v1.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> v1.ListModelsResponse:
        ctx = self._context("chat", "ListModels", context)
        with self.calls.track(ctx):
            try:
                self._identify(ctx)
                return self.models.page(request)
            except GatewayError as error:
                await self._refuse(error, ctx, context)

    async def GetModel(
        self, request: v1.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> v1.GetModelResponse:
        ctx = self._context("chat", "GetModel", context)
        with self.calls.track(ctx):
            try:
                self._identify(ctx)
                return v1.GetModelResponse(model=self.models.one(request.model))
            except GatewayError as error:
                await self._refuse(error, ctx, context)

    async def GetServerInfo(
        self, request: v1.GetServerInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> v1.GetServerInfoResponse:
        ctx = self._context("chat", "GetServerInfo", context)
        with self.calls.track(ctx):
            try:
                self._identify(ctx)
                return self.info
            except GatewayError as error:
                await self._refuse(error, ctx, context)

    def _context(self, operation: Operation, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Context:
        new_id, knows_keys = self.make_id(), self.pipelines.callers is not None
        ctx = incoming.begun(operation, method, context, self.clock, self.wall(), new_id, knows_keys=knows_keys)
        return ctx

    def _identify(self, ctx: Context) -> None:
        """Find out who calls, where no stack of layers does."""
        if self.pipelines.callers is not None:
            self.pipelines.callers.identify(ctx)

    async def _resumable(self, request: v1.StreamChatRequest, writer: EventWriter, ctx: Context) -> None:
        """Begin a recording, or go on with one, and follow it. It does not end with this call."""
        response_id, after = ctx.response_id, 0
        if request.HasField("resume"):
            self._identify(ctx)
            response_id, after = request.resume.response_id, request.resume.after_sequence
            writer.sequence = after
            if response_id.isascii() and response_id.isprintable():  # it goes out in the trailers
                ctx.response_id = response_id
        else:
            self.recordings.check()
            incoming.accept(request.request, ctx, self.pipelines.default_policy)
            ctx.cancelled_when_due = False  # the caller's deadline bounds it, but gRPC ends only the call
            if ctx.deadline is None:
                ctx.deadline = math.inf  # as long as any call may take: its client may come and go
            reply = await self._begin(request, ctx)
            await self.recordings.record(reply, self._recorded(reply, request, ctx), ctx)
        async with aclosing(self.recordings.follow(ctx.caller, response_id, after)) as batches:
            try:
                async for batch in batches:
                    for event in batch:
                        await writer.event(event)
            except grpc.aio.InternalError:  # the client went away while an event was being written
                _end(ctx, CANCELLED)
                return

    async def _recorded(self, reply: Reply[v1.ChatResponse], request: v1.StreamChatRequest, ctx: Context) -> Events:
        async with aclosing(self._batches(reply, request.options)) as batches:
            async for batch in batches:
                yield list(self._events(batch, request, ctx))

    async def _write(
        self,
        reply: Reply[v1.ChatResponse],
        writer: EventWriter,
        request: v1.StreamChatRequest,
        ctx: Context,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        async with aclosing(self._batches(reply, request.options)) as batches:
            async for batch in batches:
                for event in self._events(batch, request, ctx):
                    await writer.event(event)

    async def _begin(self, request: v1.StreamChatRequest, ctx: Context) -> Reply[v1.ChatResponse]:
        try:
            return await self.pipelines.chat(request.request, ctx)
        except GatewayError as error:
            raise error.within("request") from None

    @staticmethod
    def _batches(reply: Reply[v1.ChatResponse], options: v1.StreamOptions) -> Any:
        batches: AsyncIterator[Batch] = aiter(reply)
        hold = seconds(options.coalesce_interval)
        return coalesced(batches, hold) if hold > 0 else batches

    def _events(self, batch: Batch, request: v1.StreamChatRequest, ctx: Context) -> Any:
        """The events of `batch` as the client gets them: completed with what only the edge knows."""
        if ctx.first_output is None:
            ctx.first_output = self.clock()
        for event in batch:
            match event.WhichOneof("event"):
                case "usage" if not request.options.usage_updates:
                    continue
                case "started":
                    event.started.response_id = ctx.response_id
                    event.started.model = request.request.model
                    _set_time(event.started.create_time, ctx.received_at)
                    if ctx.cache is not None:
                        event.started.cache.CopyFrom(ctx.cache)
                    if request.options.resumable:
                        self.recordings.announce(event.started)
                case "completed":
                    self._sign(event.completed, ctx)
            yield event

    def _sign(self, final: Final, ctx: Context) -> None:
        now = self.clock()
        first = now if ctx.first_output is None else ctx.first_output
        route = final.route
        _set_duration(route.time_to_first_output, first - ctx.received)
        _set_duration(route.total_duration, now - ctx.received)
        if ctx.warnings:
            final.warnings.extend(ctx.warnings)
        if ctx.cache is not None and not isinstance(final, v1.RerankResponse):
            final.cache.CopyFrom(ctx.cache)

    def _slow(self) -> SlowConsumer:
        return SlowConsumer(f"the caller took nothing of the stream for {self.max_stall:g} s")

    async def _refuse(
        self,
        error: BaseException,
        ctx: Context,
        context: grpc.aio.ServicerContext[Any, Any],
        writer: EventWriter | None = None,
    ) -> NoReturn:
        """End the call with the status that `error` means; a cancelled call stays cancelled unless we cancelled it."""
        resumable = False
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            stalled = writer is not None and writer.stalled
            if not (stalled or self.calls.cut_off) or context.cancelled() or task is None:
                _end(ctx, verdict(error, ctx))
                raise error
            task.uncancel()
            if stalled:
                resumable = await self.recordings.holds(ctx.caller, ctx.response_id)
                error = self._slow()
            else:
                resumable = writer is not None and await self.recordings.outlasts(ctx.caller, ctx.response_id)
                error = ShuttingDown("the gateway is shutting down; another one will answer", retry_after=1.0)
        elif isinstance(error, Ended):
            code, message, trailers = status.repeat(error.status, ctx)
            ctx.ended = (code.name, status.reason_of(error.status) or code.name)
            await context.abort(code, message, trailers)
        elif isinstance(error, StateUnavailable):
            resumable = True  # as soon as the store is back
        elif not isinstance(error, GatewayError):
            log.error("bug", request_id=ctx.request_id, method=ctx.method, exc_info=error)
        _end(ctx, verdict(error, ctx))
        sequence = 0 if writer is None else writer.sequence
        code, message, trailers = status.speak(error, ctx, last_sequence=sequence, resumable=resumable)
        await context.abort(code, message, trailers)
        raise AssertionError("abort raises")


async def _announce(ctx: Context, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Send what goes ahead of the answer, if there is anything. Not before there is an answer: it is then that clients
    cannot retry any more."""
    initial = ctx.initial
    if ctx.cache_mode and ctx.cache is not None:  # who asks by metadata is answered by metadata
        initial += (("x-parley-cache", semconv.CACHE_STATUS[ctx.cache.status]),)
    if initial:
        await context.send_initial_metadata(initial)


def _end(ctx: Context, ended: Verdict) -> None:
    ctx.ended = (ended.code, ended.reason)


def _set_time(time: Timestamp, unix: float) -> None:
    """What `FromMilliseconds` does, at a third of the cost."""
    time.seconds, milliseconds = divmod(int(unix * 1000), 1000)
    time.nanos = milliseconds * 1_000_000


def _set_duration(duration: Duration, seconds: float) -> None:
    """The same for a duration, 0 or more."""
    duration.seconds = whole = int(seconds)
    duration.nanos = int((seconds - whole) * 1e9)
