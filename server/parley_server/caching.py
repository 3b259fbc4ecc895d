"""The cache of answers, as settings and stores make it."""

from __future__ import annotations

import time

from parley_server.config import Config
from parley_server.pipeline.cache import Answers, Keys
from parley_server.shelves import Stores


def build(settings: Config, stores: Stores) -> Answers:
    """The answers for `settings`: in `stores` too, where these outlive the process."""
    return Answers(
        Keys(stores.seals.secret),
        settings.cache.memory_bytes,
        time.time,
        shared=(stores.keyvalue("cache"), stores.messages("cache")) if stores.shared else None,
        seals=stores.seals,
    )


def adapt(answers: Answers, settings: Config, stores: Stores) -> None:
    """Go on with other settings. Without a secret of its own, the cache keeps the one that it was built with."""
    secret = settings.cache.hash_secret() or stores.seals.secret
    stores.seals.adapt(secret, settings.cache.sealing_keys())
    answers.adapt(Keys(secret), settings.cache.memory_bytes)
