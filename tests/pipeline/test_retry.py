"""When the same target is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from parley import v1
from parley_server.core import errors
from parley_server.core.errors import (
    AttemptTimeout,
    CircuitOpen,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Reply
from parley_server.pipeline.retry import Retry, RetryBudget, RetryPolicy
from tests.fakes import Attempts, Upstream, answering, chat, context, delta, opened, started

POLICY = RetryPolicy(attempts=3, base=1.0, cap=4.0, max_retry_after=30.0)


def retry(policy: RetryPolicy = POLICY, random: Callable[[], float] = lambda: 1.0) -> Retry:
    return Retry(policy, asyncio.sleep, random)


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("x"),
        Overloaded("x"),
        RateLimited("x"),
        AttemptTimeout("x"),
        ProtocolError("x"),
        StreamInterrupted("x"),
    ],
    ids=lambda error: error.reason,
)
async def test_passing_trouble_is_tried_again(error: GatewayError) -> None:
    inner = Attempts(error, answering("hi"))
    reply = await retry()(inner)(chat(), context(attempts=5))
    assert (await reply.response()).message.parts[0].text == "hi"
    assert inner.made == 2


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("x"), CredentialsRejected("x"), QuotaExhausted("x"), ValueError("a bug"), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
async def test_lasting_trouble_is_not(error: BaseException) -> None:
    async def fail(*_: Any) -> Reply[Any]:
        raise error

    inner = Attempts(fail)
    with pytest.raises(type(error)):
        await retry()(inner)(chat(), context(attempts=5))
    assert inner.made == 1


@pytest.mark.parametrize(
    ("attempts", "budget", "reserved", "made"),
    [(3, 10, 0, 3), (1, 10, 0, 1), (5, 2, 0, 2), (3, 1, 0, 1), (3, 4, 2, 2), (3, 3, 2, 1)],
    ids=["policy", "no_retries", "budget", "budget_of_one", "kept_for_fallbacks", "all_kept_for_fallbacks"],
)
async def test_how_often(attempts: int, budget: int, reserved: int, made: int) -> None:
    inner = Attempts(Overloaded("busy"))
    ctx = context(attempts=budget)
    ctx.budget.reserved = reserved
    with pytest.raises(Overloaded):
        await retry(RetryPolicy(attempts=attempts))(inner)(chat(), ctx)
    assert inner.made == made
    assert ctx.budget.left == budget - made


@pytest.mark.parametrize(
    ("random", "waits"),
    [(1.0, [1.0, 2.0, 4.0, 4.0]), (0.5, [0.5, 1.0, 2.0, 2.0]), (0.0, [0.0, 0.0, 0.0, 0.0])],
)
async def test_backoff_doubles_up_to_its_cap_and_jitters_over_all_of_it(random: float, waits: list[float]) -> None:
    inner = Attempts(Overloaded("busy"))
    policy = RetryPolicy(attempts=5, base=1.0, cap=4.0)
    with pytest.raises(Overloaded):
        await retry(policy, lambda: random)(inner)(chat(), context(attempts=9))
    assert [b - a for a, b in zip(inner.times, inner.times[1:], strict=False)] == pytest.approx(waits, abs=0.001)


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [(0.1, 1.0), (7.0, 7.0), (30.0, 30.0), (30.1, None)],
    ids=["shorter_than_backoff", "longer_than_backoff", "longest_allowed", "too_long"],
)
async def test_retry_after_is_a_lower_bound(retry_after: float, waited: float | None) -> None:
    inner = Attempts(RateLimited("slow down", retry_after=retry_after), answering("hi"))
    ctx = context(attempts=5)
    if waited is None:
        with pytest.raises(RateLimited):
            await retry()(inner)(chat(), ctx)
        assert ctx.clock() == ctx.received
    else:
        await retry()(inner)(chat(), ctx)
        assert ctx.clock() - ctx.received == pytest.approx(waited)


@pytest.mark.parametrize(("deadline", "made"), [(6.9, 1), (7.1, 2), (None, 2)])
async def test_no_wait_begins_that_the_deadline_would_cut_short(deadline: float | None, made: int) -> None:
    inner = Attempts(RateLimited("slow down", retry_after=7.0))
    ctx = context(attempts=2, deadline=deadline)
    with pytest.raises(RateLimited):
        await retry()(inner)(chat(), ctx)
    assert inner.made == made


async def test_nothing_is_tried_again_after_the_first_content() -> None:
    upstream = Upstream([started(), opened(), delta("a")], Overloaded("busy"))
    service = retry()(upstream)
    with pytest.raises(Overloaded):
        async with await service(chat(), context(attempts=5)) as reply:
            await reply.response()
    assert upstream.opened == 1


async def test_failure_behind_the_start_but_before_content_is_invisible() -> None:
    broken = Upstream([started()], Overloaded("busy"))
    inner = Attempts(broken, answering("hi"))
    reply = await retry()(inner)(chat(), context(attempts=5))
    assert (await reply.response()).message.parts[0].text == "hi"
    assert broken.closed == 1


async def test_warnings_of_a_failed_attempt_are_not_told_twice() -> None:
    async def warn(request: Any, ctx: Any) -> Reply[Any]:
        ctx.warnings.append(v1.Warning(code="W"))
        if inner.made == 1:
            raise Overloaded("busy")
        return await answering("hi")(request, ctx)

    inner = Attempts(warn)
    ctx = context(attempts=5)
    ctx.warnings.append(v1.Warning(code="EARLIER"))
    await retry()(inner)(chat(), ctx)
    assert [warning.code for warning in ctx.warnings] == ["EARLIER", "W"]


async def test_cancelled_while_waiting() -> None:
    inner = Attempts(Overloaded("busy"))
    task = asyncio.ensure_future(retry()(inner)(chat(), context(attempts=5)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.made == 1


async def test_a_target_that_fails_every_call_is_asked_little_more_often_than_it_is_called() -> None:
    inner = Attempts(Overloaded("busy"))
    service = Retry(POLICY, asyncio.sleep, lambda: 0.0, RetryBudget(share=0.1, most=5))(inner)
    for _ in range(100):
        with pytest.raises(Overloaded):
            await service(chat(), context(attempts=5))
    assert 100 + 5 <= inner.made <= 100 + 5 + 0.1 * 100


async def test_calls_that_go_well_earn_retries_but_not_without_end() -> None:
    budget = RetryBudget(share=0.5, most=2)
    for _ in range(100):
        budget.called()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.called()
    assert not budget.take()
    budget.called()
    assert budget.take()


async def test_a_target_that_was_not_even_asked_uses_up_no_attempt() -> None:
    ctx = context(attempts=3)
    with pytest.raises(CircuitOpen):
        await retry()(Attempts(CircuitOpen("open", retry_after=1.0)))(chat(), ctx)
    assert ctx.budget.left == 3


EVERY_CLASS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)),
    key=lambda kind: kind.__name__,
)
TRIED_AGAIN = {
    "RateLimited": "rate_limited",
    "Unavailable": "unavailable",
    "Overloaded": "overloaded",
    "AttemptTimeout": "timeout",
    "StreamInterrupted": "interrupted",
    "ProtocolError": "protocol",
}
"""What is tried again by default, and the word that a policy has for it. All other classes never are."""


@pytest.mark.parametrize("kind", EVERY_CLASS, ids=lambda kind: kind.__name__)
def test_which_classes_of_errors_are_tried_again(kind: type[GatewayError]) -> None:
    word = TRIED_AGAIN.get(kind.__name__)
    assert RetryPolicy().retries(kind("x")) is (word is not None)
    assert RetryPolicy(classes=RetryPolicy().classes - {word or ""}).retries(kind("x")) is False
    assert RetryPolicy(classes=frozenset({word or ""})).retries(kind("x")) is (word is not None)
    refused = kind("x")
    refused.retryable = False  # by the provider's own word
    assert RetryPolicy().retries(refused) is False


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 408, 425, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("kind", EVERY_CLASS, ids=lambda kind: kind.__name__)
def test_which_statuses_are_tried_again(kind: type[GatewayError], status: int) -> None:
    error = kind("x", provider_error=v1.ProviderError(http_status=status))
    blames_the_request = kind is InvalidRequest and status in (408, 425)
    assert RetryPolicy().retries(error) is (kind.__name__ in TRIED_AGAIN or blames_the_request)
    assert RetryPolicy(classes=frozenset(), statuses=frozenset()).retries(error) is False
    busy = RetryPolicy(classes=frozenset(), statuses=frozenset({409}))
    assert busy.retries(error) is (kind is InvalidRequest and status == 409)


def test_a_provider_that_asks_for_a_retry_gets_it_but_not_for_keys_and_money() -> None:
    for kind, wanted in ((InvalidRequest, True), (CredentialsRejected, False), (QuotaExhausted, False)):
        error = kind("x")
        error.retryable = True
        assert RetryPolicy(classes=frozenset()).retries(error) is wanted
