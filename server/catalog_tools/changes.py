"""Compares two states of the catalogue: what to show, what to refuse, and which rows were looked at today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from catalog_tools.merge import Key, Row
from catalog_tools.pricelist import factor, spelt

ABSURD = Decimal(10)
"""A price that changes by more than this factor is more likely a mistake of a source than a change of price. So is a
tenth of all models that disappear."""


@dataclass(slots=True)
class Changes:
    """What a refresh would do."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    prices: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    absurd: list[str] = field(default_factory=list)

    def summary(self, full: bool) -> str:
        """Counts, and below each its lines: all if `full`, else the first forty."""
        parts = []
        for title, lines in (
            ("added", self.added),
            ("removed", self.removed),
            ("with other prices", self.prices),
            ("with other facts", self.facts),
            ("absurd", self.absurd),
        ):
            shown = lines if full else lines[:40]
            more = [f"  … and {len(lines) - len(shown)} more (--full)"] if len(lines) > len(shown) else []
            parts += [f"{len(lines)} {title}", *(f"  {line}" for line in shown), *more]
        return "\n".join(parts)


def compared(old: Mapping[Key, Row], new: Mapping[Key, Row]) -> Changes:
    """From `old` to `new`."""
    changes = Changes(
        added=[_name(key) for key in new if key not in old], removed=[_name(key) for key in old if key not in new]
    )
    for key in new.keys() & old.keys():
        before, after = old[key], new[key]
        was, now = before.get("price", {}), after.get("price", {})
        if was != now or before.get("tiers") != after.get("tiers"):
            changes.prices.append(f"{_name(key)}: {spelt(was) or 'none'} -> {spelt(now) or 'none'}")
        for kind in was.keys() & now.keys():
            if factor(was[kind], now[kind]) > ABSURD:
                changes.absurd.append(f"{_name(key)}: {kind} {was[kind]} -> {now[kind]}")
        fields = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        fields = [name for name in fields if name not in ("price", "tiers", "price_up_to", "sources", "checked")]
        if fields:
            changes.facts.append(f"{_name(key)}: {', '.join(fields)}")
    if len(changes.removed) * 10 > len(old):
        changes.absurd.append(f"{len(changes.removed)} of {len(old)} models gone")
    for lines in (changes.prices, changes.facts, changes.absurd):
        lines.sort()
    return changes


def dated(old: Mapping[Key, Row], new: Mapping[Key, Row], today: str) -> list[Row]:
    """The new rows, each with the day since which it is as it is."""
    return [row | {"checked": _since(old.get(key), row, today)} for key, row in new.items()]


def _since(before: Row | None, after: Row, today: str) -> str:
    if before is not None and "checked" in before and {**before, "checked": ""} == {**after, "checked": ""}:
        return str(before["checked"])
    return today


def _name(key: Key) -> str:
    return "/".join(key)


def rows(data: Mapping[str, Any]) -> dict[Key, Row]:
    """The rows of a catalogue file by provider and name."""
    return {(row["provider"], row["model"]): row for row in data["models"]}
