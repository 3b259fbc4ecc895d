"""What the gateway holds at this moment, by name: read by the log, by tests, and by whoever exports numbers.

A gauge is a function that looks: what nobody asks for costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Series: TypeAlias = Mapping[tuple[str, ...], float]
"""Several numbers of one name, by the values of what tells them apart."""
Shown: TypeAlias = float | Series


class Gauges:
    """Numbers that are looked up when they are asked for."""

    def __init__(self) -> None:
        self._looks: dict[str, Callable[[], float]] = {}
        self._series: dict[str, Callable[[], Series]] = {}

    def add(self, name: str, look: Callable[[], float]) -> None:
        """`look` gives the number called `name`; one of that name before it is replaced."""
        self._looks[name] = look

    def add_series(self, name: str, look: Callable[[], Series]) -> None:
        """`look` gives the numbers called `name`."""
        self._series[name] = look

    def read(self) -> dict[str, float]:
        """All numbers that stand alone, as they are now."""
        return {name: look() for name, look in self._looks.items()}

    def read_all(self) -> dict[str, Shown]:
        """All numbers as they are now."""
        return {**self.read(), **{name: look() for name, look in self._series.items()}}
