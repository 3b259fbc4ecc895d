"""Runs the checks over a folder of recordings and says what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.adapter import ChatAdapter, EmbedAdapter
from tests.conformance.checks import Miss, check
from tests.conformance.recording import Recording, walk

ENOUGH = 0.98
"""Share of the recordings that must pass."""

_KINDS: dict[str, Callable[[Recording], bool]] = {
    "unary": lambda r: r.status < 400 and not r.streamed and "embed" not in r.api,
    "stream": lambda r: r.streamed,
    "tools": lambda r: bool(r.tags & {"tools", "tool_call", "tool_result", "multi_tool"}),
    "vision": lambda r: "vision" in r.tags,
    "document": lambda r: "document" in r.tags,
    "audio": lambda r: "audio" in r.tags,
    "thinking": lambda r: "thinking" in r.tags,
    "structured": lambda r: "structured" in r.tags,
    "caching": lambda r: "caching" in r.tags,
    "embeddings": lambda r: "embed" in r.api,
    "errors": lambda r: r.status >= 400,
}


@dataclass(slots=True)
class Report:
    """What a run found. A recording passes if all its checks do; it may be of several kinds."""

    passed: int = 0
    all: int = 0
    cells: dict[str, Counter[str]] = field(default_factory=dict)
    """By dialect and provider: recordings of each kind, and under "-<kind>" those that missed."""
    misses: list[Miss] = field(default_factory=list)
    out_of_scope: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    """Checks that could not be made of recordings that count."""

    @property
    def good(self) -> bool:
        """Whether enough recordings passed; none at all is not enough."""
        return self.all > 0 and self.passed >= ENOUGH * self.all

    def add(self, adapter: ChatAdapter | EmbedAdapter, recording: Recording) -> None:
        """Check one recording."""
        if reason := adapter.out_of_scope(recording):
            self.out_of_scope[f"{adapter.name}: {reason}"] += 1
            return
        misses, notes = check(adapter, recording)
        self.notes.update(f"{adapter.name}: {note}" for note in notes)
        self.misses += misses
        self.all += 1
        self.passed += not misses
        row = self.cells.setdefault(f"{adapter.name} / {recording.provider}", Counter())
        for kind, holds in _KINDS.items():
            if holds(recording):
                row[kind] += 1
                row[f"-{kind}"] += bool(misses)

    def lines(self) -> list[str]:
        """The report: misses, what was left out, the table, and the sum as the last line."""
        lines = [f"miss: {miss.file} [{miss.check}] {miss.reason}" for miss in self.misses]
        lines += [f"out of scope: {count} × {reason}" for reason, count in sorted(self.out_of_scope.items())]
        lines += [f"note: {count} × {reason}" for reason, count in sorted(self.notes.items())]
        width = max((len(name) for name in self.cells), default=0)
        lines.append(" ".join([" " * width, *(f"{kind:>11}" for kind in _KINDS)]))
        for name, row in sorted(self.cells.items()):
            cells = (f"{row[kind] - row['-' + kind]}/{row[kind]}" if row[kind] else "·" for kind in _KINDS)
            lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>11}" for cell in cells)]))
        return [*lines, f"conformance: {self.passed} of {self.all}"]


def run(root: Path, adapters: Iterable[ChatAdapter | EmbedAdapter], provider: str | None = None) -> Report:
    """Check every recording below `root` that an adapter covers; those of one provider if asked."""
    report, adapters = Report(), list(adapters)
    for recording in walk(root, provider):
        adapter = next((adapter for adapter in adapters if adapter.covers(recording)), None)
        if adapter is not None:
            report.add(adapter, recording)
    return report
