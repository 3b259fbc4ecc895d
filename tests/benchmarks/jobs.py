"""What the gateway, the floor and the peers are asked alike."""

from __future__ import annotations

from tests.benchmarks.job import Job
from tests.benchmarks.processes import Process
from tests.benchmarks.servers import WHOLE_LENGTH

IN_FLIGHT = 50
EVENTS = 100
"""Of a stream."""
EVENT = 20
"""Characters of one."""
MODELS = (f"mock-u{WHOLE_LENGTH}", *(f"mock-c{EVENTS}-s{EVENT}-k4-p{pause}" for pause in (0, 10)))
"""Those of the upstream that peers are asked for, by its names."""


def whole(target: Process, name: str, requests: int, in_flight: int) -> Job:
    """Calls that are answered whole."""
    return Job("chat", target.address, named(name, f"mock-u{WHOLE_LENGTH}"), requests, in_flight, WHOLE_LENGTH)


def stream(target: Process, name: str, requests: int, in_flight: int, *, pause: int) -> Job:
    """Calls that are answered in streams, four events each `pause` milliseconds."""
    model = named(name, f"mock-c{EVENTS}-s{EVENT}-k4-p{pause}")
    return Job("stream", target.address, model, requests, in_flight, EVENTS * EVENT)


def named(target: str, model: str) -> str:
    """What a model of the upstream is called at a target."""
    return f"openai/{model}" if target == "gateway" else model
