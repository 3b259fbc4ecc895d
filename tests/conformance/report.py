"""Runs the checks over a folder of recordings and says what came out: a row for each provider's folder.

Whatever is in the folder shows up: as passed or missed in the table, or by name and number above it, with the reason
why it was not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.conformance.adapter import AnyAdapter
from tests.conformance.checks import Miss, check, operation
from tests.conformance.recording import Recording, load, paths

ENOUGH = 0.99
"""Share of the recordings that must pass."""

_KINDS: Mapping[str, Callable[[str, Recording], bool]] = MappingProxyType(
    {
        "unary": lambda does, r: r.status < 400 and not r.streamed and does == "chat",
        "stream": lambda does, r: r.streamed,
        "tools": lambda does, r: bool(r.tags & {"tools", "tool_call", "tool_result", "multi_tool"}),
        "vision": lambda does, r: "vision" in r.tags,
        "document": lambda does, r: "document" in r.tags,
        "audio": lambda does, r: "audio" in r.tags,
        "thinking": lambda does, r: "thinking" in r.tags,
        "structured": lambda does, r: "structured" in r.tags,
        "caching": lambda does, r: "caching" in r.tags,
        "embeddings": lambda does, r: does == "embed",
        "rerank": lambda does, r: does == "rerank",
        "errors": lambda does, r: r.status >= 400,
    }
)
_ALL = "all"

_OTHER_OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "batches": "batches",
        "batchGenerateContent": "batches",
        "cachedContents": "the management of cached contents",
        "completions": "the completion of bare text",
        "count_tokens": "the counting of tokens",
        "count-tokens": "the counting of tokens",
        "countTokens": "the counting of tokens",
        "tokenize-v1": "the counting of tokens",
        "images": "the making of images",
        "images-edit": "the making of images",
        "models": "listings of models, which no call is answered from",
        "models-v1": "listings of models, which no call is answered from",
        "moderations": "moderation",
        "ocr": "the reading of scans",
        "speech": "speech",
        "transcriptions": "transcription",
        "translations": "transcription",
    }
)
"""Endpoints of operations that `parley.v1` does not have, and what they are for."""


@dataclass(slots=True)
class Report:
    """What a run found. A recording passes if all its checks do; it may be of several kinds."""

    passed: int = 0
    all: int = 0
    cells: dict[str, Counter[str]] = field(default_factory=dict)
    """By folder: recordings of each kind, and under "-<kind>" those that missed."""
    misses: list[Miss] = field(default_factory=list)
    out_of_scope: Counter[str] = field(default_factory=Counter)
    uncovered: dict[str, Counter[str]] = field(default_factory=dict)
    """By folder and endpoint: recordings that no adapter covers."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Files that are no recordings, each with the reason."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By folder: files that were not counted, each of which is in one of the three lists above."""
    notes: Counter[str] = field(default_factory=Counter)
    """Checks that could not be made of recordings that count."""

    @property
    def good(self) -> bool:
        """Whether enough recordings passed; none at all is not enough."""
        return self.all > 0 and self.passed >= ENOUGH * self.all

    def add(self, recording: Recording, adapters: Sequence[AnyAdapter]) -> None:
        """Check one recording by the first adapter that covers it."""
        try:
            adapter = next((adapter for adapter in adapters if adapter.covers(recording)), None)
            if adapter is None:
                self.uncovered.setdefault(recording.folder, Counter())[recording.api] += 1
                self.left_out[recording.folder] += 1
                return
            if reason := adapter.out_of_scope(recording):
                self.out_of_scope[f"{recording.folder}, {adapter.name}: {reason}"] += 1
                self.left_out[recording.folder] += 1
                return
        except Exception as error:  # an adapter that chokes on a recording has not read it: it counts, and as a miss
            self._count("", recording, [Miss(recording.file, "adapter", f"{type(error).__name__}: {error}")])
            return
        misses, notes = check(adapter, recording)
        self.notes.update(f"{recording.folder}, {adapter.name}: {note}" for note in notes)
        self._count(operation(adapter), recording, misses)

    def _count(self, does: str, recording: Recording, misses: Sequence[Miss]) -> None:
        self.misses += misses
        self.all += 1
        self.passed += not misses
        row = self.cells.setdefault(recording.folder, Counter())
        for kind in (_ALL, *(kind for kind, holds in _KINDS.items() if holds(does, recording))):
            row[kind] += 1
            row[f"-{kind}"] += bool(misses)

    def not_read(self, folder: str, name: str, why: str) -> None:
        """A file that is no recording, or with an empty name a folder without any."""
        self.unreadable.append((f"{folder}/{name}", why))
        self.left_out[folder] += bool(name)

    def lines(self) -> list[str]:
        """The report: misses, what was not counted and why, the table, and the sum as the last line."""
        lines = [f"miss: {miss.file} [{miss.check}] {miss.reason}" for miss in self.misses]
        lines += [f"unreadable: {file}: {why}" for file, why in self.unreadable]
        lines += [line for folder, apis in sorted(self.uncovered.items()) for line in self._uncovered(folder, apis)]
        lines += [f"out of scope: {count} × {reason}" for reason, count in sorted(self.out_of_scope.items())]
        lines += [f"note: {count} × {reason}" for reason, count in sorted(self.notes.items())]
        return [*lines, *self._table(), f"conformance: {self.passed} of {self.all}"]

    def _uncovered(self, folder: str, apis: Counter[str]) -> list[str]:
        whole = "" if folder in self.cells else " (nothing of this folder is counted)"
        lines = []
        for api, count in sorted(apis.items()):
            why = f"no operation of parley.v1: {_OTHER_OPERATIONS[api]}" if api in _OTHER_OPERATIONS else "no adapter"
            lines.append(f"not covered: {folder}: {count} × {api}: {why}{whole}")
        return lines

    def _table(self) -> list[str]:
        kinds = (*_KINDS, _ALL)
        rows = {name: self.cells.get(name, Counter()) for name in sorted(self.cells.keys() | self.left_out.keys())}
        rows["total"] = sum(self.cells.values(), Counter())
        width = max(len(name) for name in rows)
        lines = [" ".join([" " * width, *(f"{kind:>11}" for kind in (*kinds, "left out"))])]
        for name, row in rows.items():
            cells = [f"{row[kind] - row['-' + kind]}/{row[kind]}" if row[kind] else "·" for kind in kinds]
            left_out = self.left_out.total() if row is rows["total"] else self.left_out[name]
            cells.append(str(left_out) if left_out else "·")
            lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>11}" for cell in cells)]))
        return lines


def run(root: Path, adapters: Iterable[AnyAdapter], provider: str | None = None) -> Report:
    """Check every recording below `root`, a folder for each provider; those of one of them if asked."""
    report, adapters = Report(), list(adapters)
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and provider in (None, path.name)):
        files = paths(folder)
        for path in files:
            try:
                recording = load(path)
            except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
                report.not_read(folder.name, path.name, f"{type(error).__name__}: {error}")
                continue
            report.add(recording, adapters)
        if not files:
            report.not_read(folder.name, "", "there are no recorded exchanges in this folder")
    return report
