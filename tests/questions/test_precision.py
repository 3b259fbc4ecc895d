"""How good near hits are, on pairs made for that (`pairs.tsv`): with the small model, at its own threshold."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from parley_server.core.context import Context
from parley_server.embedders.base import Embedder, Vector
from parley_server.embedders.installed import minilm_folder
from parley_server.embedders.minilm import MiniLM, load
from parley_server.pipeline.cache.similar import SimilarPolicy
from tests.questions.judged import crowded, judged
from tests.questions.pairs import pairs
from tests.questions.scene import Scene

JUDGING = pairs("judging")


class Loaded:
    """The small model, on the spot, and each text only once."""

    name, threshold = MiniLM.name, MiniLM.threshold

    def __init__(self, run: Callable[[str], Vector]) -> None:
        self._run = functools.cache(run)

    async def embed(self, text: str, ctx: Context) -> Vector:
        return self._run(text)

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    folder = minilm_folder()
    assert folder is not None
    return Loaded(load(folder))


def test_there_are_enough_pairs_of_each_kind() -> None:
    assert sum(pair.is_same for pair in JUDGING) >= 150
    assert sum(not pair.is_same for pair in JUDGING) >= 150
    assert len({pair.one for pair in JUDGING}) > 300


async def test_of_a_hundred_near_hits_at_most_one_is_wrong(minilm: Embedder) -> None:
    alone = await judged(JUDGING, minilm, minilm.threshold, words=True)
    assert alone.precision >= 0.99, alone.wrong
    assert alone.recall >= 0.45
    among_all = await crowded(JUDGING, minilm, minilm.threshold, words=True)
    assert among_all.precision >= 0.99, among_all.wrong
    assert among_all.recall >= 0.45


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95, 0.98])
async def test_similarity_alone_would_not_do(minilm: Embedder, threshold: float) -> None:
    """Why words are compared too: no threshold tells the pairs apart."""
    said = await judged(JUDGING, minilm, threshold, words=False)
    assert said.precision < 0.75


async def test_texts_beyond_the_model_are_only_ever_the_same(minilm: Embedder) -> None:
    there = Scene(minilm, SimilarPolicy(words=False))
    for text in ("Tell me what is in this list: " + ", ".join(f"item {n}" for n in range(100)), "What is 🦜 in Latin?"):
        await there.keep(text)
        assert await there.find(text + " Please.", 0) == []
    assert there.counts.not_embedded == 2
    assert len(there.vectors) == 0
