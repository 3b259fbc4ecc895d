"""Whether the stores can be asked, by what they are asked for, and what happens while they cannot.

Stores report here; subsystems ask what to do:

    try:
        value = await stores.keyvalue("cache").get(key)
    except StoreUnavailable:
        if stores.health.mode("cache") == "closed":
            raise ...
        value = None
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import structlog

Purpose = Literal["cache", "limits", "idempotency", "resume"]
"""What a store is asked for. Each has its keys, its channels and its breaker to itself."""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
Mode = Literal["open", "closed", "local", "degraded"]
"""What a subsystem does without its store: as if it were switched off, refuse calls, go on within this process, do
without what only the store gives."""

_LASTS = 2.0  # seconds that a refusal counts
_REMIND = 30.0  # seconds between two lines on one that goes on
_LINES, _MINUTE = 10, 60.0  # of a purpose that goes and comes again, no more in a minute

log = structlog.get_logger("parley.stores")


@dataclass(slots=True, eq=False)
class _Trouble:
    since: float
    reason: str
    told: float
    silent: bool
    until: float = 0.0
    failures: int = 0


class StoreHealth:
    """What is wrong now, by purpose."""

    def __init__(self, modes: Mapping[Purpose, Mode], replicas: int, clock: Callable[[], float]) -> None:
        self.share = 1.0
        """The part of a shared limit that each gateway may use where the limit is kept locally."""
        self.failures = 0
        """Requests to stores that came to nothing, ever."""
        self._modes = modes
        self._clock = clock
        self._troubles: dict[Purpose, _Trouble] = {}
        self._told: dict[Purpose, deque[float]] = {purpose: deque(maxlen=_LINES) for purpose in PURPOSES}
        self.follow(modes, replicas)

    def follow(self, modes: Mapping[Purpose, Mode], replicas: int) -> None:
        """Other settings hold from now on."""
        self._modes = modes
        self.share = 1 / replicas

    def mode(self, purpose: Purpose) -> Mode:
        """What is to happen where the store for `purpose` is unavailable."""
        return self._modes[purpose]

    def refuses(self, purpose: Purpose) -> bool:
        """Whether the store for `purpose` is unavailable, and calls that need it are to be refused."""
        return self._modes[purpose] == "closed" and purpose in self.degraded

    @property
    def degraded(self) -> tuple[Purpose, ...]:
        """The purposes whose store is unavailable or refuses to write."""
        self._expire()
        return tuple(self._troubles)

    def is_down(self, purpose: Purpose) -> bool:
        """Whether something is wrong with the store for `purpose`."""
        return purpose in self._troubles

    def failed(self, purpose: Purpose) -> None:
        """A request came to nothing."""
        self.failures += 1
        trouble = self._troubles.get(purpose)
        if trouble is None:
            return
        trouble.failures += 1
        now = self._clock()
        if now - trouble.told >= _REMIND:
            trouble.told, trouble.silent = now, False
            log.warning(
                "store_still_down",
                purpose=purpose,
                reason=trouble.reason,
                failures=trouble.failures,
                seconds=round(now - trouble.since, 1),
            )

    def down(self, purpose: Purpose, reason: str) -> None:
        """The store cannot be asked, until `up` says otherwise."""
        self._is_in_trouble(purpose, reason).until = math.inf

    def refused(self, purpose: Purpose, reason: str) -> None:
        """The store answers that it will not do what it should: that counts until it has not been heard for 2 s."""
        trouble = self._is_in_trouble(purpose, reason)
        trouble.until = max(trouble.until, self._clock() + _LASTS)

    def up(self, purpose: Purpose) -> None:
        """The store does what it should."""
        trouble = self._troubles.pop(purpose, None)
        if trouble is not None and not trouble.silent:
            seconds = round(self._clock() - trouble.since, 1)
            log.info("store_up", purpose=purpose, failures=trouble.failures, seconds=seconds)

    def _is_in_trouble(self, purpose: Purpose, reason: str) -> _Trouble:
        trouble = self._troubles.get(purpose)
        if trouble is None:
            now, told = self._clock(), self._told[purpose]
            silent = len(told) == _LINES and now - told[0] < _MINUTE
            trouble = self._troubles[purpose] = _Trouble(now, reason, now, silent)
            if not silent:
                told.append(now)
                log.warning("store_down", purpose=purpose, on_failure=self._modes[purpose], reason=reason)
        return trouble

    def _expire(self) -> None:
        now = self._clock()
        for purpose, trouble in list(self._troubles.items()):
            if trouble.until <= now:
                self.up(purpose)
