"""Reranking without a model: a document is the better the more words it shares with the query."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")


def score(query: str, document: str) -> float:
    """Twice the number of distinct words in both, over the number of those in each: 0 to 1; case does not matter."""
    asked, said = _words(query), _words(document)
    both = len(asked) + len(said)
    return 2 * len(asked & said) / both if both else 0.0


def ranked(query: str, documents: Iterable[str]) -> list[tuple[int, float]]:
    """Indexes and scores, best first; of equal ones the first comes first."""
    scores = [(index, score(query, document)) for index, document in enumerate(documents)]
    return sorted(scores, key=lambda one: -one[1])


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
