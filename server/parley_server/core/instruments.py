"""What is counted as it happens: counters and histograms, bound to the values of their attributes once.

An instrument is described by a row of a table, a `Family` keeps its cells, one for each combination of attribute
values. Whoever counts finds its cell when it is built and then only adds to it, within a tenth of a microsecond. Cells
are written on the event loop alone and may be read on any thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

MOST: Final = 2000
"""Cells of one family, as OpenTelemetry suggests; further combinations of attribute values share one cell."""

Kind = Literal["histogram", "counter", "up_down_counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """Name, unit (UCUM) and attributes are those of OpenTelemetry.

    `bounds` of a histogram: upper ends of its buckets, included, in order; there is one more bucket without an end.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self, _instrument: Instrument) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count `amount`, 0 or more."""
        self.value += amount


class Histogram:
    """Numbers by size. `counts`: how many fell into each bucket."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, instrument: Instrument) -> None:
        self._bounds = instrument.bounds
        self.counts = [0] * (len(instrument.bounds) + 1)
        self.sum = 0.0

    def record(self, value: float) -> None:
        """Count one value, 0 or more."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


Cell = TypeVar("Cell", bound=Counter | Histogram)


class Family(Generic[Cell]):
    """The cells of one instrument, by the values of its attributes."""

    def __init__(self, instrument: Instrument, make: Callable[[Instrument], Cell], most: int = MOST) -> None:
        self.instrument = instrument
        self._make = make
        self._most = most
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._others: Cell | None = None

    def of(self, *values: str) -> Cell:
        """The cell for these values, in the order of the instrument's attributes; an empty one stands for none."""
        cell = self._cells.get(values)
        if cell is not None:
            return cell
        if len(values) != len(self.instrument.attributes):
            raise ValueError(f"{self.instrument.name} has the attributes {self.instrument.attributes}, not {values}")
        if len(self._cells) >= self._most:
            if self._others is None:
                self._others = self._make(self.instrument)
            return self._others
        cell = self._cells[values] = self._make(self.instrument)
        return cell

    def cells(self) -> list[tuple[tuple[str, ...] | None, Cell]]:
        """All there are, with their values; None are those of the cell that the rest shares."""
        found: list[tuple[tuple[str, ...] | None, Cell]] = list(self._cells.items())  # at once: others may add
        return found if self._others is None else [*found, (None, self._others)]


class Families:
    """Families by the name of their instrument."""

    def __init__(self, table: Iterable[Instrument]) -> None:
        rows = list(table)
        self.counters = {row.name: Family(row, Counter) for row in rows if row.kind == "counter"}
        self.histograms = {row.name: Family(row, Histogram) for row in rows if row.kind == "histogram"}
