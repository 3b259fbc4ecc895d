"""The few things that threads do in their own way; `_async/wire.py` has the same names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from parley import v1
from parley.channel import Dial
from parley.tools import AnyTool
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub

T = TypeVar("T")

Channel = grpc.Channel
Stub = GatewayServiceStub
Unary = grpc.UnaryUnaryMultiCallable
if TYPE_CHECKING:
    StreamCall: TypeAlias = grpc._CallIterator[v1.StreamChatResponse]

Stopped = grpc.FutureCancelledError
"""Never raised here: a cancelled call raises RpcError with CANCELLED."""


def connect(dial: Dial) -> Channel:
    if dial.credentials is None:
        return grpc.insecure_channel(dial.address, options=dial.options)
    return grpc.secure_channel(dial.address, dial.credentials, options=dial.options)


def stub(channel: Channel) -> Stub:
    return GatewayServiceStub(channel)


def task_is_cancelled() -> bool:
    """Threads are not cancelled."""
    return False


def call_tool(tool: AnyTool, arguments: dict[str, Any]) -> Any:
    """What the tool returns."""
    if inspect.iscoroutinefunction(tool.function):
        raise TypeError(f"{tool.name} is a coroutine function; AsyncClient can run it")
    return tool(**arguments)


def gather(results: Iterable[T]) -> list[T]:
    """All results, one after the other."""
    return list(results)
