"""Ask a target only so much at a time; the rest waits its turn.

Inside the breaker, so that nobody queues for a target that is left alone; outside the meter, since waiting is no
attempt. A place is held until the answer is over, not until it has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import DeadlineExceeded, GatewayOverloaded
from parley_server.core.fair import FairQueue
from parley_server.core.instruments import Histogram
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.core.target import Target

_MEMORY = 0.2  # weight of the newest answer in the average of how long one takes


@dataclass(frozen=True, slots=True)
class BulkheadPolicy:
    """How much at a time."""

    concurrency: int
    """Answers under way; 1 or more."""
    queue: int = 1000
    """Calls that may wait; 0: nobody waits."""
    max_wait: float = 60.0
    """Seconds that one waits at most, also without a deadline."""


class Places:
    """The places of one target and the queue for them."""

    def __init__(self, policy: BulkheadPolicy, clock: Callable[[], float]) -> None:
        self.policy = policy
        self._clock = clock
        self._taken = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._takes: float | None = None  # seconds that an answer takes, on average

    @property
    def taken(self) -> int:
        """Answers under way."""
        return self._taken

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return len(self._queue)

    def expected_wait(self) -> float:
        """Seconds that somebody who comes now will wait, as far as can be told."""
        if self._taken < self.policy.concurrency or self._takes is None:
            return 0.0
        return self._takes * (len(self._queue) + 1) / self.policy.concurrency

    def grab(self) -> bool:
        """A place, if one is free and nobody waits."""
        if self._taken < self.policy.concurrency and not len(self._queue):
            self._taken += 1
            return True
        return False

    async def take(self, caller: Callable[[], str], priority: int) -> bool:
        """A place, now or when it is this caller's turn. False if there was none in time, or no room to wait."""
        if self.grab():
            return True
        if len(self._queue) >= self.policy.queue:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number = self._queue.add(turn, caller(), priority)
        try:
            async with asyncio.timeout(self.policy.max_wait):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came just as the caller left
                self._pass_on()
            else:
                turn.cancel()
                self._queue.withdraw(number)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def give_back(self, held: float) -> None:
        """A place is free; its answer took `held` seconds."""
        self._takes = held if self._takes is None else self._takes + _MEMORY * (held - self._takes)
        self._pass_on()

    def _pass_on(self) -> None:
        while (turn := self._queue.take()) is not None:
            if not turn.done():
                turn.set_result(None)  # the place goes from hand to hand
                return
        self._taken -= 1


class Bulkhead:
    """Waits for a place. A call whose deadline comes before its turn is refused at once, not when time is up.

    `waits`: counts the seconds for which calls waited that had to.
    """

    def __init__(
        self, target: Target, places: Places, clock: Callable[[], float], waits: Histogram | None = None
    ) -> None:
        self._waits = waits
        self._target = target
        self._places = places
        self._clock = clock

    def __call__(self, inner: Service) -> Service:
        places, clock = self._places, self._clock

        async def held(request: Any, ctx: Context) -> Reply[Any]:
            if not places.grab():
                self._refuse_late(ctx)
                await self._wait(ctx)
            begun = clock()
            try:
                reply = await inner(request, ctx)
            except BaseException:
                places.give_back(clock() - begun)
                raise
            reply.on_over(lambda _: places.give_back(clock() - begun))
            return reply

        return held

    async def _wait(self, ctx: Context) -> None:
        begun = self._clock()
        try:
            if not await self._places.take(ctx.who, ctx.priority):
                raise self._full()
        finally:
            if self._waits is not None:
                self._waits.record(self._clock() - begun)

    def _refuse_late(self, ctx: Context) -> None:
        remaining, wait = ctx.remaining(), self._places.expected_wait()
        if remaining is not None and wait > remaining:
            error = DeadlineExceeded(
                f"{self._target} has a queue of about {wait:.1f} s, and {max(remaining, 0):.1f} s are left",
                facts={"cannotBeMet": "queue", "wait": f"{wait:.3f}", "remaining": f"{max(remaining, 0):.3f}"},
            )
            error.attempted = False
            raise error

    def _full(self) -> GatewayOverloaded:
        policy = self._places.policy
        return GatewayOverloaded(
            f"{self._target} is asked {policy.concurrency} times at once and {self._places.queued} calls wait for it",
            retry_after=max(self._places.expected_wait(), 1.0),
            facts={"provider": self._target.provider, "model": self._target.model},
        )
