"""Where errors are spoken: a GatewayError becomes a gRPC status with google.rpc details, here and nowhere else.

The whole status stays under 4 KB, since larger trailers replace the real error with one about metadata size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import (
    Bug,
    CallerRateLimited,
    Code,
    CostLimitExceeded,
    CredentialsRejected,
    GatewayError,
    GatewayOverloaded,
    IdempotentRequestInProgress,
    ModelNotFound,
    OperationUnsupported,
    PromptBlocked,
    QuotaExhausted,
    RateLimited,
    ResponseNotFound,
    ResumeWindowExpired,
    ShuttingDown,
    StateUnavailable,
)
from parley_server.core.scrub import scrub

DOMAIN = "parley"
BUDGET = 3900  # bytes of grpc-message and grpc-status-details-bin together, as they travel
MAX_VIOLATIONS = 20
_MESSAGE = 400
_DESCRIPTION = 160
_FACT = 128
_PUSHED_BACK = frozenset(
    code.value[0]
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
)
_DIMENSIONS = ("caller", "tenant", "models", "periodSeconds")  # of a caller's limit
_TRAIL, _SHORT_TRAIL, _MORE = 600, 200, 5  # characters; the last, of the note that attempts are left out
_PUSHBACK = 1.0  # seconds, where an error names no time


def speak(
    error: BaseException, ctx: Context, *, last_sequence: int = 0, resumable: bool = False
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Code, message and trailing metadata of the status that tells the caller about `error`.

    `last_sequence`: of the last event that was sent. `resumable`: whether the rest can be had with ResumeFrom.
    """
    known = error if isinstance(error, GatewayError) else Bug(f"internal error; quote request ID {ctx.request_id}")
    message = scrub(known.message)[:_MESSAGE]
    code = getattr(grpc.StatusCode, known.code.value)
    status = _fitting(known, code.value[0], message, ctx, last_sequence, resumable)
    trailers: list[tuple[str, str | bytes]] = [
        *ids(ctx),
        ("x-parley-attempts", str(len(ctx.ledger.attempts))),
        ("grpc-status-details-bin", status),
    ]
    if known.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL):
        trailers.append(("grpc-retry-pushback-ms", _pushback(known, ctx)))
    return code, message, tuple(trailers)


def _pushback(error: GatewayError, ctx: Context) -> str:
    """When clients that retry by themselves may do so, in milliseconds; -1: not at all.

    The gateway has made its attempts already, and a client that retried on top would multiply them. It may where
    nothing was asked because too much waits here, limits of providers are used up or what gateways share is away, and
    where another gateway has to take over. Not where a limit is the caller's own: what is retried counts as well.
    """
    kept_here = isinstance(error, GatewayOverloaded | RateLimited | StateUnavailable)
    kept_here = kept_here and not isinstance(error, CallerRateLimited)
    if (kept_here and not error.attempted and not ctx.ledger.attempts) or isinstance(error, ShuttingDown):
        return str(max(1, math.ceil((error.retry_after or _PUSHBACK) * 1000)))
    return "-1"


def recorded(error: BaseException, ctx: Context, last_sequence: int) -> bytes:
    """The status that `error` means, to be told later: a serialised google.rpc.Status."""
    known = error if isinstance(error, GatewayError) else Bug(f"internal error; quote request ID {ctx.request_id}")
    number = getattr(grpc.StatusCode, known.code.value).value[0]
    return _fitting(known, number, scrub(known.message)[:_MESSAGE], ctx, last_sequence, resumable=False)


def repeat(recorded_status: bytes, ctx: Context) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """The same as `speak`, of a recorded status."""
    status = Status.FromString(recorded_status)
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    trailers: list[tuple[str, str | bytes]] = [*ids(ctx), ("grpc-status-details-bin", recorded_status)]
    if status.code in _PUSHED_BACK:
        trailers.append(("grpc-retry-pushback-ms", "-1"))
    return code, status.message, tuple(trailers)


def reason_of(recorded_status: bytes) -> str:
    """The reason in a recorded status; empty if it has none."""
    info = details.ErrorInfo()
    found = (detail.Unpack(info) for detail in Status.FromString(recorded_status).details)
    return info.reason if any(found) else ""


def ids(ctx: Context) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that every call ends with."""
    return (("x-request-id", ctx.request_id), ("x-parley-response-id", ctx.response_id))


def _fitting(
    error: GatewayError, number: int, message: str, ctx: Context, last_sequence: int, resumable: bool
) -> bytes:
    """The status, with fewer and shorter details the closer it comes to the budget."""
    room = BUDGET - len(quote(message, safe=" "))
    for violations, text in ((MAX_VIOLATIONS, _DESCRIPTION), (MAX_VIOLATIONS, 60), (10, 60), (5, 40), (2, 40)):
        status = Status(code=number, message=message)
        for detail in _details(error, ctx, last_sequence, resumable, violations, text):
            status.details.add().Pack(detail)
        data = status.SerializeToString()
        if math.ceil(len(data) / 3) * 4 <= room:
            break
    return data


def _details(
    error: GatewayError, ctx: Context, last_sequence: int, resumable: bool, violations: int, text: int
) -> Iterator[Message]:
    facts = {key: scrub(value)[:_FACT] for key, value in error.facts.items()}
    if ctx.ledger.attempts:
        facts["trail"] = trail(ctx.ledger.attempts, _TRAIL if text == _DESCRIPTION else _SHORT_TRAIL)
    yield details.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={**facts, "requestId": ctx.request_id})
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after * 1000))
        yield details.RetryInfo(retry_delay=delay)
    if error.violations:
        bad = details.BadRequest()
        for violation in error.violations[:violations]:
            bad.field_violations.add(
                field=violation.field[:_FACT], description=scrub(violation.description)[:text], reason=violation.reason
            )
        yield bad
    said = error.provider_error
    provider = facts.get("provider", "")
    match error:
        case CredentialsRejected():
            failure = details.PreconditionFailure()
            failure.violations.add(
                type="PROVIDER_CREDENTIALS",
                subject=provider,
                description="an operator must set a valid key for this provider",
            )
            yield failure
        case IdempotentRequestInProgress() if not ctx.ledger.attempts:
            yield v1.ResponseFailure(response_id=facts.get("responseId", ""))
        case PromptBlocked():
            failure = details.PreconditionFailure()
            failure.violations.add(
                type="SAFETY", subject=facts.get("category", ""), description="the input was refused"
            )
            yield failure
        case CostLimitExceeded():
            quota = details.QuotaFailure()
            estimate = f"the estimate is {facts.get('estimateNanoUsd', 'higher')}"
            quota.violations.add(subject="routing.max_cost_nano_usd", description=estimate)
            yield quota
        case CallerRateLimited():
            quota = details.QuotaFailure()
            owner = facts.get("limitedBy", "")
            quota.violations.add(
                subject=f"{owner}:{facts[owner]}" if owner in facts else owner,
                description=scrub(error.message)[:text],
                quota_metric=facts.get("metric", ""),
                quota_value=int(facts.get("limit", "0")),
                quota_dimensions={key: facts[key] for key in _DIMENSIONS if key in facts},
            )
            yield quota
        case RateLimited() | QuotaExhausted():
            quota = details.QuotaFailure()
            quota.violations.add(subject=f"provider:{provider}", description=error.reason)
            yield quota
        case ResponseNotFound() | ResumeWindowExpired():
            yield details.ResourceInfo(resource_type="response", resource_name=facts.get("responseId", ""))
        case ModelNotFound() | OperationUnsupported():
            yield details.ResourceInfo(resource_type="model", resource_name=facts.get("model", ""))
        case _:
            pass
    if said is not None:
        shown = v1.ProviderError()
        shown.CopyFrom(said)
        shown.message = _cut(scrub(said.message), 512 if text == _DESCRIPTION else 128)
        for name in ("type", "code", "request_id"):
            setattr(shown, name, scrub(getattr(said, name))[:_FACT])
        yield shown
    if ctx.ledger.attempts or last_sequence:
        failed = v1.ResponseFailure(
            response_id=ctx.response_id,
            last_sequence=last_sequence,
            resumable=resumable,
            attempts=len(ctx.ledger.attempts),
        )
        cost = ctx.ledger.cost_nano_usd()
        if cost is not None:
            failed.cost_nano_usd = cost
        yield failed


def trail(attempts: Sequence[v1.Attempt], room: int) -> str:
    """Who was asked and what came of it, in order: `provider/model:REASON,…`, the last ones at the cost of the first.

    At most `room` characters; `+3,` at the beginning stands for three attempts that are left out.
    """
    entries: list[str] = []
    for attempt in reversed(attempts):
        info = details.ErrorInfo()
        if attempt.status.details:
            attempt.status.details[0].Unpack(info)
        entry = f"{attempt.provider}/{attempt.model}"[:_FACT] + f":{info.reason or 'OK'}"
        room -= len(entry) + 1
        if room < _MORE and entries:
            return ",".join([f"+{len(attempts) - len(entries)}", *reversed(entries)])
        entries.append(entry)
    return ",".join(reversed(entries))


def _cut(text: str, limit: int) -> str:
    """`text` within `limit` bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")
