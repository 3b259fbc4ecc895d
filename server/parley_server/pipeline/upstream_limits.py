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

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError, RateLimited, RequestTooLarge, Unavailable, Violation
from parley_server.core.fair import FairQueue
from parley_server.core.quota import Quota, Reservation
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.dialects.rate_limits import what_is_left

_AT_LEAST = 0.001  # seconds until the queue is looked at again; timers that ring early must not make it spin
_AT_MOST = 5.0  # and until then at most: keys come back, of which nobody tells the queue
_COOL_FOR = 1.0  # seconds without calls after a 429 that names no time


@dataclass(frozen=True, slots=True)
class LimitsPolicy:
    """Who may wait for room."""

    max_wait: float = 30.0
    """Seconds that a call waits at most; one that would have to wait longer is refused at once."""
    queue: int = 1000
    """Calls that may wait; 0: nobody waits."""
    output: int = 500
    """Tokens of output that are reserved for a call that does not say how many it wants at most."""


Keys = Callable[[], Sequence[int]]
"""The keys that may be used now, by number. Asked again for every call: they come and go."""


def one_key() -> Sequence[int]:
    """Where there is nothing to choose."""
    return (0,)


@dataclass(slots=True, eq=False)
class Held:
    """What a call has reserved, and of which key."""

    key: int
    requests: int
    reservation: Reservation | None
    """None where no key could be used: whoever shows them will say why."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call in the queue."""

    turn: asyncio.Future[Held]
    tokens: float
    requests: int
    keys: Keys


class Room:
    """The limits of one provider, or of one of its models, and the queue for them. `quota` makes those of a key."""

    def __init__(self, quota: Callable[[], Quota], policy: LimitsPolicy) -> None:
        self.policy = policy
        self._new = quota
        self._quotas: dict[int, Quota] = {}
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._next: _Waiting | None = None  # whose turn it is as soon as there is room
        self._waiting = 0
        self._waiting_requests = 0
        self._waiting_tokens = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._waiting

    def quota(self, key: int = 0) -> Quota:
        """What is left of a key's limits."""
        quota = self._quotas.get(key)
        if quota is None:
            quota = self._quotas[key] = self._new()
        return quota

    def takes(self, requests: int) -> bool:
        """Whether a call that takes so many requests at once can ever have its turn."""
        return self.quota().takes(requests)

    def expected_wait(self, tokens: float, keys: Keys = one_key, requests: int = 1) -> float:
        """Seconds that a call of so many tokens and requests would wait that comes now, as far as can be told."""
        usable = keys()
        if not usable:
            return 0.0
        before, tokens_before = self._waiting_requests / len(usable), self._waiting_tokens / len(usable)
        quotas = [self.quota(key) for key in usable]
        return min(quota.wait(before + requests, tokens_before + quota.fits(tokens)) for quota in quotas)

    def grab(self, tokens: float, keys: Keys = one_key, requests: int = 1) -> Held | None:
        """Reserve, if nobody waits and there is room now. Of requests no more than it `takes`."""
        return None if self._waiting else self._reserved(tokens, requests, keys)[0]

    async def take(
        self,
        caller: Callable[[], str],
        priority: int,
        tokens: float,
        patience: float,
        keys: Keys = one_key,
        requests: int = 1,
    ) -> Held | None:
        """Reserve, now or when it is this call's turn. None if that would take longer than `patience` seconds.

        Of requests no more than it `takes`.
        """
        if (held := self.grab(tokens, keys, requests)) is not None:
            return held
        tokens = self.quota().fits(tokens)
        if self._waiting >= self.policy.queue or self.expected_wait(tokens, keys, requests) > patience:
            return None
        waiting = _Waiting(asyncio.get_running_loop().create_future(), tokens, requests, keys)
        number = self._queue.add(waiting, caller(), priority)
        self._waiting += 1
        self._waiting_requests += requests
        self._waiting_tokens += tokens
        self._serve()
        try:
            async with asyncio.timeout(patience):
                return await waiting.turn
        except BaseException as error:
            if waiting.turn.done() and not waiting.turn.cancelled():  # it came just as the caller left
                self.refund(waiting.turn.result())
            else:
                waiting.turn.cancel()
                self._queue.withdraw(number)
                self._gone(waiting)
                if self._next is waiting:
                    self._next = None
            self._serve()
            if isinstance(error, TimeoutError):
                return None
            raise

    def shown(self, held: Held, key: int, tokens: float) -> None:
        """The call was made with another key than the one that was reserved."""
        if held.reservation is not None:
            self.quota(held.key).refund(held.reservation)
        quota = self.quota(key)
        held.key, held.reservation = key, quota.reserve(quota.fits(tokens), held.requests)

    def settle(self, held: Held, tokens: float) -> None:
        """The call used so many tokens."""
        if held.reservation is not None:
            self.quota(held.key).settle(held.reservation, tokens)
        if self._waiting:
            self._serve()

    def refund(self, held: Held) -> None:
        """The provider was not asked after all."""
        if held.reservation is not None:
            self.quota(held.key).refund(held.reservation)
        self._serve()

    def told(self, held: Held, headers: Mapping[str, str]) -> None:
        """Learn what the provider says is left of a key's limits."""
        quota = self.quota(held.key)
        for limit in what_is_left(headers):
            counter = quota.counter(limit.resource) if limit.window in ("", "minute") else None
            if counter is not None and counter.is_news(limit.remaining):
                counter.told(limit.remaining, limit.reset())

    def refused(self, held: Held, error: RateLimited) -> None:
        """The provider's count differs from ours: nobody uses the key until its time is over."""
        self.quota(held.key).close(error.retry_after or _COOL_FOR)

    def _reserved(self, tokens: float, requests: int, keys: Keys) -> tuple[Held | None, float]:
        """The usable key with the most room, if any has enough, or else the seconds until one has."""
        usable = keys()
        if not usable:
            return Held(0, requests, None), 0.0
        if len(usable) == 1:
            best = usable[0]
        else:
            quotas = [(key, self.quota(key)) for key in usable]
            _, _, best = min((quota.wait(requests, quota.fits(tokens)), -quota.share(), key) for key, quota in quotas)
        quota = self.quota(best)
        tokens = quota.fits(tokens)
        reservation = quota.take(tokens, requests)
        if reservation is None:
            return None, quota.wait(requests, tokens)
        return Held(best, requests, reservation), 0.0

    def _gone(self, waiting: _Waiting) -> None:
        self._waiting -= 1
        self._waiting_requests -= waiting.requests
        self._waiting_tokens -= waiting.tokens

    def _serve(self) -> None:
        """Let in who has room, in order; come back when there is room for the next one."""
        while self._waiting:
            if self._next is None:
                self._next = self._queue.take()
            waiting = self._next
            if waiting is None:
                return
            if not waiting.turn.done():
                held, wait = self._reserved(waiting.tokens, waiting.requests, waiting.keys)
                if held is None:
                    self._come_back(wait)
                    return
                waiting.turn.set_result(held)
                self._gone(waiting)
            self._next = None

    def _come_back(self, wait: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + min(max(wait, _AT_LEAST), _AT_MOST)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._serve()


def _one(_request: Any) -> int:
    """What most calls take."""
    return 1


class UpstreamLimits:
    """Reserves requests and their tokens; raises RateLimited, with nothing asked, where there is no room in time.

    `requests`: how many upstream requests a call takes.
    """

    def __init__(self, target: Target, room: Room, keys: Keys = one_key, requests: Callable[[Any], int] = _one) -> None:
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
        held = await room.take(ctx.who, ctx.priority, tokens, patience, self._keys, requests)
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
