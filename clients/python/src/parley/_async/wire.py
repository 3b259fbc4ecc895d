"""The few things that asyncio does in its own way; `_sync/wire.py` has the same names."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc.aio

from parley import v1
from parley.channel import Dial, Headers
from parley.tools import AnyTool
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub

T = TypeVar("T")

Channel = grpc.aio.Channel
Unary = grpc.aio.UnaryUnaryMultiCallable
if TYPE_CHECKING:
    from parley.v1.gateway_service_pb2_grpc import GatewayServiceAsyncStub  # exists for type checkers only

    Stub: TypeAlias = GatewayServiceAsyncStub
    StreamCall: TypeAlias = grpc.aio.UnaryStreamCall[v1.StreamChatRequest, v1.StreamChatResponse]

_STOP = 5.0
_stopping: set[object] = set()  # calls that nobody waits for are kept until they are over

Stopped = asyncio.CancelledError
"""What waiting for a call raises that was cancelled on this side."""


def connect(dial: Dial) -> Channel:
    if dial.credentials is None:
        return grpc.aio.insecure_channel(dial.address, options=dial.options)
    return grpc.aio.secure_channel(dial.address, dial.credentials, options=dial.options)


def stub(channel: Channel) -> Stub:
    return GatewayServiceStub(channel)


def task_is_cancelled() -> bool:
    """Whether somebody wants the current task to end, so that CancelledError is not about the call alone."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def call_tool(tool: AnyTool, arguments: dict[str, Any]) -> Any:
    """What the tool returns: a coroutine function runs in this loop, any other in a thread, so the loop goes on."""
    if inspect.iscoroutinefunction(tool.function):
        return await tool(**arguments)
    return await asyncio.to_thread(tool, **arguments)


async def gather(results: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, computed side by side. The first failure ends the others and is raised."""
    tasks = [asyncio.create_task(result) for result in results]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Again:
    """How a stream that broke is taken up again, within the time that it had at first."""

    def __init__(
        self, stub: Stub, options: v1.StreamOptions, timeout: float | None, metadata: Headers, *, outlasts: bool
    ) -> None:
        self._stub = stub
        self._outlasts = outlasts
        self._heartbeat = v1.StreamOptions()
        if options.HasField("heartbeat_interval"):
            self._heartbeat.heartbeat_interval.CopyFrom(options.heartbeat_interval)
        self._due = None if timeout is None else time.monotonic() + timeout
        self._metadata = metadata

    async def sleep(self, seconds: float) -> bool:
        """Wait; whether there is time left after that."""
        if self._due is not None and time.monotonic() + seconds >= self._due:
            return False
        await asyncio.sleep(seconds)
        return True

    def resume(self, response_id: str, after: int) -> StreamCall:
        """The call for what comes after the sequence `after`."""
        rest = v1.ResumeFrom(response_id=response_id, after_sequence=after)
        request = v1.StreamChatRequest(resume=rest, options=self._heartbeat)
        timeout = None if self._due is None else max(self._due - time.monotonic(), 0.0)
        return self._stub.StreamChat(request, timeout=timeout, metadata=self._metadata)

    def stop(self, response_id: str) -> None:
        """Have the generation stopped, unless it is to go on without a reader. Nobody waits for that."""
        if self._outlasts:
            return
        request = v1.CancelChatRequest(response_id=response_id)
        call = self._stub.CancelChat(request, timeout=_STOP, metadata=self._metadata)
        _stopping.add(call)
        call.add_done_callback(_stopping.discard)
