"""When a stream that broke is taken up again, and how long that waits: no clock, no I/O, for both clients."""

from __future__ import annotations

import random
from collections.abc import Callable

from parley import v1
from parley.errors import (
    ConnectionFailed,
    GatewayError,
    ResponseNotFound,
    ResumeWindowExpired,
    ShuttingDown,
    StateUnavailable,
    Truncated,
)

_TRIES = 6
_FIRST = 0.05
_LONGEST = 2.0
_TAKEN_UP = (ConnectionFailed, ShuttingDown, StateUnavailable, Truncated)


class Resumption:
    """How far a stream has come, and whether it may go on after a failure.

    Only what says nothing of the answer itself is taken up: a connection that broke, a gateway that goes away or cannot
    look up what another one generates. Six tries without a single event in between are enough. `start`: where a stream
    begins that another one began.
    """

    def __init__(self, start: v1.ResumeFrom, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._tries = 0
        self._broken: GatewayError | None = None
        self.response_id = start.response_id
        self.last = start.after_sequence
        """The newest sequence that has arrived."""

    def seen(self, event: v1.StreamChatResponse) -> None:
        """An event has arrived."""
        self._tries = 0
        self.last = max(self.last, event.sequence)  # heartbeats have 0
        if event.WhichOneof("event") == "started" and event.started.HasField("resume_expire_time"):
            self.response_id = event.started.response_id

    def wait(self, error: GatewayError) -> float | None:
        """Seconds until the stream is to be asked for again after `error`; None: it is over."""
        if not self.response_id or not isinstance(error, _TAKEN_UP):
            return None
        if self._tries == 0:
            self._broken = error
        self._tries += 1
        if self._tries > _TRIES:
            return None
        longest: float = min(_FIRST * 2 ** (self._tries - 1), _LONGEST)
        return longest * (0.5 + self._chance() / 2)

    def told(self, error: GatewayError) -> GatewayError:
        """What to tell of `error`: where the answer is gone, what broke the stream says more than that."""
        if self._broken is not None and self._tries and isinstance(error, ResponseNotFound | ResumeWindowExpired):
            return self._broken
        return error
