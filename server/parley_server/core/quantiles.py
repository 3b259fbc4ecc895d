"""How long most of what is observed takes: quantiles in which the newest observations count most.

A histogram whose bins are a tenth wide, so that where an estimate falls is at most that far from what was observed
there; a few dozen numbers, however many observations there are. What lies back weighs less by number, not by time: a
target that is asked once a minute is known as well as a busy one.
"""

from __future__ import annotations

import math

MEMORY = 300
"""Observations after which one weighs a third (1/e) of a new one. An estimate then rests on about twice as many."""
_WIDTH = math.log(1.1)  # of a bin, on the scale of logarithms
_SHORTEST = 0.0001  # seconds
_GROWTH = 1.0 / (1.0 - 1.0 / MEMORY)  # each observation weighs so much more than the one before
_HEAVY = 1e12  # a weight at which all are made smaller, before numbers overflow
_NOTHING = 1e-9  # of a weight that is worth no bin


class Quantiles:
    """Quantiles of durations in seconds. `seen`: how many have come to their end."""

    __slots__ = ("_bins", "_weight", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self._bins: dict[int, float] = {}
        self._weight = 1.0  # of the next observation

    def add(self, seconds: float) -> None:
        """Something took so long."""
        self.seen += 1
        self._put(math.floor(math.log(max(seconds, _SHORTEST)) / _WIDTH))

    def add_unfinished(self, seconds: float) -> None:
        """Something was given up after so long: how long it would have taken is as for those that took longer.

        So the estimate does not sink where slow ones are given up because they are slow.
        """
        first = math.floor(math.log(max(seconds, _SHORTEST)) / _WIDTH)
        beyond = sum(weight for number, weight in self._bins.items() if number >= first)
        if not beyond:
            self._put(first)
            return
        factor = 1.0 + self._weight / beyond
        for number in self._bins:
            if number >= first:
                self._bins[number] *= factor
        self._grow()

    def quantile(self, share: float) -> float | None:
        """Seconds within which a `share` (0 to 1) of all are over; None while too few are known to say.

        Too few: of so many not one is expected to take longer, or there are fewer than 20.
        """
        if self.seen < max(20, 1.0 / (1.0 - share)):
            return None
        beyond = (1.0 - share) * sum(self._bins.values())
        for number in sorted(self._bins, reverse=True):
            weight = self._bins[number]
            if beyond <= weight:
                return math.exp((number + 1.0 - beyond / weight) * _WIDTH)
            beyond -= weight
        return math.exp(min(self._bins) * _WIDTH)  # a rounding error is left

    def _put(self, number: int) -> None:
        self._bins[number] = self._bins.get(number, 0.0) + self._weight
        self._grow()

    def _grow(self) -> None:
        self._weight *= _GROWTH
        if self._weight > _HEAVY:
            light = self._weight * _NOTHING
            self._bins = {number: weight / self._weight for number, weight in self._bins.items() if weight > light}
            self._weight = 1.0
