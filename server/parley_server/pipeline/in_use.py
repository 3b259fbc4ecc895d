"""Counts the calls under way, so that a stack is taken down only when its last call is over.

The outermost layer: waits between retries and for other calls count as well, and those who read an answer until they
close it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from parley_server.core.context import Context
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service


class InUse:
    """Made once for all the stacks of a configuration."""

    def __init__(self) -> None:
        self.calls = 0
        self._unused = asyncio.Event()

    def __call__(self, inner: Service) -> Service:
        async def counted(request: Any, ctx: Context) -> Reply[Any]:
            self.calls += 1
            try:
                reply = await inner(request, ctx)
            except BaseException:
                self._over()
                raise
            reply.on_over(self._over)
            return reply

        return counted

    def _over(self, _: Outcome | None = None) -> None:
        self.calls -= 1
        if not self.calls:
            self._unused.set()

    async def over(self) -> None:
        """Wait until no call is left; meant for when no new ones come."""
        while self.calls:
            self._unused.clear()
            await self._unused.wait()
