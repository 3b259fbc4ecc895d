"""The index of similar questions, as settings and stores make it. What it takes is imported where it is wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parley_server.config_semantic import Semantic
from parley_server.core.service import Service
from parley_server.embedders.base import Embedder
from parley_server.embedders.installed import MINILM, NGRAMS, minilm_folder
from parley_server.pipeline.cache import Answers
from parley_server.pipeline.cache.near import Near
from parley_server.pipeline.cache.purges import Purge
from parley_server.pipeline.cache.similar import Similar, SimilarCounts, SimilarPolicy
from parley_server.shelves import Stores

if TYPE_CHECKING:
    from parley_server.stores.vectors.index import VectorIndex


class Questions:
    """What outlives configurations: the index, and the embedders of this process. Made when they are first wanted."""

    def __init__(self, answers: Answers, stores: Stores) -> None:
        self.counts = SimilarCounts()
        self.index: VectorIndex | None = None
        self._answers = answers
        answers.on_purge = self._purged
        self._stores = stores
        self._local: dict[str, Embedder] = {}

    @property
    def held(self) -> int:
        """Questions in this process's memory."""
        return 0 if self.index is None else len(self.index)

    def near(self, settings: Semantic, embed: Service) -> Near | None:
        """What finds similar questions under these settings; None if nobody wants that.

        `embed`: what embedding requests pass behind the cache. On the event loop, once the stores are open.
        """
        if not settings.enabled:
            return None
        return Similar(
            self._index(settings),
            self._embedder(settings.embedder, embed),
            lambda: self._answers.keys,
            SimilarPolicy(settings.timeout, settings.words, settings.longest, settings.threshold),
            self.counts,
        )

    async def aclose(self) -> None:
        """Stop what runs in the background."""
        if self.index is not None:
            await self.index.aclose()
        for embedder in self._local.values():
            await embedder.aclose()

    async def _purged(self, purge: Purge) -> None:
        """Forget the questions too, of a tenant or all; where some answers are left, those without one expire."""
        if self.index is not None and purge.spares_nothing:
            await self.index.drop(b"" if purge.tenant is None else self._answers.keys.nearby(purge.tenant))

    def _index(self, settings: Semantic) -> VectorIndex:
        if self.index is None:
            from threadpoolctl import threadpool_limits

            from parley_server.stores.vectors.index import SharedVectors, VectorIndex

            threadpool_limits(1, user_api="blas")  # the others of this machine's processors have calls to serve
            shared = None
            if self._stores.shared:
                groups, messages = self._stores.groups("cache"), self._stores.messages("cache")
                shared = SharedVectors(groups, messages, self._stores.seals)
            self.index = VectorIndex(settings.max_entries, time.monotonic, shared)
            self.index.start()
        self.index.most = settings.max_entries
        return self.index

    def _embedder(self, name: str, embed: Service) -> Embedder:
        from parley_server.embedders.model import ModelEmbedder

        if name not in (MINILM, NGRAMS):
            return ModelEmbedder(name, embed)
        if name not in self._local:
            self._local[name] = _local(name)
        return self._local[name]


def _local(name: str) -> Embedder:
    from parley_server.embedders.minilm import MiniLM
    from parley_server.embedders.ngrams import HashedNgrams

    if name == NGRAMS:
        return HashedNgrams()
    folder = minilm_folder()
    if folder is None:  # was there when the settings were checked
        raise RuntimeError("the weights of minilm are not installed")
    return MiniLM(folder)
