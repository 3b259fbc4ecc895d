"""Begin no attempt that has no time to end.

Behind every wait for a target (the backoff, the queue for a place) and before the meter: what is refused here has cost
nothing, is no attempt, and says nothing of the target. Without it the last moments of a deadline would go into requests
that the provider starts to work on, bills, and is then hung up on.
"""

from __future__ import annotations

from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import DeadlineExceeded
from parley_server.core.reply import Reply
from parley_server.core.service import Service


class Enough:
    """Raises DeadlineExceeded where less than `least` seconds are left."""

    def __init__(self, least: float) -> None:
        self._least = least

    def __call__(self, inner: Service) -> Service:
        least = self._least

        async def begun(request: Any, ctx: Context) -> Reply[Any]:
            if ctx.deadline is not None and ctx.deadline - ctx.clock() < least:
                raise self._late(ctx)
            return await inner(request, ctx)

        return begun

    def _late(self, ctx: Context) -> DeadlineExceeded:
        remaining = max(ctx.remaining() or 0.0, 0.0)
        error = DeadlineExceeded(
            f"{remaining * 1000:.0f} ms are left of the deadline, too little to ask a model",
            facts={"cannotBeMet": "least", "remaining": f"{remaining:.3f}", "least": f"{self._least:g}"},
        )
        error.attempted = False
        return error
