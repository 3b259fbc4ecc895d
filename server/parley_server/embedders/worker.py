"""A thread for work that would hold up the event loop, one piece after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from parley_server.embedders.base import CannotEmbed

T = TypeVar("T")


class Worker:
    """The thread. `most`: pieces that may wait or be under way; whoever comes then is turned away."""

    def __init__(self, name: str, most: int) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._most = most
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Pieces that wait or are under way."""
        return self._waiting

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns. Cancelled before its turn it is not begun. Raises CannotEmbed if too many wait."""
        if self._waiting >= self._most:
            raise CannotEmbed(f"{self._waiting} texts are waiting to be embedded already")
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._waiting += 1
        future.add_done_callback(self._done)
        return await future

    async def aclose(self) -> None:
        """Forget what waits, and end when the piece under way is done."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _done(self, _: object) -> None:
        self._waiting -= 1
