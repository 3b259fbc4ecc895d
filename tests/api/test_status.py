"""Every error is spoken with its code, an ErrorInfo, what is due beside it, under 4 KB, and without a credential."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.api import status
from parley_server.core import errors
from parley_server.core.context import Context

KEY = "sk-proj-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


def context(method: str = "Chat") -> Context:
    return Context(operation="chat", streaming=False, request_id="req_1", response_id="resp_1", method=method)


def unpack(trailers: tuple[tuple[str, str | bytes], ...]) -> tuple[Status, dict[str, Message]]:
    spoken = Status.FromString(dict(trailers)["grpc-status-details-bin"])  # type: ignore[arg-type]
    found: dict[str, Message] = {}
    for detail in spoken.details:
        kinds = (
            details.ErrorInfo,
            details.RetryInfo,
            details.BadRequest,
            details.QuotaFailure,
            details.PreconditionFailure,
            details.ResourceInfo,
            v1.ProviderError,
            v1.ResponseFailure,
        )
        kind = next(kind for kind in kinds if detail.type_url.endswith(f"/{kind.DESCRIPTOR.full_name}"))
        message = kind()
        detail.Unpack(message)
        assert kind.__name__ not in found, "each detail at most once"
        found[kind.__name__] = message
    return spoken, found


def concrete(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    for child in kind.__subclasses__():
        yield child
        yield from concrete(child)


@pytest.mark.parametrize("kind", list(concrete(errors.GatewayError)))
def test_every_error_has_its_code_and_reason(kind: type[errors.GatewayError]) -> None:
    code, message, trailers = status.speak(kind("what happened"), context())
    spoken, found = unpack(trailers)
    assert code.name == kind.code.value
    assert (spoken.code, spoken.message) == (code.value[0], message)
    info = found["ErrorInfo"]
    assert isinstance(info, details.ErrorInfo)
    assert (info.reason, info.domain, info.metadata["requestId"]) == (kind.reason, "parley", "req_1")


def test_one_reason_belongs_to_one_code() -> None:
    codes: dict[str, errors.Code] = {}
    for kind in concrete(errors.GatewayError):
        assert codes.setdefault(kind.reason, kind.code) == kind.code


def test_an_unexpected_exception_tells_nothing_but_the_request_id() -> None:
    code, message, trailers = status.speak(ValueError(f"secret {KEY}"), context())
    assert code is grpc.StatusCode.INTERNAL
    assert "req_1" in message
    assert b"secret" not in repr(trailers).encode()


def test_retry_info_and_pushback_of_a_rate_limit() -> None:
    error = errors.RateLimited("slow down", retry_after=1.25, facts={"provider": "openai"})
    _, _, trailers = status.speak(error, context())
    _, found = unpack(trailers)
    retry = found["RetryInfo"]
    assert isinstance(retry, details.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1250
    assert "QuotaFailure" in found
    assert dict(trailers)["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (errors.QuotaExhausted("no money"), "QuotaFailure"),
        (errors.CostLimitExceeded("too dear", facts={"estimateNanoUsd": "7"}), "QuotaFailure"),
        (errors.CredentialsRejected("bad key"), "PreconditionFailure"),
        (errors.PromptBlocked("no"), "PreconditionFailure"),
        (errors.ModelNotFound("who?"), "ResourceInfo"),
        (errors.OperationUnsupported("cannot"), "ResourceInfo"),
        (errors.Unavailable("down", provider_error=v1.ProviderError(http_status=500)), "ProviderError"),
    ],
)
def test_details_that_are_due(error: errors.GatewayError, detail: str) -> None:
    assert detail in unpack(status.speak(error, context())[2])[1]


def attempt(provider: str, model: str, reason: str = "") -> v1.Attempt:
    made = v1.Attempt(provider=provider, model=model)
    if reason:
        made.status.code = 14
        made.status.details.add().Pack(details.ErrorInfo(reason=reason, domain="parley"))
    return made


def test_an_error_tells_who_was_asked_and_what_came_of_it() -> None:
    ctx = context()
    ctx.ledger.attempts += [attempt("a", "x/1", "PROVIDER_OVERLOADED"), attempt("b", "y", "PROVIDER_TIMEOUT")]
    info = unpack(status.speak(errors.AttemptTimeout("slow"), ctx)[2])[1]["ErrorInfo"]
    assert isinstance(info, details.ErrorInfo)
    assert info.metadata["trail"] == "a/x/1:PROVIDER_OVERLOADED,b/y:PROVIDER_TIMEOUT"
    unasked = unpack(status.speak(errors.InvalidRequest("bad"), context())[2])[1]["ErrorInfo"]
    assert isinstance(unasked, details.ErrorInfo)
    assert "trail" not in unasked.metadata


@pytest.mark.parametrize("room", [10, 60, 200, 600])
def test_of_many_attempts_the_last_ones_are_told(room: int) -> None:
    attempts = [attempt("provider", f"model-{n}", "PROVIDER_UNAVAILABLE") for n in range(40)]
    told = status.trail(attempts, room)
    assert told.endswith("provider/model-39:PROVIDER_UNAVAILABLE")
    left_out, *entries = told.split(",")
    assert left_out == f"+{40 - len(entries)}"
    assert len(told) <= max(room, 60)
    assert status.trail(attempts[:1], room) == "provider/model-0:PROVIDER_UNAVAILABLE"
    assert status.trail([attempt("p", "m" * 300)], room) == f"p/{'m' * 126}:OK"


def test_clients_may_retry_only_where_nothing_was_asked() -> None:
    def pushback(error: errors.GatewayError) -> object:
        return dict(status.speak(error, context())[2]).get("grpc-retry-pushback-ms")

    assert pushback(errors.ShuttingDown("bye")) == "1000"
    assert pushback(errors.ShuttingDown("bye", retry_after=0.25)) == "250"
    assert pushback(errors.GatewayOverloaded("full", retry_after=1.5)) == "1500"
    assert pushback(errors.Unavailable("down")) == "-1"
    assert pushback(errors.CircuitOpen("ill", retry_after=3.0)) == "-1"
    assert pushback(errors.RateLimited("slow down", retry_after=3.0)) == "-1"
    ours = errors.RateLimited("our own limits are used up", retry_after=3.0)
    ours.attempted = False
    assert pushback(ours) == "3000"
    assert pushback(errors.InvalidRequest("bad")) is None


def test_clients_may_not_repeat_what_was_attempted_before_the_gateway_was_found_full() -> None:
    ctx = context()
    ctx.ledger.attempts.append(v1.Attempt())
    trailers = status.speak(errors.GatewayOverloaded("full", retry_after=1.5), ctx)[2]
    assert dict(trailers)["grpc-retry-pushback-ms"] == "-1"


def test_field_paths_of_a_stream_start_at_its_request() -> None:
    error = errors.InvalidRequest("bad", violations=[errors.Violation("messages[0].role", "is required")])
    bad = unpack(status.speak(error.within("request"), context())[2])[1]["BadRequest"]
    assert isinstance(bad, details.BadRequest)
    assert bad.field_violations[0].field == "request.messages[0].role"


def test_failure_of_a_response_with_attempts() -> None:
    ctx = context()
    ctx.ledger.attempts.append(v1.Attempt(usage=v1.Usage(cost=v1.Cost(total_nano_usd=5))))
    failed = unpack(status.speak(errors.StreamInterrupted("cut"), ctx, last_sequence=7)[2])[1]["ResponseFailure"]
    assert failed == v1.ResponseFailure(response_id="resp_1", last_sequence=7, attempts=1, cost_nano_usd=5)


@pytest.mark.parametrize("kind", list(concrete(errors.GatewayError)))
def test_a_recorded_status_says_what_was_said(kind: type[errors.GatewayError]) -> None:
    ctx = context("StreamChat")
    ctx.ledger.attempts.append(v1.Attempt(provider="p", model="m"))
    error = kind("what happened", retry_after=2.0)
    code, message, trailers = status.repeat(status.recorded(error, ctx, 7), context())
    said = status.speak(error, ctx, last_sequence=7)
    assert (code, message) == said[:2]
    assert unpack(trailers) == unpack(said[2])
    assert ("grpc-retry-pushback-ms" in dict(trailers)) == ("grpc-retry-pushback-ms" in dict(said[2]))


@given(
    message=st.text(max_size=5000),
    said=st.text(max_size=5000),
    facts=st.dictionaries(st.sampled_from("abc"), st.text(max_size=1000)),
    violations=st.lists(st.tuples(st.text(max_size=300), st.text(max_size=500)), max_size=30),
)
def test_the_whole_status_stays_under_4_kb(
    message: str, said: str, facts: dict[str, str], violations: list[tuple[str, str]]
) -> None:
    error = errors.RateLimited(
        message,
        retry_after=3,
        provider_error=v1.ProviderError(message=said, type=said, code=said, request_id=said),
        violations=[errors.Violation(*violation) for violation in violations],
        facts=facts,
    )
    _, text, trailers = status.speak(error, context())
    packed = dict(trailers)["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    assert len(quote(text)) + len(base64.b64encode(packed)) <= 4096
    assert "ErrorInfo" in unpack(trailers)[1]


def test_no_credential_passes() -> None:
    error = errors.CredentialsRejected(
        f"Incorrect API key provided: {KEY}",
        provider_error=v1.ProviderError(message=f"key {KEY} is wrong", code=KEY),
        facts={"key": KEY},
        violations=[errors.Violation("x", f"Bearer {KEY}")],
    )
    _, message, trailers = status.speak(error, context())
    assert KEY not in message
    assert KEY.encode() not in dict(trailers)["grpc-status-details-bin"]
