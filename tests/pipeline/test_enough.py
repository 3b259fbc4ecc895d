"""No attempt is begun that has no time to end, and no wait that would leave none."""

from __future__ import annotations

import asyncio

import pytest

from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.core.errors import DeadlineExceeded, Overloaded
from parley_server.core.service import stack
from parley_server.core.target import Target
from parley_server.pipeline.breaker import Breaker
from parley_server.pipeline.bulkhead import Bulkhead, BulkheadPolicy, Places
from parley_server.pipeline.enough import Enough
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.retry import Retry, RetryPolicy
from tests.fakes import Attempts, Upstream, answering, chat, completed, context, delta, opened, started

TARGET = Target("openai", "m")
ANSWER = [started(), opened(), delta("hi"), completed()]


@pytest.mark.parametrize(("left", "asked"), [(None, 1), (1.0, 1), (0.051, 1), (0.049, 0), (0.0, 0), (-1.0, 0)])
async def test_so_much_must_be_left(left: float | None, asked: int) -> None:
    inner = Attempts(answering("hi"))
    service = Enough(0.05)(inner)
    if asked:
        await service(chat(), context(deadline=left))
    else:
        with pytest.raises(DeadlineExceeded) as caught:
            await service(chat(), context(deadline=left))
        assert caught.value.facts["cannotBeMet"] == "least"
        assert not caught.value.attempted
    assert inner.made == asked


async def test_a_refusal_costs_no_attempt_and_says_nothing_of_the_target() -> None:
    clock = asyncio.get_running_loop().time
    inner = Attempts(answering("hi"))
    circuit = Circuit(CircuitPolicy(failures=1, cool=1), clock)
    circuit.failed(circuit.admit() or 0)
    await asyncio.sleep(2)
    service = stack(
        Retry(RetryPolicy(), asyncio.sleep, lambda: 1.0),
        Breaker(TARGET, circuit),
        Enough(0.05),
        Meter(TARGET, None),
        service=inner,
    )
    ctx = context(deadline=0.01, attempts=3)
    with pytest.raises(DeadlineExceeded):
        await service(chat(), ctx)
    assert (inner.made, ctx.budget.left, ctx.ledger.attempts) == (0, 3, [])
    assert circuit.state() == "half-open"


async def test_a_refusal_for_the_queue_does_not_close_a_circuit_either() -> None:
    clock = asyncio.get_running_loop().time
    places = Places(BulkheadPolicy(concurrency=1), clock)
    circuit = Circuit(CircuitPolicy(failures=1, cool=1), clock)
    bulkhead = Bulkhead(TARGET, places, clock)
    async with await bulkhead(Upstream(10.0, ANSWER))(chat(), context()) as reply:
        await reply.response()
    circuit.failed(circuit.admit() or 0)
    await asyncio.sleep(2)
    busy = asyncio.create_task(bulkhead(Upstream(10.0, ANSWER))(chat(), context()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded) as caught:
        await Breaker(TARGET, circuit)(bulkhead(Attempts(answering("hi"))))(chat(), context(deadline=1))
    assert caught.value.facts["cannotBeMet"] == "queue"
    assert circuit.state() == "half-open"
    await (await busy).aclose()


@pytest.mark.parametrize(("deadline", "made"), [(1.04, 1), (1.06, 2)])
async def test_no_backoff_that_would_leave_too_little(deadline: float, made: int) -> None:
    inner = Attempts(Overloaded("busy"), answering("hi"))
    policy = RetryPolicy(attempts=3, base=1.0, least=0.05)
    service = Retry(policy, asyncio.sleep, lambda: 1.0)(inner)
    ctx = context(deadline=deadline, attempts=3)
    if made == 1:
        with pytest.raises(Overloaded):
            await service(chat(), ctx)
    else:
        await service(chat(), ctx)
    assert inner.made == made


async def test_what_the_target_said_before_tells_more_than_that_time_is_up() -> None:
    async def slow_then_busy(*_: object) -> None:
        await asyncio.sleep(0.5)
        raise Overloaded("busy")

    inner = Attempts(slow_then_busy)  # type: ignore[arg-type]
    service = Retry(RetryPolicy(attempts=3, base=0.2), asyncio.sleep, lambda: 1.0)(Enough(0.5)(inner))
    with pytest.raises(Overloaded):
        await service(chat(), context(deadline=1.0, attempts=3))
    assert inner.made == 1
