"""When a target is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.core.errors import (
    AttemptTimeout,
    CircuitOpen,
    ContextLengthExceeded,
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.breaker import Breaker
from tests.fakes import Attempts, Upstream, answering, chat, context, delta, drain, opened, started

POLICY = CircuitPolicy(failures=2, cool=10.0)
TARGET = Target("openai", "m")


def guarded(*script: Any) -> tuple[Service, Circuit]:
    circuit = Circuit(POLICY, asyncio.get_running_loop().time)
    return Breaker(TARGET, circuit)(Attempts(*script)), circuit


@pytest.mark.parametrize(
    "error",
    [Unavailable("x"), Overloaded("x"), AttemptTimeout("x"), ProtocolError("x"), StreamInterrupted("x")],
    ids=lambda error: error.reason,
)
async def test_trouble_opens_it(error: GatewayError) -> None:
    service, _ = guarded(error, error, answering("never asked"))
    for _ in range(2):
        with pytest.raises(type(error)):
            await service(chat(), context())
    with pytest.raises(CircuitOpen) as caught:
        await service(chat(), context())
    assert caught.value.retry_after == pytest.approx(10.0)
    assert caught.value.facts == {"provider": "openai", "model": "m"}


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("x"), ContextLengthExceeded("x"), GatewayOverloaded("x"), ValueError("bug"), RateLimited("x")],
    ids=lambda error: type(error).__name__,
)
async def test_refusals_and_bugs_do_not(error: Exception) -> None:
    service, circuit = guarded(*[error] * 5)
    for _ in range(5):
        with pytest.raises(type(error)):
            await service(chat(), context())
    assert circuit.state() == "closed"


async def test_a_rate_limit_with_a_time_keeps_everybody_away_until_then() -> None:
    service, _ = guarded(RateLimited("slow down", retry_after=42.0), answering("hi"))
    with pytest.raises(RateLimited):
        await service(chat(), context())
    with pytest.raises(CircuitOpen) as caught:
        await service(chat(), context())
    assert caught.value.retry_after == pytest.approx(42.0)
    await asyncio.sleep(42)
    await drain(service, chat(), context())


async def test_answers_that_break_off_count_and_whole_ones_close_it() -> None:
    service, circuit = guarded(
        *[Upstream([started(), opened(), delta("Hel")], StreamInterrupted("x"))] * 2,
        answering("c"),
    )
    for _ in range(2):
        with pytest.raises(StreamInterrupted):
            await drain(service, chat(), context())
    assert circuit.state() == "open"
    await asyncio.sleep(10)
    await drain(service, chat(), context())
    assert circuit.state() == "closed"


async def test_callers_who_go_away_say_nothing_of_the_target() -> None:
    service, circuit = guarded(*[answering("hi")] * 5)
    for _ in range(5):
        async with await service(chat(), context()):
            pass  # closed unread
    assert circuit.state() == "closed"


async def test_what_was_not_asked_says_nothing_of_the_target_whatever_its_class() -> None:
    held_back = RateLimited("as much as its limits allow", retry_after=42.0)
    held_back.attempted = False
    service, circuit = guarded(*[held_back] * 5)
    for _ in range(5):
        with pytest.raises(RateLimited):
            await service(chat(), context())
    assert circuit.state() == "closed"
