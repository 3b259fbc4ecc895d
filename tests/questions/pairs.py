"""Pairs of questions, made for these tests: `same` ones ask the same in other words, the others only look like it.

`pairs.tsv` has four columns: set, kind, and the two questions. The lists of words were made with an eye on the set
`tuning`. Of the set `judging`, which was written before, only totals were looked at meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Set = Literal["tuning", "judging"]
SETS: tuple[Set, ...] = get_args(Set)


@dataclass(frozen=True)
class Pair:
    """Two questions. `kind`: "same", or what makes the difference."""

    kind: str
    one: str
    other: str

    @property
    def is_same(self) -> bool:
        return self.kind == "same"


def pairs(which: Set) -> list[Pair]:
    """The pairs of a set."""
    lines = Path(__file__).with_name("pairs.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [Pair(kind, one, other) for name, kind, one, other in rows if name == which]
