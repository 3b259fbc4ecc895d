"""The table of a run: median, least and most of every measure, the ratio to the floor, and the verdict."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from tests.benchmarks.measures import MEASURES, Measure
from tests.benchmarks.plan import Figures

_LIBRARIES = ("grpcio", "protobuf", "uvloop", "aiohttp", "httpx-aiohttp", "orjson")


def rows(figures: Figures) -> list[dict[str, Any]]:
    """One entry for each measure that was made; `value` is what the budget is about."""
    return [_row(measure, figures.samples[measure.key]) for measure in MEASURES if measure.key in figures.samples]


def _row(measure: Measure, samples: dict[str, list[float]]) -> dict[str, Any]:
    gateway, floor = samples["gateway"], samples.get("floor", [])
    judged = [a / b for a, b in zip(gateway, floor, strict=True)] if measure.is_ratio else gateway
    value = statistics.median(judged)
    return {
        "measure": measure.key,
        "title": measure.title,
        "unit": measure.unit,
        "floor": floor,
        "gateway": gateway,
        "ratio": [a / b for a, b in zip(gateway, floor, strict=True)] if measure.is_ratio else [],
        "value": value,
        "must": measure.must,
        "aim": measure.aim,
        "within": measure.must is None or value <= measure.must,
    }


def table(made: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| measure | floor | gateway | ratio | must | aim | |"
    yield "|---|---|---|---|---|---|---|"
    for row in made:
        mark = "×" if row["ratio"] else ""
        bounds = [f"≤ {row[name]:g}{mark}" if row[name] is not None else "" for name in ("must", "aim")]
        verdict = "" if row["must"] is None else "within" if row["within"] else "**OVER**"
        title = f"{row['title']}, {row['unit']}" if row["unit"] else row["title"]
        cells = [title, span(row["floor"]), span(row["gateway"]), span(row["ratio"]), *bounds, verdict]
        yield f"| {' | '.join(cells)} |"


def span(values: list[float]) -> str:
    """The median, and the least and the most behind it."""
    if not values:
        return ""
    middle = statistics.median(values)
    if len(values) == 1:
        return _figure(middle)
    return f"{_figure(middle)} ({_figure(min(values))}–{_figure(max(values))})"


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def circumstances() -> dict[str, str]:
    """Where and with what the run is made."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cpus": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f} before the run",
        **{name: metadata.version(name) for name in _LIBRARIES},
    }
