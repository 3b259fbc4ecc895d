"""What a failed call said in the details of its status."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

M = TypeVar("M", bound=Message)


def status(error: Any) -> Status:
    """The whole status of a `grpc.aio.AioRpcError`."""
    data = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    found = Status.FromString(data)
    assert found.code == error.code().value[0]
    return found


def detail(error: Any, kind: type[M]) -> M:
    """The detail of that kind; there has to be one."""
    found = kind()
    assert any(one.Unpack(found) for one in status(error).details), status(error)
    return found


def reason(error: Any) -> str:
    """The reason of its `ErrorInfo`."""
    return detail(error, ErrorInfo).reason
