"""`parley-server` that tells what it holds: SIGUSR1 makes it log its calls, open upstream responses and tasks.

`settled` counts the records of attempts, "model REASON" each.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import signal
from typing import Any

import structlog

from parley import v1
from parley_server import app, assembly, cli
from parley_server.core.context import Context
from parley_server.core.target import Target
from parley_server.core.verdict import Verdict
from parley_server.pipeline.meter import Meter
from tests.gateway.process import Gateway

_PATIENCE = 10.0
_settled: collections.Counter[str] = collections.Counter()


async def inspect(server: Gateway, *, collect: bool = False) -> dict[str, Any]:
    """What a gateway of this module holds; after a garbage collection if `collect`."""
    seen = len(server.log)
    os.kill(server.pid, signal.SIGUSR2 if collect else signal.SIGUSR1)
    async with asyncio.timeout(_PATIENCE):
        while True:
            for line in server.log[seen:]:
                if line["event"] == "inspected":
                    return line
            await asyncio.sleep(0.002)  # another task reads the log


class Inspected(app.Gateway):
    """A gateway that can be looked into from outside."""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._tell)
        loop.add_signal_handler(signal.SIGUSR2, self._collect)
        await super().start()

    def _collect(self) -> None:
        gc.collect()
        self._tell()

    def _tell(self) -> None:
        tasks = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        structlog.get_logger("inspected").info(
            "inspected",
            calls=len(self.calls),
            open=self.open_upstream,
            tasks=tasks,
            settled=dict(_settled),
            gauges=self.gauges.read(),
        )


class _Counted:
    """Counts attempts as they are entered."""

    def began(self, _ctx: Context) -> str:
        return ""

    def first_chunk(self, _seconds: float) -> None:
        """It does not matter when."""

    def ended(self, _ctx: Context, attempt: v1.Attempt, ended: Verdict, _seconds: float, _kind: str) -> None:
        _settled[f"{attempt.model} {ended.reason or 'OK'}"] += 1


def _meter(target: Target, price: v1.ModelPricing | None, _measures: object) -> Meter:
    return Meter(target, price, _Counted())


if __name__ == "__main__":
    app.Gateway = Inspected  # type: ignore[misc]  # the seams there are in a process of its own
    assembly.Meter = _meter  # type: ignore[attr-defined, assignment]
    cli.main()
