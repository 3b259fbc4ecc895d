"""How often similar questions are found, and how often wrongly: `python -m tests.questions.judged` prints a table."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from parley_server.embedders.base import Embedder
from parley_server.embedders.installed import minilm_folder
from parley_server.embedders.minilm import MiniLM
from parley_server.embedders.ngrams import HashedNgrams
from parley_server.pipeline.cache.similar import SimilarPolicy
from tests.questions.pairs import SETS, Pair, pairs
from tests.questions.scene import Scene, question_of


@dataclass
class Judged:
    """What came of pairs: `right` ones are the same and found to be, `wrong` ones are found to be and are not."""

    pairs: int
    right: int
    wrong: list[Pair]

    @property
    def precision(self) -> float:
        """Of those that were found to be the same, the share that is."""
        found = self.right + len(self.wrong)
        return self.right / found if found else 1.0

    @property
    def recall(self) -> float:
        """Of those that are the same, the share that was found to be."""
        return self.right / self.pairs


async def judged(some: Sequence[Pair], embedder: Embedder, threshold: float, *, words: bool) -> Judged:
    """Each pair by itself: is the one question found for the other? Either way, since order should not matter."""
    right, wrong = 0, []
    for pair in some:
        found = False
        for kept, asked in ((pair.one, pair.other), (pair.other, pair.one)):
            there = Scene(embedder, SimilarPolicy(timeout=30, words=words))
            await there.keep(kept)
            found = bool(await there.find(asked, threshold)) or found
            await there.vectors.aclose()
        if found and pair.is_same:
            right += 1
        elif found:
            wrong.append(pair)
    return Judged(sum(pair.is_same for pair in some), right, wrong)


async def crowded(some: Sequence[Pair], embedder: Embedder, threshold: float, *, words: bool) -> Judged:
    """All of them at once: the first questions of all pairs are kept, the others look for whatever is there."""
    there = Scene(embedder, SimilarPolicy(timeout=30, words=words))
    kept = {(await there.keep(pair.one)).key: pair.one for pair in some}
    meant = {frozenset((pair.one, pair.other)) for pair in some if pair.is_same}
    right, wrong = 0, []
    for pair in some:
        near = next((near for near in await there.find(pair.other, threshold)), None)
        if near is None or near.key == question_of(pair.other).key:
            continue
        if frozenset((kept[near.key], pair.other)) in meant:
            right += pair.is_same
        else:
            wrong.append(Pair("crowd", kept[near.key], pair.other))
    await there.vectors.aclose()
    return Judged(sum(pair.is_same for pair in some), right, wrong)


async def main() -> None:
    folder = minilm_folder()
    assert folder is not None
    print("| pairs | embedder | words | threshold | precision | recall | wrong |")
    print("|---|---|---|---|---|---|---|")
    for embedder in (MiniLM(folder), HashedNgrams()):
        for which in SETS:
            for words in (True, False):
                for threshold in sorted({embedder.threshold, *map(float, sys.argv[1:])}):
                    said = await judged(pairs(which), embedder, threshold, words=words)
                    print(
                        f"| {which} | {embedder.name} | {'yes' if words else 'no'} | {threshold} "
                        f"| {said.precision:.3f} | {said.recall:.3f} | {len(said.wrong)} |"
                    )
        await embedder.aclose()


if __name__ == "__main__":
    asyncio.run(main())
