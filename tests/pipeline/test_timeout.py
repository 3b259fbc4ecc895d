"""Which clock ran out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import AttemptTimeout, DeadlineExceeded, StreamInterrupted
from parley_server.core.service import stack
from parley_server.core.target import Target
from parley_server.pipeline.deadline import Deadline
from parley_server.pipeline.timeout import Limits, Timeout
from tests.fakes import Upstream, chat, completed, context, delta, drain, opened, started

FIRST = [started(), opened(), delta("a")]
LIMITS = Limits(first_content=10, idle=5, total=30)


def asking(*, attempt: float | None = None, first: float | None = None) -> v1.ChatRequest:
    request = chat()
    if attempt is not None:
        request.routing.attempt_timeout.FromNanoseconds(int(attempt * 1e9))
    if first is not None:
        request.routing.first_output_timeout.FromNanoseconds(int(first * 1e9))
    return request


@pytest.mark.parametrize(
    ("script", "request_", "at", "error", "clock"),
    [
        ([[started()], 60.0, FIRST], asking(), 10, AttemptTimeout, "firstContent"),
        ([[started()], 60.0, FIRST], asking(first=2), 2, AttemptTimeout, "firstContent"),
        ([[started()], 60.0, FIRST], asking(first=90, attempt=40), 40, AttemptTimeout, "total"),
        ([[started()], 60.0, FIRST], asking(attempt=0.5), 0.5, AttemptTimeout, "total"),
        ([FIRST, 60.0, [completed()]], asking(), 5, StreamInterrupted, "idle"),
        ([FIRST, *([4.0, [delta("b")]] * 20)], asking(), 30, StreamInterrupted, "total"),
        ([FIRST, *([4.0, [delta("b")]] * 20)], asking(attempt=11), 11, StreamInterrupted, "total"),
        ([FIRST, 3.0, [delta("b")], 60.0], asking(attempt=7), 7, StreamInterrupted, "total"),
    ],
    ids=[
        "first_content",
        "first_content_as_the_caller_wants",
        "total_before_content",
        "total_as_the_caller_wants",
        "idle",
        "total_of_a_lively_stream",
        "total_of_a_lively_stream_as_the_caller_wants",
        "total_shorter_than_idle",
    ],
)
async def test_streams(
    script: list[Any], request_: v1.ChatRequest, at: float, error: type[Exception], clock: str
) -> None:
    upstream = Upstream(*script)
    ctx = context()
    with pytest.raises(error) as late:
        await drain(Timeout(LIMITS)(upstream), request_, ctx)
    assert type(late.value) is error
    assert ctx.clock() - ctx.received == pytest.approx(at, abs=0.01)
    assert late.value.facts["timeout"] == clock  # type: ignore[attr-defined]
    assert (upstream.closed, upstream.generators_closed) == (1, 1)


@pytest.mark.parametrize(
    ("request_", "at", "clock"),
    [(asking(), 30, "total"), (asking(attempt=3), 3, "total"), (asking(first=4), 4, "firstContent")],
    ids=["total", "total_as_the_caller_wants", "first_output_as_the_caller_wants"],
)
async def test_unary_answers_have_one_clock_unless_asked(request_: v1.ChatRequest, at: float, clock: str) -> None:
    ctx = context(streaming=False)
    with pytest.raises(AttemptTimeout) as late:
        await Timeout(LIMITS)(Upstream(60.0, FIRST, [completed()]))(request_, ctx)
    assert ctx.clock() - ctx.received == pytest.approx(at, abs=0.01)
    assert late.value.facts["timeout"] == clock


async def test_slow_but_lively_stream_is_left_alone() -> None:
    upstream = Upstream([started()], 9.0, FIRST, 4.0, [delta("b")], 4.0, [completed()])
    async with await Timeout(LIMITS)(upstream)(chat(), context()) as reply:
        assert (await reply.response()).message.parts[0].text == "ab"


@pytest.mark.parametrize("script", [[[started()], 60.0, FIRST], [FIRST, 60.0, [completed()]]], ids=["before", "after"])
async def test_who_was_too_slow_is_told(script: Any) -> None:
    service = stack(Timeout(LIMITS, Target("up", "m")), service=Upstream(*script))
    with pytest.raises((AttemptTimeout, StreamInterrupted)) as caught:
        await drain(service, chat(), context())
    said = caught.value.provider_error
    assert said is not None
    assert (said.provider, said.model) == ("up", "m")
    assert (caught.value.facts["provider"], caught.value.facts["model"]) == ("up", "m")


async def test_embedding_requests_have_the_same_wishes() -> None:
    request = v1.EmbedRequest()
    request.routing.attempt_timeout.seconds = 2
    ctx = context("embed", streaming=False)
    with pytest.raises(AttemptTimeout):
        await Timeout(LIMITS)(Upstream(60.0))(request, ctx)
    assert ctx.clock() - ctx.received == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("deadline", "error"), [(6.0, DeadlineExceeded), (10.0, DeadlineExceeded), (20.0, AttemptTimeout)]
)
async def test_deadline_comes_before_a_clock_that_rings_with_it(deadline: float, error: type[Exception]) -> None:
    upstream = Upstream([started()], 60.0, FIRST)
    service = stack(Deadline(600, 3600), Timeout(LIMITS), service=upstream)
    with pytest.raises(error):
        await service(chat(), context(deadline=deadline))
    assert upstream.closed == 1


async def test_infinite_limits_never_ring() -> None:
    limits = Limits(first_content=math.inf, idle=math.inf, total=math.inf)
    upstream = Upstream(200_000.0, FIRST, 200_000.0, [completed()])
    async with await Timeout(limits)(upstream)(chat(), context()) as reply:
        assert (await reply.response()).message.parts[0].text == "a"
