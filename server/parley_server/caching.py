"""The cache of answers, as settings and stores make it."""

from __future__ import annotations

import os
import time

from parley_server.config import Config
from parley_server.pipeline.cache import Answers, Keys, Seals
from parley_server.shelves import Stores


def build(settings: Config, stores: Stores) -> Answers:
    """The answers for `settings`: in `stores` too, where these outlive the process."""
    shared = settings.redis.url is not None or settings.storage.path is not None
    secret = settings.cache.hash_secret() or (b"" if shared else os.urandom(32))
    return Answers(
        Keys(secret),
        settings.cache.memory_bytes,
        time.time,
        shared=(stores.keyvalue("cache"), stores.messages("cache")) if shared else None,
        seals=Seals(secret, settings.cache.sealing_keys()),
    )


def adapt(answers: Answers, settings: Config) -> None:
    """Go on with other settings. Without a secret of its own, the cache keeps the one that it was built with."""
    secret = settings.cache.hash_secret() or answers.keys.secret
    answers.adapt(Keys(secret), settings.cache.memory_bytes, Seals(secret, settings.cache.sealing_keys()))
