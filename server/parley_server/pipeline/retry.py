"""Try the same target again while its answer has not begun.

The outermost layer around a target: each try passes the meter and the trace afresh, and gets clocks of its own. Inside
the router, which goes on to the next target with whatever this layer gives up on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.core.reply import Reply
from parley_server.core.service import Service


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how patiently. Times in seconds."""

    attempts: int = 3
    """Most attempts at one target, the first included."""
    base: float = 0.25
    """Longest wait before the second attempt; doubles from attempt to attempt."""
    cap: float = 8.0
    """Where the doubling ends."""
    max_retry_after: float = 30.0
    """A provider that wants a longer wait than this is given up at once."""


class RetryBudget:
    """Retries that all calls of a target share: some at any time, then a share of its calls.

    A target that fails every call is thus asked little more often than it is called, where retries alone would multiply
    the load just when it can bear it least.
    """

    def __init__(self, share: float = 0.2, most: float = 20.0) -> None:
        self._share = share
        self._most = most
        self._left = most

    def called(self) -> None:
        """A first attempt was made."""
        self._left = min(self._left + self._share, self._most)

    def take(self) -> bool:
        """Use one retry; False if there is none left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Retry:
    """Full-jitter exponential backoff; a provider's Retry-After is a lower bound of the wait.

    Every attempt draws on `ctx.budget`, and every retry on the `budget` of the target. No wait begins that the deadline
    would cut short. `sleep`: asyncio.sleep; `random`: uniform in [0, 1).
    """

    def __init__(
        self,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[object]],
        random: Callable[[], float],
        budget: RetryBudget | None = None,
    ) -> None:
        self._policy = policy
        self._sleep = sleep
        self._random = random
        self._budget = budget or RetryBudget()

    def __call__(self, inner: Service) -> Service:
        async def retried(request: Any, ctx: Context) -> Reply[Any]:
            notes = len(ctx.warnings)
            attempt = 0
            before: GatewayError | None = None
            self._budget.called()
            while True:
                attempt += 1
                ctx.budget.take()
                try:
                    return await inner(request, ctx)
                except GatewayError as error:
                    if not error.attempted:
                        ctx.budget.give_back()
                        if before is not None:  # what was said when it was asked tells more than that it is not
                            raise before from None
                    wait = self._wait(error, attempt, ctx)
                    if wait is None:
                        raise
                    before = error
                del ctx.warnings[notes:]  # those of the attempt that failed
                await self._sleep(wait)

        return retried

    def _wait(self, error: GatewayError, attempt: int, ctx: Context) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        policy = self._policy
        if not error.retryable or attempt >= policy.attempts or not ctx.budget.allows_retry():
            return None
        wait = self._random() * min(policy.cap, policy.base * 2 ** (attempt - 1))
        if error.retry_after is not None:
            if error.retry_after > policy.max_retry_after:
                return None
            wait = max(wait, error.retry_after)
        remaining = ctx.remaining()
        if remaining is not None and wait >= remaining:
            return None
        return wait if self._budget.take() else None
