"""`parley-server` that tells what it holds: SIGUSR1 makes it log its calls, open upstream responses and tasks."""

from __future__ import annotations

import asyncio
import gc
import signal

import structlog

from parley_server import app, cli


class Inspected(app.Gateway):
    """A gateway that can be looked into from outside."""

    async def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._tell)
        await super().start()

    def _tell(self) -> None:
        gc.collect()
        tasks = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        structlog.get_logger("inspected").info(
            "inspected", calls=len(self.calls), open=self.transport.open, tasks=tasks
        )


if __name__ == "__main__":
    app.Gateway = Inspected  # type: ignore[misc]  # the one seam there is in a process of its own
    cli.main()
