"""The code blocks of a page: what language, what is said of them, and what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block. `word`: what stands behind the language, such as `file=conftest.py` or `not run: it needs a key`."""

    page: str
    number: int
    language: str
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}-{self.language}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found = enumerate(_BLOCK.findall((DOCS / page).read_text("utf-8")), start=1)
    return [Block(page, number, language, word.strip(), text) for number, (language, word, text) in found]
