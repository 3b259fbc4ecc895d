"""Time to the first text of streams, taken by a client in C; see first_text.c."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

import orjson

from parley import v1
from tests.benchmarks import prompt
from tests.benchmarks.compiled import compiled
from tests.benchmarks.processes import Failed, Process

_SOURCE = Path(__file__).with_suffix(".c")
_LONGEST = 120.0  # seconds for one run


class Stopwatch:
    """Asks for streams of one event of `length` characters, and says when these had come."""

    def __init__(self, folder: Path, *, length: int, in_flight: int) -> None:
        self._binary = compiled(_SOURCE, folder)
        self._text = prompt.answer(length)
        self._in_flight = in_flight

    def through(self, target: Process, model: str, requests: int) -> list[float]:
        """Milliseconds of each stream through StreamChat of `target`. Raises Failed."""
        body = v1.StreamChatRequest(request=prompt.request(model)).SerializeToString()
        return self._run("grpc", target, "/parley.v1.GatewayService/StreamChat", requests, body)

    def bare(self, upstream: Process, model: str, requests: int) -> list[float]:
        """Milliseconds of each stream with nothing between. Raises Failed."""
        body = orjson.dumps({"model": model, "messages": [], "stream": True})
        return self._run("http", upstream, "/v1/chat/completions", requests, body)

    def _run(self, kind: str, target: Process, path: str, requests: int, body: bytes) -> list[float]:
        command = [str(self._binary), kind, str(target.port), path, str(requests), str(self._in_flight), self._text]
        try:
            run = subprocess.run(command, input=body, capture_output=True, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{target.name}: {requests} streams were not over after {_LONGEST:g} s") from None
        took = [int(line) / 1000 for line in run.stdout.split()]
        if run.returncode or len(took) != requests:
            raise Failed(f"{target.name}: {len(took)} of {requests} streams; {run.stderr.decode().strip()}")
        return took


def percentile(took: list[float], percent: int) -> float:
    """What `percent` of 100 stayed below."""
    return statistics.quantiles(took, n=100, method="inclusive")[percent - 1]
