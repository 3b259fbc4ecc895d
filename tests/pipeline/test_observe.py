"""What attempts tell the standing of their target."""

from __future__ import annotations

import asyncio

import pytest

from parley_server.core.errors import InvalidRequest, Overloaded, RateLimited, StreamInterrupted
from parley_server.core.standing import Standing
from parley_server.dialects.rate_limits import rate_limits
from parley_server.pipeline.observe import Observe
from tests.fakes import Attempts, Upstream, answering, chat, completed, context, delta, drain, opened, started


def standing() -> Standing:
    return Standing(asyncio.get_running_loop().time, rate_limits)


async def test_time_to_content_and_calls_under_way() -> None:
    known = standing()
    upstream = Upstream([started()], 2.0, [opened(), delta("hi")], 5.0, [completed()])
    async with await Observe(known)(upstream)(chat(), context()) as reply:
        assert known.in_flight == 1
        assert known.latency(streaming=True) == 2.0
        async for _ in reply:
            pass
    assert known.in_flight == 0
    assert known.failure_rate() == 0.0


@pytest.mark.parametrize(
    ("error", "rate", "is_known"),
    [(Overloaded("x"), 1.0, True), (RateLimited("x"), 1.0, True), (InvalidRequest("x"), 0.0, False)],
)
async def test_failures(error: Exception, rate: float, is_known: bool) -> None:
    known = standing()
    with pytest.raises(type(error)):
        await Observe(known)(Attempts(error))(chat(), context())
    assert (known.in_flight, known.failure_rate(), known.is_known()) == (0, rate, is_known)


async def test_an_answer_that_breaks_off_is_a_failure() -> None:
    known = standing()
    upstream = Upstream([started(), opened(), delta("hi")], StreamInterrupted("cut"))
    with pytest.raises(StreamInterrupted):
        await drain(Observe(known)(upstream), chat(), context())
    assert (known.in_flight, known.failure_rate()) == (0, 0.5)


async def test_a_caller_who_leaves_is_none_but_shows_that_it_is_slow() -> None:
    known = standing()
    call = asyncio.ensure_future(Observe(known)(Upstream(60.0, [completed()]))(chat(), context()))
    await asyncio.sleep(7)
    call.cancel()
    await asyncio.wait((call,))
    assert (known.in_flight, known.failure_rate(), known.latency(streaming=True)) == (0, 0.0, 7.0)


async def test_headers_of_another_target_are_not_taken_for_its_own() -> None:
    known = standing()
    ctx = context()
    ctx.answer_headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "0"}
    await Observe(known)(answering("hi"))(chat(), ctx)
    assert known.quota() is None


@pytest.mark.parametrize("fails", [False, True])
async def test_limits_are_kept_from_answers_and_refusals(fails: bool) -> None:
    known = standing()

    async def service(request: object, ctx: object) -> object:
        ctx.answer_headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "3"}  # type: ignore[attr-defined]
        if fails:
            raise RateLimited("slow down")
        return await answering("hi")(request, ctx)

    call = Observe(known)(service)(chat(), context())  # type: ignore[arg-type]
    await asyncio.gather(call, return_exceptions=True)
    assert known.quota() == pytest.approx(0.3)
