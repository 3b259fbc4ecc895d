"""Who is asked as well, who wins, and what is left of the loser."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.allowance import Allowance
from parley_server.core.context import Context, Operation
from parley_server.core.errors import CircuitOpen, GatewayError, InvalidRequest, Overloaded
from parley_server.core.reply import Batch, Reply
from parley_server.core.routes import Candidate
from parley_server.core.service import AnyRequest, Service
from parley_server.core.standing import Standing
from parley_server.core.target import Target
from parley_server.pipeline.deadline import Deadline
from parley_server.pipeline.hedge import Hedge, HedgePolicy
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.observe import Observe
from parley_server.pipeline.retry import Retry, RetryPolicy
from parley_server.pipeline.router import Router
from tests.fakes import Entered, chat, completed, context, delta, opened, run, said, started

POLICY = HedgePolicy(delay=1.0, whole_delay=1.0)
PRICE = v1.ModelPricing(input_nano_usd=1_000_000_000, output_nano_usd=2_000_000_000)
ILL = Overloaded("ill")


@dataclass
class Model:
    """A target that begins to answer after `after` seconds, or fails then; every time the same."""

    name: str
    after: float = 0.0
    error: Exception | None = None
    asked: int = 0
    open: int = 0
    closed_at: float = 0.0

    async def __call__(self, request: AnyRequest, ctx: Context, /) -> Reply[Any]:
        self.asked += 1
        self.open += 1
        ctx.warnings.append(v1.Warning(code="FROM", message=self.name))
        owner = AsyncExitStack()
        owner.callback(self._close)
        if ctx.streaming:
            return await Reply.primed(self._events(), owner)
        async with owner:
            await self._think()
            return Reply.of(said(self.name))

    async def _think(self) -> None:
        await asyncio.sleep(self.after)
        if self.error is not None:
            raise self.error

    async def _events(self) -> AsyncGenerator[Batch, None]:
        yield [started()]
        await self._think()
        yield [opened(), delta(self.name)]
        await asyncio.sleep(3)
        yield [completed(input_tokens=5, output_tokens=1)]

    def _close(self) -> None:
        self.open -= 1
        self.closed_at = asyncio.get_running_loop().time()


class Stage:
    """The per-call stack over some models, each with retries and a meter of its own."""

    def __init__(
        self, *models: Model, policy: HedgePolicy = POLICY, share: float = 0.0, most: float = 10.0, attempts: int = 4
    ) -> None:
        self.models = {model.name: model for model in models}
        self.settled = Entered()
        self.standings = {model.name: Standing(asyncio.get_running_loop().time) for model in models}
        router = Router(self._resolve, attempts, race=Hedge(policy, Allowance(share, most)))
        self._stacks = {model.name: self._stack(model) for model in models}
        self.service: Service = Deadline(60, 60)(router)
        self.begun = asyncio.get_running_loop().time()

    def _stack(self, model: Model) -> Service:
        meter = Meter(Target("p", model.name), PRICE, self.settled)
        observe = Observe(self.standings[model.name])
        return Retry(RetryPolicy(attempts=2, base=0.2), asyncio.sleep, lambda: 1.0)(observe(meter(model)))

    def _resolve(self, model: str, operation: Operation) -> Candidate:
        return Candidate(Target("p", model), self._stacks[model], self.standings[model])

    async def call(self, ctx: Context) -> str:
        """The text of the answer."""
        first, *others = self.models
        request = chat(first)
        for name in others:
            request.routing.fallbacks.add(model=name)
        async with await self.service(request, ctx) as reply:
            self.began = ctx.clock() - self.begun
            response: v1.ChatResponse = await reply.response()
            self.attempts = list(response.route.attempts)
        return response.message.parts[0].text

    def asked(self) -> list[int]:
        return [model.asked for model in self.models.values()]

    def closed(self) -> bool:
        return not any(model.open for model in self.models.values())


def reasons(attempts: list[v1.Attempt]) -> list[str]:
    found = []
    for attempt in attempts:
        info = ErrorInfo()
        for detail in attempt.status.details:
            detail.Unpack(info)
        found.append(f"{attempt.model} {info.reason or 'OK'}")
    return found


TABLE: dict[str, tuple[list[Model], str, float, list[str]]] = {
    "the_first_in_time": ([Model("a", 0.9), Model("b")], "a", 0.9, ["a OK"]),
    "the_second_overtakes": ([Model("a", 9), Model("b", 0.5)], "b", 1.5, ["a OUTRUN", "b OK"]),
    "the_first_wins_all_the_same": ([Model("a", 1.5), Model("b", 2)], "a", 1.5, ["b OUTRUN", "a OK"]),
    "both_at_once": ([Model("a", 1.5), Model("b", 0.5)], "a", 1.5, ["b OUTRUN", "a OK"]),
    "the_first_fails_while_the_second_runs": (
        [Model("a", 1.5, InvalidRequest("no")), Model("b", 2)],
        "b",
        3.0,
        ["a INVALID_REQUEST", "b OK"],
    ),
    "the_second_fails_while_the_first_runs": (
        [Model("a", 3), Model("b", 0.5, InvalidRequest("no"))],
        "a",
        3.0,
        ["b INVALID_REQUEST", "a OK"],
    ),
    "a_second_that_is_left_alone_is_nothing": ([Model("a", 3), Model("b", 0, CircuitOpen("ill"))], "a", 3.0, ["a OK"]),
    "a_retry_of_the_first_is_overtaken": (
        [Model("a", 0.85, ILL), Model("b", 0.1)],
        "b",
        1.1,
        ["a PROVIDER_OVERLOADED", "a OUTRUN", "b OK"],
    ),
    "a_fallback_after_both_have_failed": (
        [Model("a", 1.1, ILL), Model("b", 0.5, ILL), Model("c", 0.5)],
        "c",
        0.0,
        [],
    ),
    "a_failure_in_time_is_no_race": (
        [Model("a", 0.1, ILL), Model("b", 0.2)],
        "b",
        0.6,
        ["a PROVIDER_OVERLOADED", "a PROVIDER_OVERLOADED", "b OK"],
    ),
}


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("case", TABLE)
async def test_races(case: str, streaming: bool) -> None:
    models, answered, after, attempts = TABLE[case]
    stage = Stage(*(Model(model.name, model.after, model.error) for model in models))
    assert await stage.call(context(streaming=streaming)) == answered
    if attempts:
        assert stage.began == pytest.approx(after)
        entries = [entry for entry in reasons(stage.attempts) if "CIRCUIT" not in entry]
        assert entries == attempts
    assert stage.closed()
    assert [attempt.model for attempt in stage.settled] == [attempt.model for attempt in stage.attempts]


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_the_loser_is_closed_at_once_and_both_are_paid_for(streaming: bool) -> None:
    stage = Stage(Model("a", 50), Model("b", 0.5))
    ctx = context(streaming=streaming)
    await stage.call(ctx)
    assert stage.models["a"].closed_at - stage.begun == pytest.approx(1.5)
    loser, winner = stage.attempts
    assert loser.usage.source == v1.Usage.SOURCE_ESTIMATED
    assert loser.usage.input_tokens > 0
    assert loser.usage.cost.total_nano_usd > 0
    assert ctx.ledger.cost_nano_usd() == loser.usage.cost.total_nano_usd + winner.usage.cost.total_nano_usd
    assert loser.duration.ToMilliseconds() == 1500


@pytest.mark.parametrize(
    ("limits", "deadline", "max_attempts", "asked"),
    [
        ({"most": 0.0}, None, None, [1, 0]),
        ({"most": 1.0}, None, None, [1, 1]),
        ({}, 0.9, None, [1, 0]),
        ({}, None, 1, [1, 0]),
        ({}, None, 2, [1, 1]),
        ({"policy": HedgePolicy(delay=5.0, whole_delay=5.0)}, None, None, [1, 0]),
    ],
    ids=["no_budget", "budget", "deadline_before_the_delay", "attempt_budget", "attempt_budget_of_two", "patience"],
)
async def test_bounds(
    limits: dict[str, Any], deadline: float | None, max_attempts: int | None, asked: list[int]
) -> None:
    stage = Stage(Model("a", 4), Model("b", 50), **limits)
    ctx = context(deadline=deadline)
    request = chat("a")
    request.routing.fallbacks.add(model="b")
    if max_attempts is not None:
        request.routing.max_attempts = max_attempts
    try:
        async with await stage.service(request, ctx) as reply:
            assert (await reply.response()).message.parts[0].text == "a"
    except GatewayError:
        assert deadline is not None
    assert stage.asked() == asked
    assert stage.closed()


async def test_second_targets_are_a_share_of_the_calls() -> None:
    stage = Stage(Model("a", 2), Model("b", 50), share=0.05, most=3.0)
    for _ in range(100):
        await stage.call(context())
    assert stage.models["a"].asked == 100
    assert stage.models["b"].asked in (7, 8)  # three at any time, and one in twenty


@pytest.mark.parametrize(("usual", "asked"), [(0.5, [1, 1]), (3.0, [1, 0])], ids=["quick", "slow"])
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_patience_is_what_a_target_usually_takes(usual: float, asked: list[int], streaming: bool) -> None:
    """With a percentile a quick target is overtaken sooner than `delay` says, and a slow one later."""
    stage = Stage(Model("a", 2.0), Model("b", 0.1), policy=HedgePolicy(1.0, 1.0, percentile=95))
    for number in range(100):
        stage.standings["a"].answered(usual if number % 2 else usual / 2, streaming=streaming)
    await stage.call(context(streaming=streaming))
    assert stage.asked() == asked
    if asked == [1, 1]:
        assert stage.began == pytest.approx(0.6, abs=0.05)


async def test_before_enough_is_known_of_a_target_the_delay_holds() -> None:
    stage = Stage(Model("a", 2.0), Model("b", 0.1), policy=HedgePolicy(1.0, 1.0, percentile=95))
    for _ in range(19):
        stage.standings["a"].answered(0.1, streaming=True)
    await stage.call(context())
    assert stage.began == pytest.approx(1.1)


async def test_races_do_not_make_the_gateway_ever_less_patient() -> None:
    """One answer in twenty is slow, and is cut off by a race: its time is not known, but it still counts as slow."""
    chance = random.Random(4)
    slow = Model("a", 0.0)
    stage = Stage(slow, Model("b", 0.2), policy=HedgePolicy(1.0, 1.0, percentile=95), most=1e6)
    raced = 0
    for number in range(3000):
        slow.after = chance.lognormvariate(0, 0.5)
        await stage.call(context(streaming=False))
        if number == 1000:
            raced = stage.models["b"].asked
    assert (stage.models["b"].asked - raced) / 2000 == pytest.approx(0.05, abs=0.015)


async def test_notes_of_the_winner_are_told_and_those_of_the_loser_are_not() -> None:
    stage = Stage(Model("a", 9), Model("b", 0.5))
    ctx = context()
    ctx.warnings.append(v1.Warning(code="BEFORE"))
    await stage.call(ctx)
    assert [warning.message or warning.code for warning in ctx.warnings] == ["BEFORE", "b"]


async def test_a_bug_in_one_leg_ends_the_race_and_the_other_leg() -> None:
    stage = Stage(Model("a", 9), Model("b", 0.5, ValueError("bug")))
    with pytest.raises(ValueError, match="bug"):
        await stage.call(context())
    assert stage.closed()
    assert sorted(reasons(stage.settled)) == ["a CANCELLED", "b INTERNAL"]


async def test_both_legs_fail_and_the_error_is_that_of_the_last() -> None:
    stage = Stage(Model("a", 2, Overloaded("first")), Model("b", 9, InvalidRequest("last")), attempts=2)
    with pytest.raises(InvalidRequest, match="last"):
        await stage.call(context())


async def test_the_deadline_ends_both_legs() -> None:
    stage = Stage(Model("a", 50), Model("b", 50))
    with pytest.raises(GatewayError):
        await stage.call(context(deadline=5))
    assert asyncio.get_running_loop().time() - stage.begun == pytest.approx(5)
    assert stage.closed()
    assert sorted(reasons(stage.settled)) == ["a DEADLINE_EXCEEDED", "b DEADLINE_EXCEEDED"]


@given(
    times=st.lists(st.floats(0, 4), min_size=2, max_size=3),
    fails=st.lists(st.booleans(), min_size=3, max_size=3),
    cancels=st.lists(st.floats(0, 8), max_size=2),
    streaming=st.booleans(),
    attempts=st.integers(1, 5),
)
def test_nothing_is_left_and_everything_is_entered_once(
    times: list[float], fails: list[bool], cancels: list[float], streaming: bool, attempts: int
) -> None:
    async def main() -> None:
        models = [Model(f"m{n}", after, ILL if fails[n] else None) for n, after in enumerate(times)]
        stage = Stage(*models, attempts=attempts)
        ctx = context(streaming=streaming)
        task = asyncio.create_task(stage.call(ctx))
        for wait in cancels:
            await asyncio.sleep(wait)
            task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.01)  # who goes away twice does not wait until the legs have ended
        assert len(asyncio.all_tasks()) == 1
        assert stage.closed()
        assert len(stage.settled) == sum(stage.asked()) == len(ctx.ledger.attempts)
        assert len(stage.settled) <= max(attempts, len(models))
        if not task.cancelled() and task.exception() is None:
            assert [attempt.model for attempt in stage.attempts] == [attempt.model for attempt in stage.settled]

    run(main())
