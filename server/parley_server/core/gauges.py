"""What the gateway holds at this moment, by name: read by the log, by tests, and by whoever exports numbers.

A gauge is a function that looks: what nobody asks for costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable


class Gauges:
    """Numbers that are looked up when they are asked for."""

    def __init__(self) -> None:
        self._looks: dict[str, Callable[[], float]] = {}

    def add(self, name: str, look: Callable[[], float]) -> None:
        """`look` gives the number called `name`; one of that name before it is replaced."""
        self._looks[name] = look

    def read(self) -> dict[str, float]:
        """All numbers as they are now."""
        return {name: look() for name, look in self._looks.items()}
