"""How many times less the gateway takes than each peer, and what it has to be. The floor shows what is possible."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.report import span

Samples = Mapping[str, Mapping[str, list[float]]]
"""By measure and target, one number for each repetition."""


@dataclass(frozen=True)
class Against:
    """What the gateway may take: at most the peer's figure divided by `must`."""

    measure: str
    title: str
    peer: str
    must: float | None = None


NAMES = {"litellm": "LiteLLM", "portkey": "Portkey"}

BUDGETS = (
    Against("unary", "Chat, CPU a request, µs", "litellm", 12),
    Against("unary", "Chat, CPU a request, µs", "portkey", 2),
    Against("stream", "stream unpaced, CPU an upstream event, µs", "litellm", 40),
    Against("stream", "stream unpaced, CPU an upstream event, µs", "portkey", 2),
    Against("paced", "stream 4 events per 10 ms, CPU an upstream event, µs", "litellm"),
    Against("paced", "stream 4 events per 10 ms, CPU an upstream event, µs", "portkey"),
    Against("peak", "peak memory, MiB", "litellm"),
    Against("peak", "peak memory, MiB", "portkey"),
)


def rows(samples: Samples) -> list[dict[str, Any]]:
    """One entry for each measure that was made of a peer; `value` is what the budget is about."""
    found = []
    for budget in BUDGETS:
        made = samples.get(budget.measure, {})
        if budget.peer in made:
            times = [theirs / ours for theirs, ours in zip(made[budget.peer], made["gateway"], strict=True)]
            value = statistics.median(times)
            found.append(
                {
                    "measure": budget.measure,
                    "title": budget.title,
                    "peer": budget.peer,
                    "theirs": made[budget.peer],
                    "gateway": made["gateway"],
                    "times": times,
                    "floor": [theirs / bare for theirs, bare in zip(made[budget.peer], made["floor"], strict=True)],
                    "value": value,
                    "must": budget.must,
                    "within": budget.must is None or value >= budget.must,
                }
            )
    return found


def table(made: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| measure | peer | theirs | gateway | theirs ÷ gateway | must | | theirs ÷ floor |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in made:
        must = "" if row["must"] is None else f"≥ {row['must']:g}"
        verdict = "" if row["must"] is None else "within" if row["within"] else "**OVER**"
        figures = [span(row[name]) for name in ("theirs", "gateway", "times")]
        yield f"| {' | '.join([row['title'], NAMES[row['peer']], *figures, must, verdict, span(row['floor'])])} |"
