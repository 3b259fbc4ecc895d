"""Which gateways are there: each says so again and again, and one that says nothing for a while is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from parley_server.stores.keyvalue import KeyValue, StoreUnavailable

LEASE = 4.0
"""Seconds for which a gateway counts as being there after it has said so."""
_BEATS = 3  # in a lease
_SURE = LEASE / _BEATS + 0.2  # seconds without a word; a store that was emptied has been told anew by then
_MOST = 1000  # gateways that are missed at a time


class Presence:
    """Says that `gateway` is there, from `start()` to `aclose()`, and knows who else is.

    After an outage of the store all others have the time of a lease to be heard again. `clock` gives seconds and never
    goes back.
    """

    def __init__(self, values: KeyValue, gateway: str, clock: Callable[[], float]) -> None:
        self.gateway = gateway
        self._values = values
        self._clock = clock
        self._missed: dict[str, float] = {}  # since when
        self._gone: set[str] = set()
        self._doubtful_until = 0.0
        self._unheard = False
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say that this gateway is there, again and again. A store that is away hears it next time."""
        await self._announce()
        self._beating = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Say that it does nothing any more."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        with suppress(StoreUnavailable):  # it is noticed soon enough
            await self._values.remove(_key(self.gateway))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LEASE / _BEATS)
            await self._announce()

    async def _announce(self) -> None:
        try:
            await self._values.put(_key(self.gateway), b"", LEASE)
        except StoreUnavailable:
            self._unheard = True
        else:
            if self._unheard:
                self._unheard = False
                self._doubtful_until = self._clock() + LEASE
                self._missed.clear()
                self._gone.clear()

    async def is_there(self, gateway: str) -> bool:
        """Whether that gateway is there, or may be; takes a moment to say that one is not. Raises StoreUnavailable."""
        while gateway != self.gateway and await self._values.get(_key(gateway)) is None:
            now = self._clock()
            since = self._missed.setdefault(gateway, now)
            if len(self._missed) > _MOST:
                oldest = next(iter(self._missed))
                del self._missed[oldest]
                self._gone.discard(oldest)
            doubt = max(since + _SURE, self._doubtful_until) - now
            if doubt <= 0:
                if not self._unheard:
                    self._gone.add(gateway)
                return self._unheard
            await asyncio.sleep(doubt)
        self._missed.pop(gateway, None)
        self._gone.discard(gateway)
        return True

    def was_gone(self, gateway: str) -> bool:
        """Whether that gateway was not there when last looked for. They do not come back under the same name."""
        return gateway in self._gone


def _key(gateway: str) -> str:
    return f"gateway:{gateway}"
