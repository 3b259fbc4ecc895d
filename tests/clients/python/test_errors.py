"""Errors: the gateway's tree mirrored, statuses read, advice given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

import parley
from parley import errors, status, v1
from parley_server.core import errors as server
from tests.clients.python.peer import Fail, Peer

Code = grpc.StatusCode


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


SERVER = {c.__name__: c for c in tree(server.GatewayError) if c.__module__ == server.__name__}
CLIENT = {c.__name__: c for c in tree(errors.GatewayError) if c.__module__ == errors.__name__}
BORN_HERE = {"Truncated", "ConnectionFailed", "MessageTooLarge", "Cancelled"}


def test_both_trees_have_the_same_classes() -> None:
    assert CLIENT.keys() - BORN_HERE == SERVER.keys()


@pytest.mark.parametrize("name", sorted(SERVER))
def test_client_class_mirrors_server_class(name: str) -> None:
    theirs: Any = SERVER[name]
    ours: Any = CLIENT[name]
    assert ours.reason == theirs.reason
    assert ours.code.name == theirs.code
    parents = [parent.__name__ for parent in theirs.__mro__ if parent.__name__ in SERVER]
    assert [parent.__name__ for parent in ours.__mro__ if parent.__name__ in CLIENT] == parents
    # Within the gateway there is no use in asking again at once; the caller's next call goes to another gateway, or to
    # this one when it has places again.
    if theirs.attempted and name != "ShuttingDown":
        assert ours.retryable == theirs.retryable
    else:
        assert ours.retryable


def test_every_reason_has_one_class() -> None:
    reasons = [c.reason for c in CLIENT.values() if c is not errors.GatewayError]  # type: ignore[attr-defined]
    assert sorted(reasons) == sorted(errors.BY_REASON)
    assert len(set(reasons)) == len(reasons)


def test_both_docstrings_draw_every_class() -> None:
    for name in SERVER:
        assert name in (server.__doc__ or "")
        assert name in (errors.__doc__ or "")


def test_every_error_is_at_hand_at_the_top() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.ParleyError):
            assert getattr(parley, name) is kind


@pytest.mark.parametrize("name", sorted(SERVER.keys() - {"GatewayError"}))
def test_each_status_of_the_gateway_becomes_its_class(peer: Peer, client: Any, name: str) -> None:
    theirs: Any = SERVER[name]
    code = grpc.StatusCode[theirs.code]
    peer.will(Fail(code, "what happened", theirs.reason, trailers=(("grpc-retry-pushback-ms", "-1"),)))
    with pytest.raises(CLIENT[name]) as caught:
        client.chat("m", "x")
    assert type(caught.value) is CLIENT[name]
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_all_details_are_read(peer: Peer, client: Any) -> None:
    provider_error = v1.ProviderError(provider="openai", http_status=429, code="rate_limit_exceeded")
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="sampling.temperature", description="must be 0 to 2", reason="OUT_OF_RANGE"
    )
    peer.will(
        Fail(
            Code.RESOURCE_EXHAUSTED,
            "slow down",
            "PROVIDER_RATE_LIMITED",
            facts={"provider": "openai", "requestId": "req-1"},
            details=[
                error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
                error_details_pb2.BadRequest(field_violations=[violation]),
                error_details_pb2.QuotaFailure(),  # of no use here: skipped
                provider_error,
                v1.ResponseFailure(response_id="resp_1", attempts=3),
            ],
            trailers=(("x-parley-attempts", "3"), ("x-request-id", "req-1")),
        )
    )
    with pytest.raises(parley.RateLimited) as caught:
        client.chat("m", "x")
    error = caught.value
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.reason == "PROVIDER_RATE_LIMITED"
    assert error.retryable
    assert error.retry_after == 2.5
    assert error.request_id == "req-1"
    assert error.attempts == 3
    assert error.provider_error == provider_error
    assert error.violations == (parley.Violation("sampling.temperature", "must be 0 to 2", "OUT_OF_RANGE"),)
    assert error.details.facts["provider"] == "openai"
    assert str(error) == (
        "PROVIDER_RATE_LIMITED: slow down (attempts: 3, try again in 2.5 s, request req-1)\n"
        "  sampling.temperature: must be 0 to 2"
    )
    assert repr(error) == "RateLimited('slow down', code=RESOURCE_EXHAUSTED, reason='PROVIDER_RATE_LIMITED')"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidRequest),
        (Code.UNAVAILABLE, errors.Unavailable),
        (Code.RESOURCE_EXHAUSTED, errors.GatewayError),
        (Code.UNAUTHENTICATED, errors.Unauthenticated),
        (Code.INTERNAL, errors.GatewayError),
    ],
)
def test_a_reason_of_tomorrow_becomes_the_nearest_class(
    peer: Peer, client: Any, code: grpc.StatusCode, kind: type[errors.GatewayError]
) -> None:
    peer.will(Fail(code, "new", "REASON_OF_TOMORROW", trailers=(("grpc-retry-pushback-ms", "-1"),)))
    with pytest.raises(errors.GatewayError) as caught:
        client.chat("m", "x")
    assert type(caught.value) is kind
    assert caught.value.reason == "REASON_OF_TOMORROW"
    assert caught.value.code is code


def test_an_unknown_reason_with_a_time_to_wait_is_retryable(peer: Peer, client: Any) -> None:
    wait = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
    peer.will(Fail(Code.RESOURCE_EXHAUSTED, "new", "RATE_LIMITED_OF_TOMORROW", details=[wait]))
    with pytest.raises(errors.GatewayError) as caught:
        client.chat("m", "x")
    assert caught.value.retryable
    assert caught.value.retry_after == 1.0


def test_a_known_reason_with_another_code_keeps_its_code(peer: Peer, client: Any) -> None:
    peer.will(Fail(Code.ABORTED, "odd", "MODEL_NOT_FOUND"))
    with pytest.raises(errors.GatewayError) as caught:
        client.chat("m", "x")
    assert type(caught.value) is errors.GatewayError
    assert caught.value.code is Code.ABORTED


@pytest.mark.parametrize("code", [Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.INTERNAL, Code.UNKNOWN])
def test_a_status_without_details_still_tells_its_code(peer: Peer, client: Any, code: grpc.StatusCode) -> None:
    peer.will(Fail(code, "said a proxy"))
    with pytest.raises(errors.GatewayError, match="said a proxy") as caught:
        client.chat("m", "x")
    assert (caught.value.code, caught.value.reason) == (code, code.name)
    assert not caught.value.retryable


def test_mangled_details_do_not_hide_the_error(peer: Peer, client: Any) -> None:
    peer.will(Fail(Code.NOT_FOUND, "no such model", trailers=(("grpc-status-details-bin", b"\xff\xff\xff"),)))
    with pytest.raises(errors.GatewayError, match="no such model"):
        client.chat("m", "x")


def test_unimplemented_names_the_likely_cause(peer: Peer, client: Any) -> None:
    peer.will(Fail(Code.UNIMPLEMENTED, "Method not found!"))
    with pytest.raises(errors.GatewayError, match="another service, or an older gateway"):
        client.chat("m", "x")


def test_nobody_there_says_what_to_do() -> None:
    peer = Peer()
    peer.start()
    address = peer.address
    peer.stop()
    with parley.Client(address) as client, pytest.raises(parley.ConnectionFailed) as caught:
        client.chat("m", "x")
    assert f"no gateway answers at {address}: is it running? `make run`" in str(caught.value)
    assert caught.value.retryable
    assert caught.value.code is Code.UNAVAILABLE


async def test_nobody_there_says_what_to_do_in_a_stream() -> None:
    peer = Peer()
    peer.start()
    address = peer.address
    peer.stop()
    async with parley.AsyncClient(address) as client, client.stream("m", "x") as stream:
        with pytest.raises(parley.ConnectionFailed, match="is it running"):
            await stream.reply()


def test_a_gateway_that_is_not_serving_is_left_alone(peer: Peer, client: Any) -> None:
    peer.set_health(serving=False)
    with pytest.raises(parley.ConnectionFailed, match="it is not serving"):
        client.chat("m", "x")
    assert peer.requests == []


def test_wait_for_ready_waits_until_the_gateway_serves(peer: Peer) -> None:
    peer.set_health(serving=False)
    with parley.Client(peer.address, wait_for_ready=True, timeout=0.2) as client:
        with pytest.raises(parley.DeadlineExceeded):
            client.chat("m", "x")
        peer.set_health(serving=True)
        peer.will(v1.ChatResponse(id="resp_1"))
        assert client.chat("m", "x", timeout=5).id == "resp_1"


def test_tls_against_a_plain_gateway_names_tls(peer: Peer) -> None:
    with parley.Client(peer.address, tls=True) as client, pytest.raises(parley.ConnectionFailed, match="agree on TLS"):
        client.chat("m", "x")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("errors resolving nowhere.invalid:1: [field:hostname lookup error]", "is the name right"),
        ("DNS resolution failed for nowhere.invalid:1", "is the name right"),
        ("failed to connect to all addresses; last error: Connection refused", "is it running"),
        ("backends failing; last error: Ssl handshake failed: SSL_ERROR_SSL", "agree on TLS"),
        ("Socket closed", "failed before the answer was complete"),
        ("recvmsg:Connection reset by peer", "failed before the answer was complete"),
    ],
)
def test_advice_fits_what_grpc_says(message: str, advice: str) -> None:
    error = grpc.aio.AioRpcError(Code.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=message)
    known = status.from_rpc(error, "gateway:50051")
    assert isinstance(known, parley.ConnectionFailed)
    assert advice in str(known)
    assert message in str(known)
