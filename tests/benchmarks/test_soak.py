"""The soak can fail: each thing that must hold is seen not to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.benchmarks.soak import verdict
from tests.benchmarks.soak.calls import OK, Call, Kind
from tests.benchmarks.soak.samples import Sample
from tests.benchmarks.soak.verdict import Phases

IDLE = Sample(0, 100, tasks=8, calls=0, open_upstream=0, files=28, connections=10, answering=0, reloads=0)
BUSY = replace(IDLE, rss=110, tasks=60, calls=20, open_upstream=15, files=60, connections=40, answering=10)
PHASES = Phases(20, 100)
WELL = {"chat": {"OK": 5}, "cut": {"UNAVAILABLE STREAM_INTERRUPTED": 2, "OK": 1}}


async def _unused(_caller: object) -> str:
    raise AssertionError


CALL: Call = _unused
KINDS = (
    Kind("chat", CALL, 1, 0),
    Kind("cut", CALL, 1, 0, OK | {"UNAVAILABLE STREAM_INTERRUPTED"}),
)


def soak(late: float = 110, last: Sample = IDLE) -> list[Sample]:
    """A soak with a sample a second, that ends with `last` and had `late` MiB before that."""
    load = [replace(BUSY, at=at, rss=late if at > 90 else 110, reloads=at // 10) for at in range(1, 101)]
    return [IDLE, *load, replace(last, at=110, reloads=10)]


def failed(samples: list[Sample], outcomes: Mapping[str, Mapping[str, int]] = WELL, **told: int) -> list[str]:
    made = list(verdict.rows(samples, PHASES, KINDS, outcomes, **{"mistaken_reloads": 0, "errors": 0, **told}))
    assert sum("**OVER**" in line for line in verdict.table(made)) == sum(not row.within for row in made)
    return [row.what for row in made if not row.within]


def test_a_gateway_that_comes_back_to_where_it_was_has_endured() -> None:
    assert failed(soak(late=115)) == []


CASES: dict[str, Callable[[], list[str]]] = {
    "memory under load, growth after warm-up, %": lambda: failed(soak(late=116)),
    "tasks": lambda: failed(soak(last=replace(IDLE, tasks=9))),
    "connections": lambda: failed(soak(last=replace(IDLE, connections=11))),
    "open files": lambda: failed(soak(last=replace(IDLE, files=29))),
    "calls under way": lambda: failed(soak(last=replace(IDLE, calls=1))),
    "open upstream streams": lambda: failed(soak(last=replace(IDLE, open_upstream=1))),
    "answers that the upstream is still giving": lambda: failed(soak(last=replace(IDLE, answering=1))),
    "good configurations not taken, bad ones not refused": lambda: failed(soak(), mistaken_reloads=1),
    "calls that ended otherwise than expected": lambda: failed(soak(), {**WELL, "chat": {"OK": 5, "INTERNAL": 1}}),
    "kinds of calls that were not made": lambda: failed(soak(), {**WELL, "cut": {}}),
    "errors in the gateway's log": lambda: failed(soak(), errors=1),
}


@pytest.mark.parametrize("what", CASES)
def test_what_must_hold(what: str) -> None:
    assert CASES[what]() == [what]
