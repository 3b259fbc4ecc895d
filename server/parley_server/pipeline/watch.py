"""A wait that is broken off when its time is up. What Deadline and Timeout share; it is no layer itself.

`asyncio.timeout` does the same for one wait, at the price of a timer each. An answer has thousands of waits that nearly
always end in time, so here one timer serves them all: when it rings it looks whether the wait under way is really
overdue, and otherwise sets itself again.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_EARLY = 0.001  # seconds; event loops may ring this much too soon
_FAR = 86_400.0  # seconds; as far ahead as a timer is set, so that `due` may be infinite


class TimeIsUp(Exception):
    """The wait was broken off. Unlike TimeoutError nobody else raises it."""


class Watch:
    """`with watch.until(due): await …` raises TimeIsUp at `due`, a reading of `time()` or infinity; one task at a time.

    Close it when the last wait is over.
    """

    __slots__ = ("_cancelled_before", "_due", "_loop", "_rang", "_task", "_timer", "_timer_due", "time")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._due = 0.0
        self._task: asyncio.Task[object] | None = None
        self._cancelled_before = 0
        self._rang = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def until(self, due: float) -> Self:
        """The same watch, set to `due`."""
        self._due = due
        return self

    def __enter__(self) -> None:
        due = self._due
        if due <= self.time():
            raise TimeIsUp
        task = self._task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a watch needs a task to watch")
        self._cancelled_before = task.cancelling()
        if self._timer is None:
            self._set()
        elif due < self._timer_due:
            self._timer.cancel()
            self._set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        task, self._task = self._task, None
        if not self._rang or task is None:
            return
        self._rang = False
        # A caller who cancelled at the same moment wins: his cancellation is still to be delivered.
        if task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeIsUp from None

    def _set(self) -> None:
        self._timer_due = min(self._due, self.time() + _FAR)
        self._timer = self._loop.call_at(self._timer_due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:  # nobody waits: the next wait sets the timer
            return
        if self._due > self.time() + _EARLY:
            self._set()
            return
        self._rang = True
        self._task.cancel()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
