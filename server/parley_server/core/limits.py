"""How limits count, in whole milliseconds: pure arithmetic over what a store keeps of each limit.

Three ways. A *window*: never more than the amount within any period, which is kept in slices, so that what is old is
forgotten a slice at a time, at most a 250th of the period late. A *bucket*: refilled steadily, full again after the
period; what has gathered may go at once. *Slots*: so many calls at a time, each under a lease that runs out if nobody
renews it.

The script in `stores/redis/counters.py` says the same in Lua; a test holds the two to each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

Way = Literal["window", "bucket", "slots"]

SLICES = 250
SLOT_WAIT = 1000
"""Milliseconds after which it is worth asking again for a slot: nobody knows when a call ends."""
_NEVER = 2**62
_EXACT = 2**52  # up to which quotients of whole numbers are rounded to the right side, here and in Lua


@dataclass(frozen=True, slots=True)
class Rule:
    """`amount` of something within `per` milliseconds, or at a time (slots, where `per` is 0)."""

    way: Way
    amount: int
    per: int = 0
    width: int = field(init=False, repr=False, compare=False)
    """Milliseconds of a window's slice."""
    step: int = field(init=False, repr=False, compare=False)
    """What one costs in a bucket, which gains `gain` with every millisecond."""
    gain: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.amount < 1 or (self.way == "slots") != (self.per == 0):
            raise ValueError("a limit allows at least one, within a time unless it is of calls at a time")
        common = math.gcd(self.amount, self.per)
        object.__setattr__(self, "width", -(-self.per // SLICES))
        object.__setattr__(self, "step", self.per // common)
        object.__setattr__(self, "gain", self.amount // common)
        if self.way == "bucket" and self.amount * self.step > _EXACT:
            raise ValueError("so many in such a time cannot be counted exactly by a bucket")

    def parameters(self) -> tuple[int, int]:
        """What the arithmetic needs beside the amount: per and width, gain and step, or nothing."""
        match self.way:
            case "window":
                return self.per, self.width
            case "bucket":
                return self.gain, self.step
            case "slots":
                return 0, 0

    def scaled(self, share: float) -> Rule:
        """The same for one of several who share it; at least one."""
        return Rule(self.way, max(int(self.amount * share), 1), self.per)

    def new(self) -> Count:
        """What is kept of it at first."""
        match self.way:
            case "window":
                return Window(self)
            case "bucket":
                return Bucket(self, self.amount * self.step)
            case "slots":
                return Slots(self)


class Count(Protocol):
    """What is kept of one limit. `now` may go back a little; `rule` may come to allow more or less."""

    rule: Rule

    def left(self, now: int) -> float:
        """What may still be used; below 0 where more was used than was reserved."""
        ...

    def wait(self, now: int, cost: float) -> int:
        """Milliseconds until there is room for `cost`, which is no more than the amount; 0: there is."""
        ...

    def reset(self, now: int) -> int:
        """Milliseconds until nothing of it is used any more, if nobody uses it meanwhile."""
        ...

    def take(self, now: int, cost: float, holder: str, lease: int) -> int:
        """Use `cost`, whether there is room or not. Gives the mark to settle it by."""
        ...

    def settle(self, now: int, mark: int, reserved: float, used: float, holder: str) -> None:
        """It was `used` after all, and not what was reserved. A slot is given back in any case."""
        ...


@dataclass(slots=True)
class Window:
    """A window. `slices`: what was used in each, by their numbers, oldest first."""

    rule: Rule
    slices: dict[int, float] = field(default_factory=dict)
    used: float = 0
    _newest: int = 0
    _due: int = 0  # when the oldest is forgotten

    def load(self, slices: dict[int, float]) -> None:
        """Go on from what was kept elsewhere."""
        self.slices, self.used = slices, sum(slices.values())
        if slices:
            self._newest, self._due = next(reversed(slices)), self._end(next(iter(slices)))

    def left(self, now: int) -> float:
        self._forget(now)
        return self.rule.amount - self.used

    def wait(self, now: int, cost: float) -> int:
        self._forget(now)
        missing = cost - self.rule.amount + self.used
        if missing <= 0:
            return 0
        for number, amount in self.slices.items():
            missing -= amount
            if missing <= 0:
                return self._end(number) - now
        raise AssertionError("no more than the amount is asked for")

    def reset(self, now: int) -> int:
        self._forget(now)
        return self._end(self._newest) - now if self.used > 0 else 0

    def take(self, now: int, cost: float, holder: str, lease: int) -> int:
        self._forget(now)
        slices, number = self.slices, now // self.rule.width
        if not slices:
            if cost:
                self._due = self._end(number)
        elif number < self._newest:
            number = self._newest
        if cost:
            slices[number] = slices.get(number, 0) + cost
            self.used += cost
            self._newest = number
        return number

    def settle(self, now: int, mark: int, reserved: float, used: float, holder: str) -> None:
        if used > reserved:
            self.take(now, used - reserved, holder, 0)  # it came later than it was reserved
        elif used < reserved:
            self._forget(now)
            if mark in self.slices:
                back = min(reserved - used, self.slices[mark])
                self.slices[mark] -= back
                self.used -= back

    def _end(self, number: int) -> int:
        return (number + 1) * self.rule.width + self.rule.per

    def _forget(self, now: int) -> None:
        rule = self.rule
        if not self.slices or (now < self._due and self._newest * rule.width <= now + rule.per):
            return
        if self._end(self._newest) <= now or self._newest * rule.width > now + rule.per:  # or the clock was set back
            self.slices.clear()
            self.used = 0
            return
        while (end := self._end(oldest := next(iter(self.slices)))) <= now:
            self.used -= self.slices.pop(oldest)
        self._due = end


@dataclass(slots=True)
class Bucket:
    """A bucket. `level` is what is in it, in units of which one costs `rule.step`."""

    rule: Rule
    level: float
    at: int = 0

    def left(self, now: int) -> float:
        return self._refilled(now)[0] // self.rule.step

    def wait(self, now: int, cost: float) -> int:
        return self._until(now, cost * self.rule.step)

    def reset(self, now: int) -> int:
        return self._until(now, self.rule.amount * self.rule.step)

    def take(self, now: int, cost: float, holder: str, lease: int) -> int:
        if cost:
            self.level, self.at = self._refilled(now)
            self.level -= cost * self.rule.step
        return 0

    def settle(self, now: int, mark: int, reserved: float, used: float, holder: str) -> None:
        if used != reserved:
            level, self.at = self._refilled(now)
            self.level = min(level + (reserved - used) * self.rule.step, self.rule.amount * self.rule.step)

    def _until(self, now: int, level: float) -> int:
        """Milliseconds until so much is in it."""
        there, at = self._refilled(now)
        return math.ceil((level - there) / self.rule.gain) + max(at - now, 0) if level > there else 0

    def _refilled(self, now: int) -> tuple[float, int]:
        """Level and time, as they are now."""
        rule = self.rule
        at = now if self.at > now + rule.per else self.at  # the clock was set back
        if now > at:
            return min(self.level + (now - at) * rule.gain, rule.amount * rule.step), now
        return self.level, at


@dataclass(slots=True)
class Slots:
    """Calls at a time. `until`: when the lease of each holder runs out."""

    rule: Rule
    until: dict[str, int] = field(default_factory=dict)
    _soonest: int = 0  # before which none runs out

    def left(self, now: int) -> float:
        self._expire(now)
        return self.rule.amount - len(self.until)

    def wait(self, now: int, cost: float) -> int:
        return 0 if self.left(now) >= cost else SLOT_WAIT

    def reset(self, now: int) -> int:
        return 0

    def take(self, now: int, cost: float, holder: str, lease: int) -> int:
        if cost:
            self.until[holder] = end = now + lease
            self._soonest = min(self._soonest, end)
        return 0

    def settle(self, now: int, mark: int, reserved: float, used: float, holder: str) -> None:
        self.until.pop(holder, None)

    def _expire(self, now: int) -> None:
        if now < self._soonest:
            return
        self.until = {holder: until for holder, until in self.until.items() if until > now}
        self._soonest = min(self.until.values(), default=_NEVER)
