"""The load drivers, seen from the runner: a job is shared out among a few processes, and their results put together."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

from tests.benchmarks.job import Job, Result
from tests.benchmarks.processes import Failed, python

_DRIVERS = 2  # one alone would be the bottleneck
_LONGEST = 600.0  # seconds for one job


class Drivers:
    """Running load drivers."""

    def __init__(self, children: list[subprocess.Popen[str]]) -> None:
        self._children = children

    def run(self, job: Job, meanwhile: Callable[[], None] | None = None) -> Result:
        """Do the job and give its result; `meanwhile` is called every few milliseconds. Raises Failed."""
        shares = min(len(self._children), job.in_flight)
        busy = self._children[:shares]
        for index, child in enumerate(busy):
            share = replace(
                job,
                requests=_share(job.requests, shares, index),
                in_flight=_share(job.in_flight, shares, index),
                first=index * job.variety // shares,
            )
            assert child.stdin is not None
            print(json.dumps(asdict(share)), file=child.stdin, flush=True)
        end = time.monotonic() + _LONGEST
        whole = Result()
        for child in busy:
            result = _result(child, end, meanwhile)
            whole.messages += result.messages
            whole.error = whole.error or result.error
        if whole.error:
            raise Failed(f"{job.kind} {job.model} at {job.address}: {whole.error}")
        return whole


def _result(child: subprocess.Popen[str], end: float, meanwhile: Callable[[], None] | None) -> Result:
    assert child.stdout is not None
    while not select.select([child.stdout], [], [], 0.02 if meanwhile else 1)[0]:
        if time.monotonic() > end:
            raise Failed(f"the job is not done after {_LONGEST:g} s")
        if meanwhile:
            meanwhile()
    line = child.stdout.readline()
    if not line:
        raise Failed(f"a load driver ended with status {child.wait(5)}")
    return Result(**json.loads(line))


def _share(whole: int, shares: int, index: int) -> int:
    return whole // shares + (index < whole % shares)


@contextmanager
def drivers() -> Iterator[Drivers]:
    """Load drivers that run until the block ends."""
    with ExitStack() as stack:
        children = []
        for _ in range(_DRIVERS):
            child = subprocess.Popen(python("driver"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, child)
            children.append(child)
        yield Drivers(children)


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
