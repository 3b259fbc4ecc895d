"""The cache of answers, as settings and stores make it."""

from __future__ import annotations

import dataclasses
import math
import time

from parley.admin import v1 as admin
from parley_server.config import Config
from parley_server.pipeline.cache import Answers, Keys, Purge
from parley_server.shelves import Stores


def build(settings: Config, stores: Stores) -> Answers:
    """The answers for `settings`: in `stores` too, where these outlive the process."""
    return Answers(
        Keys(stores.seals.secret),
        settings.cache.memory_bytes,
        time.time,
        shared=(stores.keyvalue("cache"), stores.messages("cache")) if stores.shared else None,
        seals=stores.seals,
        is_needed=lambda: stores.health.mode("cache") == "closed",
    )


def adapt(answers: Answers, settings: Config, stores: Stores) -> None:
    """Go on with other settings. Without a secret of its own, the cache keeps the one that it was built with."""
    secret = settings.cache.hash_secret() or stores.seals.secret
    stores.seals.adapt(secret, settings.cache.sealing_keys())
    answers.adapt(Keys(secret), settings.cache.memory_bytes)


class Cached:
    """The cache, as the admin port shows it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def stats(self) -> admin.GetCacheStatsResponse:
        """What it has done since it started."""
        answers = self._answers
        response = admin.GetCacheStatsResponse(
            entries=len(answers.memory),
            bytes=answers.memory.size,
            max_bytes=answers.memory.max_bytes,
            **dataclasses.asdict(answers.counts),
        )
        response.start_time.FromNanoseconds(int(answers.started * 1e9))
        return response

    async def purge(self, request: admin.PurgeCacheRequest) -> admin.PurgeCacheResponse:
        """Forget answers everywhere. Raises StoreUnavailable: then it is done here only."""
        age = request.min_age.seconds + request.min_age.nanos / 1e9
        purge = Purge(
            tenant=request.tenant if request.HasField("tenant") else None,
            model=request.model,
            namespace=request.namespace if request.HasField("namespace") else None,
            key=bytes.fromhex(request.key),
            before=self._answers.wall() - age if request.HasField("min_age") else math.inf,
        )
        return admin.PurgeCacheResponse(purged_entries=await self._answers.purge(purge))
