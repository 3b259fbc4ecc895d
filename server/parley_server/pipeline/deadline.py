"""One bound over everything that is done for a call.

The first layer inside the trace: whatever is further in (checks, retries, waits between them, every read of the answer)
happens before `ctx.deadline` or not at all. Time runs on while a slow reader is busy; the next read finds it over.
"""

from __future__ import annotations

from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import DeadlineExceeded
from parley_server.core.reply import Batches, Reply
from parley_server.core.service import Service
from parley_server.pipeline.watch import TimeIsUp, Watch


class Deadline:
    """Sets `ctx.deadline` where the caller gave none, caps it, and raises DeadlineExceeded when it is over.

    Both arguments are seconds from now. A caller's own deadline is left to the caller where `ctx.cancelled_when_due`:
    a timer for every call would be wound in vain.
    """

    def __init__(self, default_seconds: float, max_seconds: float) -> None:
        self._default = min(default_seconds, max_seconds)
        self._max = max_seconds

    def __call__(self, inner: Service) -> Service:
        async def bounded(request: Any, ctx: Context) -> Reply[Any]:
            now = ctx.clock()
            if ctx.cancelled_when_due and ctx.deadline is not None and now < ctx.deadline <= now + self._max:
                return await inner(request, ctx)
            ctx.cancelled_when_due = False
            deadline = now + self._default if ctx.deadline is None else min(ctx.deadline, now + self._max)
            ctx.deadline = deadline
            seconds = deadline - now
            watch = Watch()
            due = watch.time() + seconds
            try:
                with watch.until(due):
                    reply = await inner(request, ctx)
            except BaseException as error:
                watch.close()
                if isinstance(error, TimeIsUp):
                    raise _over(seconds) from None
                raise
            reply.on_over(lambda _: watch.close())
            return reply.through(lambda batches: _bounded(batches, watch, due, seconds))

        return bounded


async def _bounded(batches: Batches, watch: Watch, due: float, seconds: float) -> Batches:
    while True:
        try:
            with watch.until(due):
                batch = await anext(batches)
        except StopAsyncIteration:
            return
        except TimeIsUp:
            raise _over(seconds) from None
        yield batch


def _over(seconds: float) -> DeadlineExceeded:
    if seconds <= 0:
        return DeadlineExceeded("the deadline was over before the call began")
    return DeadlineExceeded(f"no complete answer within {seconds:.3g} s", facts={"seconds": f"{seconds:.3f}"})
