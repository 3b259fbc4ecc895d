"""What the gateway holds at a moment: from the kernel, and from what it tells itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.processes import Failed, Process
from tests.benchmarks.soak.scene import Scene

_PATIENCE = 30.0


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the start of the soak."""

    at: float
    rss: float
    """MiB"""
    tasks: int
    calls: int
    """Under way at the gateway."""
    open_upstream: int
    """Answers of providers that have not been closed."""
    files: int
    """Descriptors that are open, of connections too."""
    connections: int
    """Of these, sockets."""
    answering: int
    """Answers that the mock upstream has not finished."""
    reloads: int
    """Configurations that were taken so far."""


class Watch:
    """Takes samples, and keeps what the gateway's log says that it should not."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._begun = time.monotonic()
        self.samples: list[Sample] = []
        self.refused = 0
        """Configurations that the gateway says it did not take."""
        self.errors: list[Mapping[str, Any]] = []
        """Other lines of the log with level error or worse, and lines that are not of the log."""
        self.tasks: Mapping[str, int] = {}
        """By coroutine, as of the latest sample."""

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun

    async def take(self) -> Sample:
        """One more sample. Raises Failed if the gateway does not answer."""
        server = self._scene.server
        told = await self._told()
        self.tasks, gauges = told["tasks"], told["gauges"]
        links = await asyncio.to_thread(_descriptors, server.pid)
        process = Process("gateway", server.pid, server.port)
        sample = Sample(
            at=round(self.now, 2),
            rss=round(process.rss(), 2),
            tasks=sum(self.tasks.values()),
            calls=int(gauges["calls"]),
            open_upstream=int(gauges["open_upstream_streams"]),
            files=len(links),
            connections=sum(link.startswith("socket:") for link in links),
            answering=(await asyncio.to_thread(self._scene.upstream.stats))["running"],
            reloads=int(gauges["config_revision"]) - 1,
        )
        self.samples.append(sample)
        return sample

    async def _told(self) -> Mapping[str, Any]:
        """What the gateway tells when it is asked."""
        try:
            os.kill(self._scene.server.pid, signal.SIGUSR1)
        except ProcessLookupError:
            raise Failed(f"the gateway has ended: {self.read_log()[-10:]}") from None
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if found := [line for line in self.read_log() if line["event"] == "watched"]:
                return found[-1]
            await asyncio.sleep(0.005)  # another task reads what it writes
        raise Failed(f"the gateway tells nothing of itself within {_PATIENCE:g} s")

    def read_log(self) -> list[Mapping[str, Any]]:
        """The lines since the last time. They are kept nowhere else."""
        log = self._scene.server.log
        lines: list[Mapping[str, Any]] = []
        lines[:], log[:] = log, []
        bad = [line for line in lines if line.get("level") not in ("debug", "info", "warning")]
        self.refused += sum(line["event"] == "config_refused" for line in bad)
        self.errors += [line for line in bad if line["event"] != "config_refused"]
        return lines


def _descriptors(pid: int) -> list[str]:
    """What the process has open."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found
