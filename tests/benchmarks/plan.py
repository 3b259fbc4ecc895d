"""How often things are measured, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """How often: numbers of requests for each repetition, and for the tests of endurance."""

    repetitions: int
    whole: int = 3000
    streams: int = 500
    paced: int = 150
    first: int = 1000
    dialects: int = 300
    decode: int = 60
    soak: int = 100_000
    cancelled: int = 20_000


QUICK = Plan(
    repetitions=3, whole=1500, streams=250, paced=100, first=400, dialects=150, decode=30, soak=10_000, cancelled=2_000
)
FULL = Plan(repetitions=5)


@dataclass
class Figures:
    """By measure and target, one number for each repetition; and remarks on the run."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def add(self, key: str, target: str, value: float) -> None:
        """One more repetition."""
        self.samples.setdefault(key, {}).setdefault(target, []).append(value)
