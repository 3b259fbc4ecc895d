"""Ask a second target as well when the first one is slow to begin, and take whoever begins first.

Used by the router, which knows who could be asked. Around the retries of both targets and within the deadline, the
attempt budget and the ledger of the one call: a race may not do what the call may not do. The commit point makes it
one mechanism for whole answers and streams: until an answer has begun nobody has seen anything of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parley_server.core.allowance import Allowance
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.core.reply import Reply
from parley_server.core.routes import Leg
from parley_server.core.standing import Standing


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When a second target is asked. Times in seconds."""

    delay: float = 1.0
    """How long the first target may take to begin a streamed answer."""
    whole_delay: float = 10.0
    """How long it may take for a whole answer."""
    percentile: float | None = None
    """If set: as long as it takes so many of a hundred of its answers, once enough are known to tell; below 100."""
    enabled: bool = True

    def patience(self, first: Standing, *, streaming: bool) -> float:
        """Seconds that the target whose standing is `first` may take."""
        fixed = self.delay if streaming else self.whole_delay
        if self.percentile is None:
            return fixed
        usual = first.percentile(self.percentile, streaming=streaming)
        return fixed if usual is None else usual


Race = tuple[Reply[Any] | None, list[GatewayError]]
"""What came of a race: an answer or None, and in the order they failed the failures of those who were asked."""


class Hedge:
    """Races two legs.

    The loser is cancelled, its connection closed and its entry in the ledger made before the winner is handed on: so
    the winner's `route.attempts` and the cost of the call tell of both. `allowance`: how many second targets may be
    asked, for all calls together.
    """

    def __init__(self, policy: HedgePolicy, allowance: Allowance) -> None:
        self._policy = policy
        self._allowance = allowance

    @property
    def enabled(self) -> bool:
        """Whether there are races at all."""
        return self._policy.enabled

    async def __call__(self, legs: Sequence[Leg], ctx: Context, first: Standing) -> Race:
        """Ask the first leg, and the second one too if that takes long; legs behind these are not asked."""
        self._allowance.called()
        delay = self._policy.patience(first, streaming=ctx.streaming)
        remaining = ctx.remaining()
        if len(legs) < 2 or (remaining is not None and remaining <= delay):
            return await _alone(legs[0], ctx)
        notes = len(ctx.warnings)
        runners = [_Runner(legs[0], ctx)]
        try:
            await asyncio.wait((runners[0].task,), timeout=delay)
            if not runners[0].task.done() and ctx.budget.left > 0 and self._allowance.take():
                ctx.budget.reserved = max(0, ctx.budget.reserved - 1)  # kept for the one who is asked now
                runners.append(_Runner(legs[1], _apart(ctx, notes)))
            winner, failures = await _first(runners)
            losers = [runner for runner in runners if runner is not winner]
            for runner in losers:
                runner.ctx.outrun = winner is not None
            await _ended(losers)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(_ended(runners)))  # a caller may go away twice
            raise
        if winner is None:
            return None, failures
        if winner.ctx is not ctx:
            _adopt(ctx, winner.ctx)
        return winner.task.result(), failures


class _Runner:
    """A leg under way in a task of its own. The first one has the context of the call, the second one its own."""

    def __init__(self, leg: Leg, ctx: Context) -> None:
        self.ctx = ctx
        self.task = asyncio.ensure_future(leg(ctx))


def _apart(ctx: Context, notes: int) -> Context:
    """A context for the same call, and the same budget and ledger, in which another attempt can be made meanwhile."""
    return dataclasses.replace(
        ctx, warnings=ctx.warnings[:notes], outgoing={}, answer_headers={}, credential=None, hedges=True
    )


def _adopt(ctx: Context, other: Context) -> None:
    """From here on the call is what went on in `other`, into which the layers of its answer go on to write."""
    ctx.outrun = False
    ctx.warnings = other.warnings
    ctx.outgoing = other.outgoing
    ctx.answer_headers = other.answer_headers
    ctx.credential = other.credential


async def _alone(leg: Leg, ctx: Context) -> Race:
    try:
        return await leg(ctx), []
    except GatewayError as error:
        return None, [error]


async def _first(runners: list[_Runner]) -> tuple[_Runner | None, list[GatewayError]]:
    """The first that succeeds, and the failures until then. An error that is no GatewayError is raised at once."""
    running = list(runners)
    failures: list[GatewayError] = []
    while running:
        if len(running) > 1 or not running[0].task.done():
            await asyncio.wait([runner.task for runner in running], return_when=asyncio.FIRST_COMPLETED)
        for runner in [one for one in running if one.task.done()]:
            running.remove(runner)
            error = runner.task.exception()
            if error is None:
                return runner, failures
            if not isinstance(error, GatewayError):
                raise error
            failures.append(error)
    return None, failures


async def _ended(runners: list[_Runner]) -> None:
    """Stop them, wherever they are, and wait until they have closed what they opened."""
    for runner in runners:
        runner.task.cancel()
    for runner in runners:
        await asyncio.wait((runner.task,))
        if not runner.task.cancelled() and runner.task.exception() is None:
            await runner.task.result().aclose()
