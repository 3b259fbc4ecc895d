"""Where near hits come in: answers to questions that are similar, not the same.

An index of questions knows keys only; the answers themselves are where all answers are, so what is purged, damaged or
past its time is no near hit either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parley import v1
from parley_server.core.context import Context
from parley_server.pipeline.cache.keys import Scope


@dataclass(slots=True)
class Question:
    """A chat request that may be answered from the cache."""

    request: v1.ChatRequest
    scope: Scope
    """Within what answers are shared: never across it."""
    key: bytes
    """Of the exact answer."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """A question that was answered before."""

    key: bytes
    """Of its answer."""
    similarity: float


class Near(Protocol):
    """An index of questions by their meaning."""

    async def find(self, question: Question, least: float, ctx: Context) -> Sequence[Nearby]:
        """Questions of the same scope that are at least so similar (0 to 1), the most similar one first.

        Called after an exact miss, where similar ones will do. It must not raise, and it must not take longer than the
        call can wait: what cannot be asked has nothing to tell.
        """
        ...

    async def keep(self, question: Question, seconds: float, ctx: Context) -> None:
        """The question has been answered, and the answer is kept under its key for so many seconds.

        Called in the background, where similar ones would have done. It must not raise.
        """
        ...

    @property
    def threshold(self) -> float:
        """How similar a question has to be where nobody says."""
        ...
