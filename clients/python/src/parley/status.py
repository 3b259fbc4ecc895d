"""From a failed call to a typed error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from parley import v1
from parley.errors import (
    BY_REASON,
    Cancelled,
    Code,
    ConnectionFailed,
    DeadlineExceeded,
    Details,
    GatewayError,
    InvalidRequest,
    MessageTooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
)

_BY_CODE: Mapping[Code, type[GatewayError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.UNAVAILABLE: Unavailable,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.CANCELLED: Cancelled,
}
"""The nearest class for a reason that is unknown. Other codes have none: their classes all say something special."""


def from_rpc(error: grpc.RpcError, address: str, *, begun: bool = False) -> GatewayError:
    """What a failed call means. `begun`: an event of the answer had arrived already."""
    metadata = _metadata(error)
    code, message = error.code(), error.details() or "no message"
    reason, details = _read(metadata)
    if not reason:
        return _without_info(code, message, details, address, begun=begun)
    known = BY_REASON.get(reason)
    if known is None or known.code is not code:
        known = _BY_CODE.get(code, GatewayError)
    return known(message, code=code, reason=reason, details=details)


def _without_info(code: Code, message: str, details: Details, address: str, *, begun: bool) -> GatewayError:
    """A status that no gateway wrote: gRPC itself, or a proxy on the way."""
    match code:
        case Code.UNAVAILABLE if not begun and (advice := _advice(message.lower())):
            return ConnectionFailed(f"no gateway answers at {address}: {advice} ({message})", details=details)
        case Code.UNAVAILABLE:
            text = f"the connection to {address} failed before the answer was complete ({message})"
            return ConnectionFailed(text, details=details)
        case Code.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the answer was not complete when the call's timeout was over", details=details)
        case Code.RESOURCE_EXHAUSTED if "larger than max" in message:
            return MessageTooLarge(message, details=details)
        case Code.UNIMPLEMENTED:
            text = f"what answers at {address} does not offer this call: another service, or an older gateway"
            return GatewayError(f"{text} ({message})", code=code, reason=code.name, details=details)
        case _:
            return _BY_CODE.get(code, GatewayError)(message, code=code, reason=code.name, details=details)


def _advice(message: str) -> str:
    """What to do about a connection that could not be had; "" if it was had, and broke."""
    if "handshake" in message or "ssl_error" in message:
        return "do both sides agree on TLS? `tls=True` turns it on here, and the certificate must be known here"
    if "resolv" in message or "resolution" in message:
        return "is the name right?"
    if "unhealthy" in message:
        return "something is there, but it says that it is not serving; it may be starting or going away"
    if "failed to connect" in message or "backends failing" in message:
        return "is it running? `make run` in a checkout of Parley starts one"
    return ""


def _metadata(error: grpc.RpcError) -> dict[str, str | bytes]:
    """Headers and trailers of a failed call. All errors of gRPC have both, though the type promises only the second."""
    initial = error.initial_metadata() or ()  # type: ignore[attr-defined]
    trailing: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    return {**dict(initial), **dict(trailing)}


def _read(metadata: Mapping[str, str | bytes]) -> tuple[str, Details]:
    """The reason, or "" where no gateway gave one, and the details of a rich status."""
    facts: Mapping[str, str] = {}
    reason = ""
    request_id = _text(metadata, "x-request-id")
    retry_after: float | None = None
    violations: tuple[Violation, ...] = ()
    provider_error: v1.ProviderError | None = None
    failure: v1.ResponseFailure | None = None
    for detail in _unpack(metadata.get("grpc-status-details-bin")):
        match detail:
            case error_details_pb2.ErrorInfo():
                reason, facts = detail.reason, dict(detail.metadata)
            case error_details_pb2.RetryInfo():
                retry_after = detail.retry_delay.ToNanoseconds() / 1e9
            case error_details_pb2.BadRequest():
                violations = tuple(Violation(v.field, v.description, v.reason) for v in detail.field_violations)
            case error_details_pb2.RequestInfo():
                request_id = request_id or detail.request_id
            case v1.ProviderError():
                provider_error = detail
            case v1.ResponseFailure():
                failure = detail
    attempts = facts.get("attempts") or _text(metadata, "x-parley-attempts")
    return reason, Details(
        request_id=request_id or facts.get("requestId", ""),
        retry_after=retry_after,
        violations=violations,
        provider_error=provider_error,
        attempts=int(attempts) if attempts.isdecimal() else (failure and failure.attempts) or None,
        failure=failure,
        facts=facts,
    )


def _unpack(rich: str | bytes | None) -> Iterator[Message]:
    """The details of a serialised google.rpc.Status whose types are known. What does not parse is no detail."""
    try:
        for packed in status_pb2.Status.FromString(rich if isinstance(rich, bytes) else b"").details:
            if kind := _DETAILS.get(packed.TypeName()):
                yield kind.FromString(packed.value)
    except DecodeError:  # mangled on the way: code and message still say what happened
        return


def _text(metadata: Mapping[str, str | bytes], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""


_DETAILS: Mapping[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RequestInfo,
        v1.ProviderError,
        v1.ResponseFailure,
    )
}
