"""The few things that threads do in their own way; `_async/wire.py` has the same names."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from parley import v1
from parley.channel import Dial, Headers
from parley.tools import AnyTool
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub

T = TypeVar("T")

Channel = grpc.Channel
Stub = GatewayServiceStub
Unary = grpc.UnaryUnaryMultiCallable
if TYPE_CHECKING:
    StreamCall: TypeAlias = grpc._CallIterator[v1.StreamChatResponse]

_STOP = 5.0
_stopping: set[object] = set()  # calls that nobody waits for are kept until they are over: gRPC cancels forgotten ones

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

    def sleep(self, seconds: float) -> bool:
        """Wait; whether there is time left after that."""
        if self._due is not None and time.monotonic() + seconds >= self._due:
            return False
        time.sleep(seconds)
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
        call = self._stub.CancelChat.future(request, timeout=_STOP, metadata=self._metadata)
        _stopping.add(call)
        call.add_done_callback(_stopping.discard)
