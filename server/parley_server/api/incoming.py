"""What a call brings with it: metadata become its context, and wishes of its request.

Metadata that no layer needs are not kept; keys of callers are kept as digests only.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from parley import v1
from parley_server.api import validate
from parley_server.core.callers import bearer, digest
from parley_server.core.context import Clock, Context, Operation, begin
from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.service import AnyRequest

_HIGHEST_PRIORITY, _USUAL_PRIORITY = 9, 5  # of x-parley-priority
_CACHE_MODES = {
    "bypass": v1.ResponseCacheOptions.MODE_BYPASS,
    "read-write": v1.ResponseCacheOptions.MODE_READ_WRITE,
    "read-only": v1.ResponseCacheOptions.MODE_READ_ONLY,
    "refresh": v1.ResponseCacheOptions.MODE_REFRESH,
    "only-if-cached": v1.ResponseCacheOptions.MODE_ONLY_IF_CACHED,
}
"""What metadata x-parley-cache may ask for."""
_TRACE_HEADERS = frozenset(("traceparent", "tracestate", "baggage"))


def begun(
    operation: Operation,
    method: str,
    context: grpc.aio.ServicerContext[Any, Any],
    clock: Clock,
    received_at: float,
    new_id: str,
    *,
    knows_keys: bool,
) -> Context:
    """The context of a call that has just come, by what its metadata say."""
    now = clock()
    left = context.time_remaining()
    headers: dict[str, str] = {}
    request_id = idempotency_key = cache_mode = key_shown = other_key = ""
    priority = 0
    for key, value in context.invocation_metadata() or ():
        if (
            key == "x-request-id"
            and isinstance(value, str)
            and len(value) <= 128
            and value.isascii()
            and value.isprintable()
        ):
            request_id = value
            context.set_trailing_metadata((("x-request-id", value),))  # back to who gave it; see decisions/0001
        elif key in _TRACE_HEADERS and isinstance(value, str):
            headers[key] = value
        elif key == "idempotency-key" and isinstance(value, str):
            idempotency_key = value
        elif key == "authorization" and isinstance(value, str):
            key_shown = bearer(value)
        elif key == "x-api-key" and isinstance(value, str):
            other_key = value.strip()
        elif key == "x-parley-cache":
            cache_mode = str(value)
        elif key == "x-parley-priority" and isinstance(value, str) and value.isdecimal():
            priority = min(int(value[:2]), _HIGHEST_PRIORITY) - _USUAL_PRIORITY
    key_shown = key_shown or other_key
    ctx = Context(
        operation=operation,
        streaming=method == "StreamChat",
        request_id=request_id or f"req_{new_id}",
        response_id=f"resp_{new_id}",
        clock=clock,
        received=now,
        received_at=received_at,
        deadline=None if left is None else now + left,
        cancelled_when_due=left is not None,
        method=method,
        peer=context.peer,
        key=digest(key_shown) if key_shown and knows_keys else b"",
        idempotency_key=idempotency_key,
        cache_mode=cache_mode,
        priority=priority,
        headers=headers,
    )
    begin(ctx)
    return ctx


def accept(request: AnyRequest, ctx: Context, default_policy: v1.UnsupportedPolicy.ValueType) -> None:
    """Put into a request what metadata and configuration say of it, and note what is not understood.

    Raises InvalidRequest where metadata and request contradict each other.
    """
    ctx.model = request.model
    if not request.unsupported_policy:
        request.unsupported_policy = default_policy
    if ctx.idempotency_key and request.idempotency_key != ctx.idempotency_key:
        if request.idempotency_key:
            field = "request.idempotency_key" if ctx.streaming else "idempotency_key"
            check([Violation(field, "is not what the metadata idempotency-key says", "INVALID")])
        request.idempotency_key = ctx.idempotency_key
    if ctx.cache_mode:
        if ctx.cache_mode not in _CACHE_MODES:
            description = f"{ctx.cache_mode[:32]!r} is none of {', '.join(_CACHE_MODES)}"
            check([Violation("x-parley-cache", description, "INVALID")])
        if not isinstance(request, v1.RerankRequest):
            request.response_cache.mode = _CACHE_MODES[ctx.cache_mode]
    if ctx.streaming and isinstance(request, v1.ChatRequest) and request.include_provider_response:
        _warn(ctx, "UNSUPPORTED_PARAMETER", "a stream has no one provider body to return", "include_provider_response")
    for unknown in _unknown_fields(request):
        _warn(
            ctx,
            "UNKNOWN_FIELD",
            f"this server does not know field number {unknown} of the request and ignored it",
            "",
        )


def check_stream(request: v1.StreamChatRequest) -> None:
    """Raises InvalidRequest for options out of range, and where it is not said what to stream."""
    violations = validate.stream_options(request.options)
    match request.WhichOneof("start"):
        case "resume":
            violations += validate.resume(request)
        case None:
            violations.append(Violation("request", "is required", "INVALID"))
    check(violations)


def check(violations: list[Violation]) -> None:
    """Raises InvalidRequest if there are any."""
    if violations:
        raise InvalidRequest("the request has invalid fields", violations=violations)


def _warn(ctx: Context, code: str, message: str, path: str) -> None:
    ctx.warnings.append(v1.Warning(code=code, message=message, field=path))


def _unknown_fields(message: Message) -> list[int]:
    """Numbers of the top-level fields a newer client sent and this server does not know."""
    unknown = UnknownFieldSet(message)
    return sorted({unknown[i].field_number for i in range(len(unknown))}) if len(unknown) else []
