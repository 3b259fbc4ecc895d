"""How much of a provider's rate limit is left, as far as can be known here. Asked by `pipeline/upstream_limits`.

Two ways to count. The window is the careful one: never more than the limit within any minute, so neither a provider
that counts by the calendar's minutes nor one that refills a bucket is ever overrun. The bucket lets twice the limit
through in its first minute and is for providers that are known to count so.

What a request will use is reserved before it is asked, and settled once it is known. What several gateways count
together is counted by `core/limits.py`, in whole numbers; here providers have a say, and a queue asks how long it would
take to use many times the limit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Clock = Callable[[], float]

MINUTE = 60.0
_SLICES = 100  # of a window: what a slice holds is forgotten at once, when its youngest entry may be
ON_THE_WAY = (
    0.25  # seconds by which one request may reach the provider later than the next: the window is so much longer
)
_NOTHING = 1e-9


@dataclass(slots=True, eq=False)
class Slice:
    """What was used in a piece of the window."""

    until: float
    """When it is forgotten."""
    amount: float = 0.0


class Counter(Protocol):
    """One limit."""

    limit: float

    def left(self) -> float:
        """Room now; below 0 where more was used than was reserved."""
        ...

    def wait(self, amount: float) -> float:
        """Seconds until there is room for `amount`, which may be more than the limit; 0 if there is now."""
        ...

    def take(self, amount: float) -> Slice | None:
        """Use `amount` if there is room now; None if there is none."""
        ...

    def reserve(self, amount: float) -> Slice:
        """Use `amount`, whether there is room or not."""
        ...

    def settle(self, held: Slice, reserved: float, used: float) -> None:
        """It was `used` after all, and not what was reserved."""
        ...

    def is_news(self, remaining: float) -> bool:
        """Whether it changes anything that the provider says that so much is left."""
        ...

    def told(self, remaining: float, reset: float | None) -> None:
        """The provider says that so much is left, for so many seconds. What it says of more than is left is no news."""
        ...


class SlidingWindow:
    """Never more than the limit within any `window` seconds."""

    def __init__(self, limit: float, clock: Clock, window: float = MINUTE) -> None:
        self.limit = limit
        self._clock = clock
        self._width = window / _SLICES
        self._window = window + ON_THE_WAY
        self._slices: deque[Slice] = deque()  # oldest first
        self._used = 0.0
        self._elsewhere = Slice(0.0)  # what others have used of it, by what the provider says

    def left(self) -> float:
        """Room now; below 0 where more was used than was reserved."""
        now, slices, elsewhere = self._clock(), self._slices, self._elsewhere
        while slices and slices[0].until <= now:
            self._used -= slices.popleft().amount
        if not slices:
            self._used = 0.0  # nor does a rounding error live for ever
        left = self.limit - self._used
        return left - elsewhere.amount if elsewhere.until > now else left

    def wait(self, amount: float) -> float:
        capacity = self.limit
        whole = max(math.ceil(amount / capacity) - 1, 0)  # windows that it fills, before the one with room for the rest
        missing = amount - whole * capacity - self.left()
        if missing <= _NOTHING:
            return whole * self._window
        held = [*self._slices]
        if self._elsewhere.until > self._clock():
            held.append(self._elsewhere)
            held.sort(key=lambda one: one.until)
        for one in held:
            missing -= one.amount
            if missing <= _NOTHING:
                return one.until - self._clock() + whole * self._window
        return (whole + 1) * self._window

    def take(self, amount: float) -> Slice | None:
        return None if self.left() < amount - _NOTHING else self.reserve(amount)

    def reserve(self, amount: float) -> Slice:
        end = self._clock() + self._window
        slices = self._slices
        if not slices or slices[-1].until < end:
            slices.append(Slice(end + self._width))
        held = slices[-1]
        held.amount += amount
        self._used += amount
        return held

    def settle(self, held: Slice, reserved: float, used: float) -> None:
        if used > reserved:
            self.reserve(used - reserved)  # it came later than it was reserved
        elif held.until > self._clock():
            back = reserved - used
            held.amount -= back
            self._used -= back

    def is_news(self, remaining: float) -> bool:
        return self._elsewhere.amount > 0.0 or self.left() > remaining

    def told(self, remaining: float, reset: float | None) -> None:
        self._elsewhere.amount = 0.0
        surplus = self.left() - remaining
        if surplus > 0:
            self._elsewhere = Slice(self._clock() + (self._window if reset is None else reset), surplus)


class TokenBucket:
    """Refilled all the time, so that it is full again after `window` seconds; what has gathered may go at once."""

    def __init__(self, limit: float, clock: Clock, window: float = MINUTE) -> None:
        self.limit = limit
        self._clock = clock
        self._window = window
        self._level = limit
        self._at = clock()

    def left(self) -> float:
        """Room now; below 0 where more was used than was reserved."""
        now, capacity = self._clock(), self.limit
        self._level = min(self._level + (now - self._at) * capacity / self._window, capacity)
        self._at = now
        return self._level

    def wait(self, amount: float) -> float:
        missing = amount - self.left()
        return missing * self._window / self.limit if missing > _NOTHING else 0.0

    def take(self, amount: float) -> Slice | None:
        return None if self.left() < amount - _NOTHING else self.reserve(amount)

    def reserve(self, amount: float) -> Slice:
        self._level = self.left() - amount
        return Slice(math.inf)

    def settle(self, held: Slice, reserved: float, used: float) -> None:
        self._level = min(self.left() + reserved - used, self.limit)

    def is_news(self, remaining: float) -> bool:
        return self.left() > remaining

    def told(self, remaining: float, reset: float | None) -> None:
        self._level = min(self.left(), remaining)


@dataclass(slots=True)
class Reservation:
    """What a call holds of the limits: for `Quota.settle` only."""

    requests: float
    tokens: float
    of_requests: Slice | None
    of_tokens: Slice | None


class Quota:
    """The limits of one key, for requests and tokens."""

    def __init__(self, requests: Counter | None, tokens: Counter | None, clock: Clock) -> None:
        self.requests = requests
        self.tokens = tokens
        self._clock = clock
        self._closed_until = 0.0

    def fits(self, tokens: float) -> float:
        """`tokens`, or as much as there ever is: a request of more than that goes when all else has gone."""
        return tokens if self.tokens is None else min(tokens, self.tokens.limit)

    def wait(self, requests: float, tokens: float) -> float:
        """Seconds until so much may be asked, as far as can be told; 0: now."""
        wait = max(self._closed_until - self._clock(), 0.0)
        if self.requests is not None:
            wait = max(wait, self.requests.wait(requests))
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait(tokens))
        return wait

    def counter(self, resource: str) -> Counter | None:
        """The limit of "requests" or "tokens", if there is one."""
        return self.requests if resource == "requests" else self.tokens if resource == "tokens" else None

    def share(self) -> float:
        """What part of the limits is left, of the one that is nearer its end."""
        counters = (self.requests, self.tokens)
        return min((counter.left() / counter.limit for counter in counters if counter is not None), default=1.0)

    def take(self, tokens: float, requests: float) -> Reservation | None:
        """Reserve so much if there is room now; None if there is none. What most calls find, without asking how long
        it would take."""
        if self._closed_until > self._clock():
            return None
        of_requests = of_tokens = None
        if self.requests is not None and (of_requests := self.requests.take(requests)) is None:
            return None
        if self.tokens is not None and (of_tokens := self.tokens.take(tokens)) is None:
            if self.requests is not None and of_requests is not None:
                self.requests.settle(of_requests, requests, 0.0)
            return None
        return Reservation(requests, tokens, of_requests, of_tokens)

    def takes(self, requests: float) -> bool:
        """Whether there ever is room for so many requests at once."""
        return self.requests is None or requests <= self.requests.limit

    def reserve(self, tokens: float, requests: float = 1.0) -> Reservation:
        """So many requests, of so many tokens together, are about to be asked."""
        return Reservation(
            requests,
            tokens,
            None if self.requests is None else self.requests.reserve(requests),
            None if self.tokens is None else self.tokens.reserve(tokens),
        )

    def settle(self, held: Reservation, tokens: float) -> None:
        """It used so many tokens."""
        if self.tokens is not None and held.of_tokens is not None:
            self.tokens.settle(held.of_tokens, held.tokens, tokens)

    def refund(self, held: Reservation) -> None:
        """It was not asked after all."""
        if self.requests is not None and held.of_requests is not None:
            self.requests.settle(held.of_requests, held.requests, 0.0)
        self.settle(held, 0.0)

    def close(self, seconds: float) -> None:
        """The provider wants nothing for so long, whatever is counted here. Never shortens what it said before."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)
