"""`parley-server` that tells what it holds: SIGUSR1 makes it log its tasks, by their coroutines, and its gauges."""

from __future__ import annotations

import asyncio
import collections
import signal

import structlog

from parley_server import app, cli


class Watched(app.Gateway):
    """A gateway that can be looked into from outside."""

    async def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._tell)
        await super().start()

    def _tell(self) -> None:
        coroutines = (task.get_coro() for task in asyncio.all_tasks())
        tasks = collections.Counter(getattr(one, "__qualname__", repr(one)) for one in coroutines)
        structlog.get_logger("soak").info("watched", tasks=dict(tasks), gauges=self.gauges.read())


if __name__ == "__main__":
    app.Gateway = Watched  # type: ignore[misc]  # the one seam there is in a process of its own
    cli.main()
