"""What is known of a target from the calls it has had: how fast, how busy, how often it fails, what quota is left.

Kept up by `pipeline/observe.py`, read by the orders in `core/strategies.py`. One for each target; it outlives its
stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from parley_server.core.circuit import Circuit
from parley_server.core.quantiles import Quantiles

HALF_LIFE = 30.0
"""Seconds after which an observation weighs half of a new one."""
FORGOTTEN = 120.0
"""Seconds without an outcome after which a target counts as one that nobody has tried."""
_LEAST_ALIVE = 0.05  # of a target that always fails: so that its latency still has an order
_MEMORY = 10  # observations that are averaged at least, however close together they come
_USUAL_WINDOW = 60.0  # seconds after which a limit is full again, where the provider does not say


class Limit(Protocol):
    """A rate limit as its provider told it."""

    @property
    def resource(self) -> str: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def reset(self) -> float | None: ...


class Decayed:
    """An average in which what lies longer back weighs less; the first observations count alike."""

    __slots__ = ("_at", "_count", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self._at = 0.0
        self._count = 0

    def add(self, observed: float, now: float) -> None:
        """Take in what was observed at `now`."""
        if self.value is None or self.value == observed:
            self.value = observed
        else:
            faded = 1.0 - 2.0 ** (-(now - self._at) / HALF_LIFE)
            self.value += max(faded, 1 / min(self._count + 1, _MEMORY)) * (observed - self.value)
        self._at = now
        self._count += 1


def _no_limits(_headers: Mapping[str, str]) -> Iterable[Limit]:
    return ()


class Standing:
    """The live state of a target. Every attempt is told by `began()`, then one of `answered`, `failed`, `left`, then
    `over()`.

    `limits`: reads the rate limits in the headers of an answer; only called when somebody wants to know.
    """

    __slots__ = (
        "_asked_since",
        "_circuit",
        "_clock",
        "_failures",
        "_first_content",
        "_first_content_times",
        "_full",
        "_headers",
        "_last",
        "_limits",
        "_queued",
        "_read",
        "_told_at",
        "_whole",
        "_whole_times",
        "in_flight",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        limits: Callable[[Mapping[str, str]], Iterable[Limit]] = _no_limits,
    ) -> None:
        self._clock = clock
        self._read = limits
        self._circuit: Circuit | None = None
        self._queued: Callable[[], int] = int
        self._full: Callable[[], bool] = bool
        self.in_flight = 0
        self._first_content, self._whole, self._failures = Decayed(), Decayed(), Decayed()
        self._first_content_times, self._whole_times = Quantiles(), Quantiles()
        self._last: float | None = None  # when an attempt last had an outcome
        self._headers: Mapping[str, str] | None = None  # not read yet
        self._limits: tuple[Limit, ...] = ()
        self._told_at = 0.0
        self._asked_since = 0

    def bind(
        self, circuit: Circuit | None = None, queued: Callable[[], int] = int, full: Callable[[], bool] = bool
    ) -> None:
        """Know the rest of the target's state, which may be another once its stack is built anew.

        `circuit`: tells whether it may be asked now. `queued`: calls that wait for it. `full`: whether a call would
        have to wait for a place.
        """
        self._circuit = circuit
        self._queued = queued
        self._full = full

    def began(self) -> None:
        """An attempt is under way."""
        self.in_flight += 1
        self._asked_since += 1

    def over(self) -> None:
        """Its answer is over, whatever became of it."""
        self.in_flight -= 1

    def answered(self, seconds: float, *, streaming: bool) -> None:
        """Content came after `seconds`: the first of a stream, the whole of any other answer."""
        now = self._last = self._clock()
        (self._first_content if streaming else self._whole).add(seconds, now)
        (self._first_content_times if streaming else self._whole_times).add(seconds)
        self._failures.add(0.0, now)

    def failed(self) -> None:
        """It failed, before its answer began or within it."""
        now = self._last = self._clock()
        self._failures.add(1.0, now)

    def left(self, seconds: float, *, streaming: bool) -> None:
        """The caller went away after waiting for `seconds`: no failure, but it is at least that slow."""
        (self._first_content_times if streaming else self._whole_times).add_unfinished(seconds)
        average = self._first_content if streaming else self._whole
        if average.value is not None and average.value >= seconds:
            return
        now = self._last = self._clock()
        average.add(seconds, now)

    def told(self, headers: Mapping[str, str]) -> None:
        """The headers of an answer, names in lower case."""
        self._headers = headers
        self._told_at = self._clock()
        self._asked_since = 0

    def is_known(self) -> bool:
        """Whether its outcomes are recent enough to tell anything."""
        return self._last is not None and self._clock() - self._last < FORGOTTEN

    def failure_rate(self) -> float:
        """Share of attempts that failed lately, 0 to 1."""
        return self._failures.value or 0.0

    def latency(self, *, streaming: bool) -> float:
        """Seconds to content, with those that it costs to try again where it fails; infinite if it never answered."""
        value = (self._first_content if streaming else self._whole).value
        if value is None:  # of the other kind of call, if that is all there is
            value = (self._whole if streaming else self._first_content).value
        return math.inf if value is None else value / max(1.0 - self.failure_rate(), _LEAST_ALIVE)

    def percentile(self, percent: float, *, streaming: bool) -> float | None:
        """Seconds within which so many of a hundred answers have content, below 100; None while too few are known."""
        return (self._first_content_times if streaming else self._whole_times).quantile(percent / 100.0)

    def busy(self) -> int:
        """Attempts under way, and calls that wait to become one."""
        return self.in_flight + self._queued()

    def wait(self) -> float:
        """Seconds for which it is left alone because it has failed; 0: it may be asked."""
        return 0.0 if self._circuit is None else self._circuit.wait()

    def quota(self) -> float | None:
        """Share of its tightest rate limit that should be left now, 0 to 1; None if it tells nothing of limits."""
        if self._headers is not None:
            told = tuple(self._read(self._headers))
            self._headers = None
            self._limits = told or self._limits
        return min((self._left(limit) for limit in self._limits if limit.limit), default=None)

    def is_full(self) -> bool:
        """Whether a call that comes now would have to wait, or be refused."""
        quota = self.quota()
        return self._full() or (quota is not None and quota <= 0.0)

    def _left(self, limit: Limit) -> float:
        if limit.limit is None or limit.remaining is None:
            return 1.0
        remaining: float = limit.remaining
        if limit.resource == "requests":
            remaining -= self._asked_since
        share = min(max(remaining / limit.limit, 0.0), 1.0)
        window = _USUAL_WINDOW if limit.reset is None else limit.reset
        passed = self._clock() - self._told_at
        return 1.0 if passed >= window else share + (1.0 - share) * passed / window
