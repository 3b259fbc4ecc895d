"""The few things that asyncio does in its own way; `_sync/wire.py` has the same names."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc.aio

from parley import v1
from parley.channel import Dial
from parley.tools import AnyTool
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub

T = TypeVar("T")

Channel = grpc.aio.Channel
Unary = grpc.aio.UnaryUnaryMultiCallable
if TYPE_CHECKING:
    from parley.v1.gateway_service_pb2_grpc import GatewayServiceAsyncStub  # exists for type checkers only

    Stub: TypeAlias = GatewayServiceAsyncStub
    StreamCall: TypeAlias = grpc.aio.UnaryStreamCall[v1.StreamChatRequest, v1.StreamChatResponse]

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
