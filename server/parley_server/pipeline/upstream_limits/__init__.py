"""Ask a provider no more in a minute than it allows; the rest waits its turn, so that nobody is told 429.

Inside the breaker, so that nobody queues for a target that is left alone; inside the bulkhead, so that who has room
goes at once; outside the meter, since waiting is no attempt. What a call will use is reserved before it is asked, all
requests that it takes at once, and settled when its answer is over. What the provider says is left (headers of its
answers) corrects what is counted here: so others who use the same key, and a gateway that has just started, are
accounted for.

Limits are those of one key, and each key is counted by itself: the layer chooses the usable key with the most room and
says so in `ctx.credential`, where it then finds which one was shown in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError, RateLimited, RequestTooLarge, Unavailable, Violation
from parley_server.core.instruments import Histogram
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.upstream_limits.room import Held, Keys, LimitsPolicy, Room, one_key
from parley_server.pipeline.upstream_limits.shared import SharedLimits, SharedRoom

__all__ = ["LimitsPolicy", "Room", "SharedLimits", "SharedRoom", "UpstreamLimits"]


def _one(_request: Any) -> int:
    """What most calls take."""
    return 1


class UpstreamLimits:
    """Reserves requests and their tokens; raises RateLimited, with nothing asked, where there is no room in time.

    `requests`: how many upstream requests a call takes. `waits`: counts the seconds for which calls waited that had to.
    """

    def __init__(
        self,
        target: Target,
        room: Room,
        keys: Keys = one_key,
        requests: Callable[[Any], int] = _one,
        waits: Histogram | None = None,
    ) -> None:
        self._waits = waits
        self._target = target
        self._room = room
        self._keys = keys
        self._requests = requests
        self._counts_tokens = room.quota().tokens is not None

    def __call__(self, inner: Service) -> Service:
        room = self._room

        async def limited(request: Any, ctx: Context) -> Reply[Any]:
            read = tokens = 0.0
            if self._counts_tokens:
                read = float(counting.estimated_input(request))
                tokens = read + counting.expected_output(request, room.policy.output)
            requests = self._requests(request)
            if requests > 1 and not room.takes(requests):
                raise self._too_many(requests)
            held = room.grab(tokens, self._keys, requests) or await self._waited(tokens, requests, ctx)
            ctx.answer_headers = {}
            ctx.credential = held.key
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                self._learn(held, ctx, tokens)
                self._failed(held, error, read)
                raise
            self._learn(held, ctx, tokens)

            def over(outcome: Outcome) -> None:
                if isinstance(outcome.error, RateLimited):
                    room.refused(held, outcome.error)
                room.settle(held, _used(outcome, read) if self._counts_tokens else 0.0)

            reply.on_over(over)
            return reply

        return limited

    async def _waited(self, tokens: float, requests: int, ctx: Context) -> Held:
        """What is reserved when it is this call's turn. Raises RateLimited if that would take too long."""
        room, remaining = self._room, ctx.remaining()
        patience = room.policy.max_wait if remaining is None else min(room.policy.max_wait, max(remaining, 0.0))
        begun = ctx.clock()
        try:
            held = await room.take(ctx.who, ctx.priority, tokens, patience, self._keys, requests)
        finally:
            if self._waits is not None:
                self._waits.record(ctx.clock() - begun)
        if held is None:
            raise self._full(tokens, requests)
        return held

    def _learn(self, held: Held, ctx: Context, tokens: float) -> None:
        """Which key it was, and what the provider says of it."""
        shown, ctx.credential = ctx.credential, None  # another target has other keys
        if shown is not None and shown != held.key:
            self._room.shown(held, shown, tokens)
        if ctx.answer_headers:
            self._room.told(held, ctx.answer_headers)

    def _failed(self, held: Held, error: BaseException, read: float) -> None:
        """The request counts, whatever became of it; its input counts where it may have been read."""
        match error:
            case GatewayError(attempted=False):
                self._room.refund(held)
            case RateLimited():
                self._room.refused(held, error)
                self._room.settle(held, 0.0)
            case GatewayError() if not isinstance(error, Unavailable):
                self._room.settle(held, 0.0)
            case _:
                self._room.settle(held, read)

    def _full(self, tokens: float, requests: int) -> RateLimited:
        wait = self._room.expected_wait(tokens, self._keys, requests)
        target = self._target
        error = RateLimited(
            f"{target} has been asked as much as its limits allow; there is room in about {wait:.1f} s",
            retry_after=wait,
            facts={"provider": target.provider, "model": target.model, "limitedBy": "gateway"},
        )
        error.attempted = False
        error.retryable = False  # it has waited as long as it may; a fallback need not
        return error

    def _too_many(self, requests: int) -> RequestTooLarge:
        """More requests than there ever is room for; one after the other they would take minutes."""
        what = f"takes {requests} requests to {self._target}, more than its limits allow in a minute"
        error = RequestTooLarge(
            f"the call {what}: send fewer inputs at a time",
            violations=[Violation("inputs", what, "TOO_MANY")],
            facts={"provider": self._target.provider, "model": self._target.model, "requests": str(requests)},
        )
        error.attempted = False
        return error


def _used(outcome: Outcome, read: float) -> float:
    """Tokens that an answer used, as far as it came."""
    usage = outcome.usage
    if usage is None or not counting.is_counted(usage):
        return read + counting.estimated_tokens(outcome.chars)
    since = 0 if outcome.final is not None else counting.estimated_tokens(outcome.chars)  # the final count has all
    return float(usage.input_tokens + usage.output_tokens + since)
