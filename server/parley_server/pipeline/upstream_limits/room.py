"""Room for calls within the limits of a provider, and the fair queue of those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from parley_server.core.errors import RateLimited
from parley_server.core.fair import FairQueue
from parley_server.core.quota import Quota, Reservation
from parley_server.dialects.rate_limits import what_is_left
from parley_server.stores.counters import Grant

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
    grant: Grant | None = None
    """What is reserved where several gateways count together."""


@dataclass(slots=True, eq=False)
class Waiting:
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
        self._queue: FairQueue[Waiting] = FairQueue()
        self._next: Waiting | None = None  # whose turn it is as soon as there is room
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
        waiting = Waiting(asyncio.get_running_loop().create_future(), tokens, requests, keys)
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

    def _gone(self, waiting: Waiting) -> None:
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
