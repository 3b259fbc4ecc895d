"""One bound over everything."""

from __future__ import annotations

import asyncio

import pytest

from parley_server.core.errors import DeadlineExceeded, Overloaded
from parley_server.pipeline.deadline import Deadline
from tests.fakes import Attempts, Upstream, answering, chat, completed, context, delta, drain, opened, started

FIRST = [started(), opened(), delta("a")]


@pytest.mark.parametrize(
    ("callers", "seconds"),
    [(None, 600), (5, 5), (599, 599), (100_000, 3600)],
    ids=["none_given", "short", "long", "beyond_the_maximum"],
)
async def test_deadline_of_the_call(callers: float | None, seconds: float) -> None:
    ctx = context(deadline=callers)
    await Deadline(600, 3600)(answering("hi"))(chat(), ctx)
    assert ctx.remaining() == pytest.approx(seconds)


async def test_default_above_the_maximum_is_capped() -> None:
    ctx = context()
    await Deadline(600, 60)(answering("hi"))(chat(), ctx)
    assert ctx.remaining() == pytest.approx(60)


@pytest.mark.parametrize("late", [0.0, -3.0])
async def test_over_before_it_began(late: float) -> None:
    inner = Attempts(answering("never"))
    with pytest.raises(DeadlineExceeded):
        await Deadline(600, 3600)(inner)(chat(), context(deadline=late))
    assert inner.made == 0


async def test_over_while_waiting_for_the_answer_to_begin() -> None:
    upstream = Upstream([started()], 30.0, FIRST)
    ctx = context(deadline=10)
    with pytest.raises(DeadlineExceeded):
        await Deadline(600, 3600)(upstream)(chat(), ctx)
    assert ctx.clock() - ctx.received == pytest.approx(10, abs=0.01)
    assert (upstream.closed, upstream.generators_closed) == (1, 1)


async def test_over_while_the_answer_arrives() -> None:
    upstream = Upstream(FIRST, 6.0, [delta("b")], 6.0, [completed()])
    ctx = context(deadline=10)
    with pytest.raises(DeadlineExceeded) as over:
        await drain(Deadline(600, 3600)(upstream), chat(), ctx)
    assert ctx.clock() - ctx.received == pytest.approx(10, abs=0.01)
    assert (upstream.closed, upstream.generators_closed) == (1, 1)
    assert over.value.facts == {"seconds": "10.000"}


async def test_over_while_the_reader_was_busy() -> None:
    upstream = Upstream(FIRST, [delta("b")], [completed()])
    with pytest.raises(DeadlineExceeded):
        await drain(Deadline(600, 3600)(upstream), chat(), context(deadline=10), pause=20)
    assert upstream.closed == 1


async def test_errors_of_the_answer_stay_what_they_are() -> None:
    with pytest.raises(Overloaded):
        await Deadline(600, 3600)(Attempts(Overloaded("busy")))(chat(), context())


async def test_cancelled_caller_is_not_told_of_a_deadline() -> None:
    upstream = Upstream([started()], 30.0, FIRST)
    task = asyncio.ensure_future(Deadline(600, 3600)(upstream)(chat(), context(deadline=10)))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.closed == 1


async def test_answer_in_time_leaves_no_timer_behind() -> None:
    async with await Deadline(600, 3600)(Upstream(FIRST, 1.0, [completed()]))(chat(), context()) as reply:
        await reply.response()
    loop = asyncio.get_running_loop()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]


async def test_deadline_that_the_caller_enforces_is_left_to_the_caller() -> None:
    upstream = Upstream(FIRST, 60.0, [completed()])
    ctx = context(deadline=10)
    ctx.cancelled_when_due = True
    async with await Deadline(600, 3600)(upstream)(chat(), ctx) as reply:
        assert (await reply.response()).message.parts[0].text == "a"
    assert ctx.clock() - ctx.received == pytest.approx(60)


@pytest.mark.parametrize("callers", [None, 7200.0])
async def test_deadline_of_ours_is_enforced_whatever_the_caller_does(callers: float | None) -> None:
    ctx = context(deadline=callers)
    ctx.cancelled_when_due = True
    with pytest.raises(DeadlineExceeded):
        await Deadline(600, 3600)(Upstream(7000.0, FIRST))(chat(), ctx)
    assert not ctx.cancelled_when_due
