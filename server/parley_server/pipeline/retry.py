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


class Retry:
    """Full-jitter exponential backoff; a provider's Retry-After is a lower bound of the wait.

    Every attempt draws on `ctx.budget`. No wait begins that the deadline would cut short.
    `sleep`: asyncio.sleep; `random`: uniform in [0, 1).
    """

    def __init__(
        self, policy: RetryPolicy, sleep: Callable[[float], Awaitable[object]], random: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._sleep = sleep
        self._random = random

    def __call__(self, inner: Service) -> Service:
        async def retried(request: Any, ctx: Context) -> Reply[Any]:
            notes = len(ctx.warnings)
            attempt = 0
            while True:
                attempt += 1
                ctx.budget.take()
                try:
                    return await inner(request, ctx)
                except GatewayError as error:
                    wait = self._wait(error, attempt, ctx)
                    if wait is None:
                        raise
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
        return wait if remaining is None or wait < remaining else None
