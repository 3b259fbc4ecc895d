"""Makes a purge known to all gateways, and learns of those that others have made.

They stand in the store, under one key, and are told of by messages. Who may have missed a message reads them again, and
trusts nothing that the store has until that is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import structlog

from parley_server.pipeline.cache.purges import Purge, Purges, next_revision, numbered, unpacked
from parley_server.stores.keyvalue import KeyValue, Messages, StoreUnavailable

_PLACE = "purges"
_LASTS = 35 * 86_400.0  # seconds: longer than any answer
_TRIES = 50
_AGAIN = 0.25

log = structlog.get_logger("parley.cache")


class Bulletin:
    """The purges of all gateways that share a store. `wall`: Unix time; `heard` is called with each that is new."""

    def __init__(
        self,
        store: KeyValue,
        messages: Messages,
        purges: Purges,
        wall: Callable[[], float],
        heard: Callable[[Purge], object],
    ) -> None:
        self.is_current = False
        """Whether all purges that there are should be known here."""
        self._store = store
        self._messages = messages
        self._purges = purges
        self._wall = wall
        self._heard = heard

    async def attend(self) -> None:
        """Learn of purges, for as long as it is not cancelled."""
        while True:
            async with aclosing(self._messages.listen(_PLACE)) as messages:  # type: ignore[type-var]
                async for message in messages:
                    if message is None:
                        self.is_current = False
                        await self._read_again()
                        self.is_current = True
                    else:
                        for purge in unpacked(message):
                            self._take(purge)

    async def post(self, purge: Purge) -> None:
        """Number a purge, apply it here, and make it known. Raises StoreUnavailable: then it is known here only."""
        revision = next_revision(self._purges.revision, self._wall())
        try:
            for _ in range(_TRIES):
                there = await self._store.get(_PLACE)
                for known in unpacked(there or b""):
                    self._take(known)
                revision = next_revision(self._purges.revision, self._wall())
                board = self._purges.packed_with(numbered(purge, revision), oldest=self._wall() - _LASTS)
                if there is None:
                    done = await self._store.add(_PLACE, board, _LASTS) is None
                else:
                    done = await self._store.replace(_PLACE, there, board, _LASTS)
                if done:
                    break
            else:
                raise StoreUnavailable("too many purges at the same time")
        finally:
            self._purges.add(numbered(purge, revision))
        await self._messages.publish(_PLACE, numbered(purge, revision).pack())

    async def _read_again(self) -> None:
        while True:
            try:
                for purge in unpacked(await self._store.get(_PLACE) or b""):
                    self._take(purge)
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN)
            else:
                return

    def _take(self, purge: Purge) -> None:
        if self._purges.add(purge):
            log.info("cache_purged", revision=purge.revision, known=len(self._purges))
            self._heard(purge)
