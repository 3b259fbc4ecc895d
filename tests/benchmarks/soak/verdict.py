"""Whether the gateway has endured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.soak.calls import Kind
from tests.benchmarks.soak.samples import Sample

GROWTH = 5.0
"""Per cent that memory may grow by under the same load, once it is warm."""
_TENTH = 0.1

Outcomes = Mapping[str, Mapping[str, int]]
"""By kind of call and how they ended."""


@dataclass(frozen=True)
class Phases:
    """Seconds since the start at which the load had warmed the gateway up, and at which it ended."""

    warm: float
    end: float


@dataclass(frozen=True)
class Row:
    """One line of the verdict."""

    what: str
    before: float | None
    after: float
    most: float

    @property
    def within(self) -> bool:
        """Whether it holds."""
        return self.after <= self.most


def rows(
    samples: Sequence[Sample],
    phases: Phases,
    kinds: Sequence[Kind],
    outcomes: Outcomes,
    *,
    mistaken_reloads: int,
    errors: int,
) -> Iterator[Row]:
    """The first sample is of the gateway before the first call, the last of when it had time to come to rest.

    `mistaken_reloads`: good configurations that were not taken, and bad ones that were not refused.
    """
    first, last = samples[0], samples[-1]
    warm, late = under_load(samples, phases)
    yield Row("memory under load, growth after warm-up, %", None, (late / warm - 1) * 100, GROWTH)
    yield Row("tasks", first.tasks, last.tasks, first.tasks)
    yield Row("connections", first.connections, last.connections, first.connections)
    yield Row("open files", first.files, last.files, first.files)
    yield Row("calls under way", first.calls, last.calls, 0)
    yield Row("open upstream streams", first.open_upstream, last.open_upstream, 0)
    yield Row("answers that the upstream is still giving", first.answering, last.answering, 0)
    yield Row("good configurations not taken, bad ones not refused", None, mistaken_reloads, 0)
    yield Row("calls that ended otherwise than expected", None, sum(n for *_, n in unexpected(kinds, outcomes)), 0)
    yield Row("kinds of calls that were not made", None, sum(not outcomes.get(kind.name) for kind in kinds), 0)
    yield Row("errors in the gateway's log", None, errors, 0)


def under_load(samples: Sequence[Sample], phases: Phases) -> tuple[float, float]:
    """MiB in the first and in the last tenth of the time under load, once warm: medians."""
    tenth = (phases.end - phases.warm) * _TENTH
    first = [one.rss for one in samples if phases.warm <= one.at <= phases.warm + tenth]
    last = [one.rss for one in samples if phases.end - tenth <= one.at <= phases.end]
    return statistics.median(first), statistics.median(last)


def unexpected(kinds: Sequence[Kind], outcomes: Outcomes) -> Iterator[tuple[str, str, int]]:
    """Kind, outcome, and number of the calls that ended in no way that their kind may."""
    for kind in kinds:
        for outcome, number in outcomes.get(kind.name, {}).items():
            if outcome not in kind.expected:
                yield kind.name, outcome, number


def table(made: Sequence[Row]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| what | before | after | must | |"
    yield "|---|---|---|---|---|"
    for row in made:
        before = "" if row.before is None else f"{row.before:g}"
        yield f"| {row.what} | {before} | {row.after:.3g} | ≤ {row.most:g} | {'within' if row.within else '**OVER**'} |"


def calls(kinds: Sequence[Kind], outcomes: Outcomes) -> Iterator[str]:
    """How many calls of each kind ended how, as a Markdown table."""
    yield "| calls | number | ended |"
    yield "|---|---|---|"
    for kind in kinds:
        ended = sorted(outcomes.get(kind.name, {}).items(), key=lambda one: -one[1])
        told = ", ".join(f"{outcome} {number:,}" for outcome, number in ended)
        yield f"| {kind.name} | {sum(number for _, number in ended):,} | {told} |"
