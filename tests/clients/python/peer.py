"""A real gRPC server that answers by script, and one face for both clients of the SDK."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status

from parley import v1
from parley.fold import unfold
from parley.v1.gateway_service_pb2_grpc import GatewayServiceServicer, add_GatewayServiceServicer_to_server

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Fail:
    """End the call with this status. `reason` "" leaves the details out, as a proxy would."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    details: Sequence[Message] = ()
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    async def speak(self, context: Context) -> None:
        context.set_trailing_metadata(self.trailers)
        if not self.reason:
            await context.abort(self.code, self.message)
        rich = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="parley", metadata=self.facts)
        for detail in (info, *self.details):
            rich.details.add().Pack(detail)
        status: Any = rpc_status.to_status(rich)
        await context.abort(status.code, status.details, (*self.trailers, *status.trailing_metadata))


class Stall:
    """Say nothing until the caller goes away."""


Act = Message | Fail | Stall


class Peer(GatewayServiceServicer):
    """A gateway by script, on 127.0.0.1. Each call takes the next entry of `script`: what to answer, in order.

    `requests` and `metadata` are what arrived. `cancelled` is set once a caller has gone away in the midst of a call.
    """

    def __init__(self) -> None:
        self.script: deque[Sequence[Act]] = deque()
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.cancelled = threading.Event()
        self.stalled = threading.Event()
        self.port = 0
        self.health = HealthServicer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def will(self, *acts: Act) -> None:
        """What the next call that has nothing to do yet does."""
        self.script.append(acts)

    def stream(self, response: v1.ChatResponse) -> None:
        """The next call streams `response`."""
        self.will(*unfold(response))

    async def _act(self, request: Message, context: Context) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        for act in self.script.popleft():
            match act:
                case Fail():
                    await act.speak(context)
                case Stall():
                    self.stalled.set()
                    try:
                        await asyncio.sleep(30)
                    except asyncio.CancelledError:
                        self.cancelled.set()
                        raise
                case _:
                    yield act

    async def _one(self, request: Message, context: Context) -> Any:
        async for answer in self._act(request, context):
            return answer
        raise AssertionError("the script has no answer")

    async def Chat(self, request: v1.ChatRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def StreamChat(self, request: v1.StreamChatRequest, context: Any) -> Any:
        try:
            async for event in self._act(request, context):
                yield event
        except (
            asyncio.CancelledError,
            GeneratorExit,
        ):  # the second: left while being written to
            self.cancelled.set()
            raise

    async def GetChat(self, request: v1.GetChatRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def CancelChat(self, request: v1.CancelChatRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def Rerank(self, request: v1.RerankRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def Embed(self, request: v1.EmbedRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def ListModels(self, request: v1.ListModelsRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def GetModel(self, request: v1.GetModelRequest, context: Any) -> Any:
        return await self._one(request, context)

    async def GetServerInfo(self, request: v1.GetServerInfoRequest, context: Any) -> Any:
        return await self._one(request, context)

    def set_health(self, *, serving: bool) -> None:
        kind = health_pb2.HealthCheckResponse
        status = kind.SERVING if serving else kind.NOT_SERVING
        for service in ("", "parley.v1.GatewayService"):
            self.run(self.health.set(service, status))

    def run(self, work: Awaitable[T]) -> T:
        async def do() -> T:
            return await work

        future: Future[T] = asyncio.run_coroutine_threadsafe(do(), self._loop)
        return future.result(timeout=10)

    async def _start(self, options: Sequence[tuple[str, Any]]) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *options])
        add_GatewayServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    def start(self, options: Sequence[tuple[str, Any]] = ()) -> None:
        self._thread.start()
        self.run(self._start(options))
        self.set_health(serving=True)

    def cut(self) -> None:
        """Break every connection and listen no more."""
        self.run(self._server.stop(0))

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


class Blocking:
    """An asynchronous object with a synchronous face: what it gives to await is awaited, in one loop."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._faced(getattr(self._inner, name))

    def _faced(self, value: Any) -> Any:
        if asyncio.iscoroutine(value):
            return self._faced(self._runner.run(value, context=contextvars.copy_context()))
        if callable(value) and not isinstance(value, type):
            return lambda *args, **kwargs: self._faced(value(*args, **kwargs))
        if hasattr(value, "__anext__") or hasattr(value, "__aenter__"):
            return Blocking(value, self._runner)
        return value

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._inner)
        while True:
            try:
                yield self._runner.run(_next(items))
            except StopAsyncIteration:
                return

    def __next__(self) -> Any:
        return self._runner.run(_next(self._inner))

    def __enter__(self) -> Blocking:
        self._runner.run(_enter(self._inner))
        return self

    def __exit__(self, *error: Any) -> None:
        self._runner.run(_exit(self._inner, *error))


async def _next(items: Any) -> Any:
    return await anext(items)


async def _enter(manager: Any) -> Any:
    return await manager.__aenter__()


async def _exit(manager: Any, *error: Any) -> Any:
    return await manager.__aexit__(*error)


def said(text: str, **more: Any) -> v1.ChatResponse:
    """A response that says `text`."""
    more.setdefault("finish_reason", v1.FINISH_REASON_STOP)
    message = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)])
    return v1.ChatResponse(id="resp_1", model="mock/echo", message=message, **more)


def wants(*calls: tuple[str, str]) -> v1.ChatResponse:
    """A response that calls tools: names and arguments."""
    parts = [
        v1.Part(tool_call=v1.ToolCall(id=f"call_{i}", name=name, arguments_json=arguments))
        for i, (name, arguments) in enumerate(calls)
    ]
    message = v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)
    return v1.ChatResponse(id="resp_1", message=message, finish_reason=v1.FINISH_REASON_TOOL_CALL)


def deltas(*texts: str) -> Iterable[v1.StreamChatResponse]:
    """The beginning of a stream of one text part, without its end."""
    event = v1.StreamChatResponse
    yield event(sequence=1, started=v1.ResponseStarted(response_id="resp_1", model="mock/echo"))
    yield event(sequence=2, part_started=v1.PartStarted(part_index=0, part=v1.Part(text="")))
    for number, text in enumerate(texts, start=3):
        yield event(sequence=number, part_delta=v1.PartDelta(part_index=0, text=text))
