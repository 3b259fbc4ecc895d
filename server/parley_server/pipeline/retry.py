"""Try the same target again while its answer has not begun.

The outermost layer around a target: each try passes the meter and the trace afresh, and gets clocks of its own. Inside
the router, which goes on to the next target with whatever this layer gives up on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from parley_server.core.allowance import Allowance
from parley_server.core.context import Context
from parley_server.core.errors import (
    AttemptTimeout,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Reply
from parley_server.core.service import Service

CLASSES: dict[type[GatewayError], str] = {
    RateLimited: "rate_limited",
    Overloaded: "overloaded",
    AttemptTimeout: "timeout",
    StreamInterrupted: "interrupted",
    Unavailable: "unavailable",
    ProtocolError: "protocol",
}
"""What a policy can be told to try again, by the class of the error or the next one above it. What is not here never
passes by itself: requests that are wrong (400, 404, 422), keys that are refused (401, 403), accounts without money."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is tried again, how often, and how patiently. Times in seconds."""

    attempts: int = 3
    """Most attempts at one target, the first included."""
    base: float = 0.25
    """Longest wait before the second attempt; doubles from attempt to attempt."""
    cap: float = 8.0
    """Where the doubling ends."""
    max_retry_after: float = 30.0
    """A provider that wants a longer wait than this is given up at once."""
    least: float = 0.0
    """What must be left of the deadline behind a wait, for an attempt to be worth it."""
    classes: frozenset[str] = frozenset(CLASSES.values())
    """Of those above, which ones are tried again."""
    statuses: frozenset[int] = frozenset({408, 425})
    """HTTP statuses that are tried again although they blame the request: come later, or say it once more."""

    def retries(self, error: GatewayError) -> bool:
        """Whether `error` may have passed by the next attempt.

        `error.retryable` is the word of the provider itself where it sends one (`x-should-retry`), or of the layer that
        raised it, and without it there is no retry. A provider that asks for one gets it, unless it is about a key that
        is refused or has no money.
        """
        word = next((CLASSES[kind] for kind in type(error).__mro__ if kind in CLASSES), None)
        if word is not None:
            return error.retryable and word in self.classes
        if error.retryable:
            return not isinstance(error, CredentialsRejected | QuotaExhausted)
        said = error.provider_error
        return type(error) is InvalidRequest and said is not None and said.http_status in self.statuses


class RetryBudget(Allowance):
    """Retries that all calls of a target share: some at any time, then a share of its calls.

    A target that fails every call is thus asked little more often than it is called, where retries alone would multiply
    the load just when it can bear it least.
    """

    def __init__(self, share: float = 0.2, most: float = 20.0) -> None:
        super().__init__(share, most)


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
                if not ctx.budget.take() and before is not None:  # a rival in a race has used it up meanwhile
                    raise before
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
        if attempt >= policy.attempts or not policy.retries(error) or not ctx.budget.allows_retry():
            return None
        wait = self._random() * min(policy.cap, policy.base * 2 ** (attempt - 1))
        if error.retry_after is not None:
            if error.retry_after > policy.max_retry_after:
                return None
            wait = max(wait, error.retry_after)
        remaining = ctx.remaining()
        if remaining is not None and wait + policy.least >= remaining:
            return None
        return wait if self._budget.take() else None
