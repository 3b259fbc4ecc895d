"""The calls under way: counted for health and drain, and ended with an honest status when the drain is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Calls:
    """Knows the task of every running call."""

    def __init__(self) -> None:
        self.cut_off = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._tasks)

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count the current task as a call until the block ends."""
        task: asyncio.Task[object] = asyncio.current_task()  # type: ignore[assignment]  # handlers run in tasks
        self._tasks.add(task)
        self._idle.clear()
        try:
            yield
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()

    async def drained(self, seconds: float) -> bool:
        """Wait until no call is left, at most `seconds`; whether that happened."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def cut(self) -> int:
        """Cancel the calls that are left; they answer SHUTTING_DOWN. Gives their number."""
        self.cut_off = True
        for task in self._tasks:
            task.cancel()
        return len(self._tasks)
