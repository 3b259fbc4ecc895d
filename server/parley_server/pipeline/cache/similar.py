"""Questions that were answered before and ask nearly the same: found by their last turn, with everything else equal.

Partitions are hard: a hash over tenant, namespace, target, and the whole request without the words of its last turn, so
system prompt, tools, schema, sampling and history are the same to the bit. Within one the vectors of last turns are
compared and, since vectors of short texts are blind to what matters most, their words (`wording.py`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from parley import v1
from parley_server.core.context import Context
from parley_server.embedders.base import CannotEmbed, Embedder, Vector
from parley_server.pipeline.cache.keys import Keys
from parley_server.pipeline.cache.near import Nearby, Question
from parley_server.pipeline.cache.wording import Wording, same, wording
from parley_server.stores.vectors.base import Vectors

_MOST = 8  # similar questions that are looked at
_REMEMBERED = 512  # vectors of questions that are being answered
_KEEPING = 10.0  # seconds that embedding a question may take once it has been answered

log = structlog.get_logger("parley.cache")


@dataclass(frozen=True, slots=True)
class SimilarPolicy:
    """How similar questions are looked for."""

    timeout: float = 0.3
    """Seconds that it may take at most; then there are none."""
    words: bool = True
    """Whether words are compared as well."""
    longest: int = 1000
    """Characters of a last turn; for longer ones only the same will do."""
    threshold: float | None = None
    """How similar questions have to be where nobody says; None: as the embedder has it."""


@dataclass(slots=True)
class SimilarCounts:
    """Numbers of events since the start."""

    lookups: int = 0
    late: int = 0
    """Lookups that took too long."""
    not_embedded: int = 0
    """Questions without a vector: too long for the embedder, in words that it does not know, or it was too busy."""
    vetoed: int = 0
    """Questions with similar vectors that differ in their words."""
    kept: int = 0


class Similar:
    """The index of questions, as near.py wants it. `keys`: those of the cache, as they are now."""

    def __init__(
        self,
        vectors: Vectors,
        embedder: Embedder,
        keys: Callable[[], Keys],
        policy: SimilarPolicy,
        counts: SimilarCounts,
    ) -> None:
        self._vectors = vectors
        self._embedder = embedder
        self._keys = keys
        self._policy = policy
        self._counts = counts
        self._remembered: OrderedDict[bytes, Vector] = OrderedDict()

    @property
    def threshold(self) -> float:
        return self._embedder.threshold if self._policy.threshold is None else self._policy.threshold

    async def find(self, question: Question, least: float, ctx: Context) -> Sequence[Nearby]:
        asked = self._asked(question)
        if asked is None:
            return ()
        self._counts.lookups += 1
        remaining = ctx.remaining()
        timeout = self._policy.timeout if remaining is None else min(self._policy.timeout, remaining)
        try:
            async with asyncio.timeout(timeout):
                if await self._vectors.is_empty(asked.partition):
                    return ()  # without an embedding, which takes time
                vector = await self._embedder.embed(asked.text, replace(ctx, deadline=ctx.clock() + timeout))
                self._remember(question.key, vector)
                found = await self._vectors.find(asked.partition, vector, least, _MOST)
        except TimeoutError:
            self._counts.late += 1
            return ()
        except CannotEmbed as error:
            self._cannot(error, ctx)
            return ()
        except Exception:  # a call is not to fail for having looked for something better
            log.exception("bug", request_id=ctx.request_id)
            return ()
        agreed = [near for near in found if asked.agrees(near.note)]
        self._counts.vetoed += len(found) - len(agreed)
        return [Nearby(near.id, near.similarity) for near in agreed if near.id != question.key]

    async def keep(self, question: Question, seconds: float, ctx: Context) -> None:
        asked = self._asked(question)
        if asked is None:
            return
        vector = self._remembered.pop(question.key, None)
        if vector is None:
            try:
                async with asyncio.timeout(_KEEPING):
                    vector = await self._embedder.embed(asked.text, replace(ctx, deadline=ctx.clock() + _KEEPING))
            except TimeoutError:
                self._counts.late += 1
                return
            except CannotEmbed as error:
                self._cannot(error, ctx)
                return
        await self._vectors.add(asked.partition, question.key, vector, asked.text.encode(), seconds)
        self._counts.kept += 1

    def _asked(self, question: Question) -> _Asked | None:
        text = last_turn(question.request, self._policy.longest)
        if text is None:
            return None
        words = wording(text) if self._policy.words else None
        if words is not None and not words.content:
            return None
        signature = b"" if words is None else words.signature
        partition = self._keys().near(question.request, question.scope, self._embedder.name, signature)
        return _Asked(text, words, partition)

    def _remember(self, key: bytes, vector: Vector) -> None:
        """The answer may have to be made: then the question is kept with the same vector."""
        self._remembered[key] = vector
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    def _cannot(self, error: CannotEmbed, ctx: Context) -> None:
        self._counts.not_embedded += 1
        log.debug("question_not_embedded", request_id=ctx.request_id, reason=str(error))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A last turn. `words`: None where they do not count."""

    text: str
    words: Wording | None
    partition: bytes

    def agrees(self, note: bytes) -> bool:
        """Whether the words of the question that was kept with `note` ask the same."""
        return self.words is None or same(self.words, wording(note.decode(errors="replace")))


def last_turn(request: v1.ChatRequest, longest: int) -> str | None:
    """The text of the last turn; None if it is not the user's, has anything but text, or too much of it."""
    if not request.messages:
        return None
    message = request.messages[-1]
    if message.role != v1.ROLE_USER or any(part.WhichOneof("kind") != "text" for part in message.parts):
        return None
    text = "\n".join(part.text for part in message.parts).strip()
    return text if 0 < len(text) <= longest else None
