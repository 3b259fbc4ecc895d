"""When to stop asking a target that fails, and when to try it again. Asked by `pipeline/breaker.py`.

closed ──(too many failures)──▶ open ──(its time is over)──▶ half open ──(probes succeed)──▶ closed
                                  ▲                               │
                                  └──────────(a probe fails)──────┘   for twice as long as before, up to the cap

What others say of a target never shuts it: a circuit that is warned stays closed, but the next failure opens it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_SLICES = 10
_EARLY = 0.002  # seconds; timers ring this much too soon, and who has waited as long as he was told is let in

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """Times in seconds."""

    failures: int = 5
    """Failures in a row that open it whatever came before."""
    ratio: float = 0.5
    """Share of failures among the outcomes of the window that opens it."""
    fewest: int = 20
    """Outcomes that the window must hold before the share counts."""
    window: float = 30.0
    """How far back outcomes count."""
    cool: float = 5.0
    """How long it is open the first time; doubles while probes fail."""
    cap: float = 120.0
    """Where the doubling ends."""
    probes: int = 1
    """Calls that are let through at a time while it is half open."""
    successes: int = 1
    """Probes that must succeed before it closes."""


@dataclass(slots=True)
class _Slice:
    """Outcomes of a piece of the window: so their number does not decide what the window costs."""

    begun: float
    outcomes: int = 0
    failed: int = 0


class Circuit:
    """The state of one target. Every call is let in by `admit()` and ends in one of `succeeded`, `failed`, `left`.

    Calls that were let through while the circuit was closed may end after it opened: their failures never shorten or
    prolong the cooling, their success does not close it.
    """

    def __init__(self, policy: CircuitPolicy, clock: Callable[[], float]) -> None:
        self.on_open: Callable[[float], None] | None = None
        """Called with the seconds for which it will be open whenever failures open it."""
        self._policy = policy
        self._clock = clock
        self._warned_until = 0.0
        self._window, self._width = policy.window, policy.window / _SLICES
        self._slices: deque[_Slice] = deque()  # of the window, oldest first
        self._in_a_row = 0
        self._cool = policy.cool
        self._opened_until: float | None = None
        self._probing = 0
        self._proven = 0
        self._round = 0  # of probes: one that comes back late says nothing of a later round

    def state(self) -> State:
        """Where it stands now."""
        if self._opened_until is None:
            return "closed"
        return "open" if self._clock() < self._opened_until else "half-open"

    def wait(self) -> float:
        """Seconds until a call may be let through: 0 if now; the cooling again while all probes are under way."""
        if self._opened_until is None:
            return 0.0
        left = self._opened_until - self._clock()
        if left > _EARLY:
            return left
        return 0.0 if self._probing < self._policy.probes else self._policy.cool

    def admit(self) -> int | None:
        """A ticket to hand back with the outcome, or None: not now."""
        if self._opened_until is None:
            return 0
        if self.wait() > 0:
            return None
        self._probing += 1
        return self._round + 1

    def succeeded(self, ticket: int) -> None:
        """The target answered."""
        if ticket:
            if self._is_current(ticket):
                self._probing -= 1
                self._proven += 1
                if self._proven >= self._policy.successes:
                    self._close()
            return
        if self._opened_until is None:
            self._in_a_row = 0
            self._warned_until = 0.0
            self._remember(failed=False)

    def failed(self, ticket: int, retry_after: float | None = None) -> None:
        """The target did not answer as it should; it may have said for how long not to come back."""
        if ticket:
            if self._is_current(ticket):
                self._cool = min(self._cool * 2, self._policy.cap)
                self._open(retry_after)
            return
        if self._opened_until is not None:
            return
        self._in_a_row += 1
        self._remember(failed=True)
        policy = self._policy
        outcomes = sum(piece.outcomes for piece in self._slices)
        failed = sum(piece.failed for piece in self._slices)
        often = outcomes >= policy.fewest and failed >= policy.ratio * outcomes
        if often or self._in_a_row >= policy.failures or self._clock() < self._warned_until:
            self._open(retry_after)

    def left(self, ticket: int) -> None:
        """The caller went away, or what happened says nothing of the target: neither success nor failure."""
        if ticket and self._is_current(ticket):
            self._probing -= 1

    def warn(self, seconds: float) -> None:
        """Others have given the target up for so long: until then one failure opens a closed circuit.

        A success says that all is well from here. Hearsay changes nothing of a circuit that is open.
        """
        if self._opened_until is None:
            self._warned_until = max(self._warned_until, self._clock() + min(seconds, self._policy.cap))

    def shut(self, seconds: float) -> None:
        """The target wants no calls for so long: a rate limit with its reset. Never shortens a cooling under way."""
        self._until(self._clock() + seconds)

    def _is_current(self, ticket: int) -> bool:
        return self._opened_until is not None and ticket == self._round + 1

    def _open(self, retry_after: float | None) -> None:
        seconds = max(self._cool, retry_after or 0.0)
        self._warned_until = 0.0
        self._until(self._clock() + seconds)
        if self.on_open is not None:
            self.on_open(seconds)

    def _until(self, when: float) -> None:
        self._opened_until = max(when, self._opened_until or when)
        self._round += 1
        self._probing = self._proven = 0

    def _close(self) -> None:
        self._opened_until = None
        self._cool = self._policy.cool
        self._in_a_row = 0
        self._slices.clear()
        self._round += 1
        self._probing = self._proven = 0

    def _remember(self, *, failed: bool) -> None:
        now, slices = self._clock(), self._slices
        forgotten = now - self._window
        while slices and slices[0].begun <= forgotten:
            slices.popleft()
        if not slices or slices[-1].begun <= now - self._width:
            slices.append(_Slice(now))
        newest = slices[-1]
        newest.outcomes += 1
        newest.failed += failed
