"""The index of questions with what it is made of: embedders, vectors, keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from parley import v1
from parley_server.core.context import Context
from parley_server.embedders.base import CannotEmbed, Embedder, Vector
from parley_server.pipeline.cache.keys import Keys, Scope, Target
from parley_server.pipeline.cache.near import Nearby, Question
from parley_server.pipeline.cache.similar import Similar, SimilarCounts, SimilarPolicy
from parley_server.stores.vectors.index import VectorIndex

KEYS = Keys(b"secret")
SCOPE = Scope("tenant", "", Target("a/m", primary="a/m"))


class Topics:
    """An embedder that knows topics by a word, and counts what it is asked."""

    name = "topics"
    threshold = 0.8

    def __init__(self, **directions: tuple[float, ...]) -> None:
        self.directions: Mapping[str, tuple[float, ...]] = directions
        self.asked: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def embed(self, text: str, ctx: Context) -> Vector:
        self.asked.append(text)
        await self.go_on.wait()
        for topic, direction in self.directions.items():
            if topic in text:
                vector = np.array(direction, np.float32)
                return vector / np.float32(np.linalg.norm(vector))
        raise CannotEmbed("it is about nothing that I know")

    async def aclose(self) -> None:
        pass


class Scene:
    """The index, for one embedder."""

    def __init__(self, embedder: Embedder, policy: SimilarPolicy | None = None, most: int = 10_000) -> None:
        self.counts = SimilarCounts()
        self.vectors = VectorIndex(most, asyncio.get_running_loop().time)
        self.similar = Similar(self.vectors, embedder, lambda: KEYS, policy or SimilarPolicy(), self.counts)

    def context(self, deadline: float | None = None) -> Context:
        clock = asyncio.get_running_loop().time
        due = None if deadline is None else clock() + deadline
        return Context("chat", False, "request", "response", clock=clock, deadline=due)

    async def keep(self, asked: v1.ChatRequest | str, scope: Scope = SCOPE, *, ctx: Context | None = None) -> Question:
        """The question, which has been answered."""
        question = question_of(asked, scope)
        await self.similar.keep(question, 100, ctx or self.context())
        return question

    async def find(
        self, asked: v1.ChatRequest | str, least: float = 0.8, scope: Scope = SCOPE, *, ctx: Context | None = None
    ) -> list[Nearby]:
        return list(await self.similar.find(question_of(asked, scope), least, ctx or self.context()))


def question_of(asked: v1.ChatRequest | str, scope: Scope = SCOPE) -> Question:
    request = ask(asked) if isinstance(asked, str) else asked
    return Question(request, scope, KEYS.chat(request, scope))


def ask(text: str, change: Callable[[v1.ChatRequest], object] = lambda request: None) -> v1.ChatRequest:
    """A request whose last turn is `text`, changed a little."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
    request = v1.ChatRequest(model="a/m", messages=[message])
    change(request)
    return request
