"""Who makes an answer, of several gateways that lack it.

The place of the answer in the store holds a lease meanwhile, so one request finds the answer, or takes the lease, or
learns who has it. A lease that is not renewed lapses: then whoever waits takes it over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from parley_server.stores.keyvalue import KeyValue, StoreUnavailable

_LEASE, _VOID = b"\x01\x03", b"\x01\x04"
_TOKEN = 12
LASTS = 3.0
"""Seconds that a lease holds if it is not renewed."""
_RENEWED = 1.0
_VOID_LASTS = 2.0  # seconds that those who wait have to learn that there will be no answer to share

Spawn = Callable[[Coroutine[Any, Any, None]], object]


def record(stale: bytes = b"") -> bytes:
    """A new lease; `stale`: the value that was there, for those who would rather have it than wait."""
    return _LEASE + os.urandom(_TOKEN) + stale


def holder_of(value: bytes) -> bytes | None:
    """What tells leases apart; None if the value is none."""
    return value[2 : 2 + _TOKEN] if value[:2] == _LEASE and len(value) >= 2 + _TOKEN else None


def stale_in(value: bytes) -> bytes:
    """The value that was there before a lease."""
    return value[2 + _TOKEN :]


def is_void(value: bytes) -> bool:
    """Whether an answer was made that may not be shared."""
    return value == _VOID


class Lease:
    """The right, and the duty, to make an answer. It ends with one of the three: the answer is `kept`, it may not be
    shared (`void`), or there is none (`release`)."""

    def __init__(self, store: KeyValue, name: str, held: bytes, left: float, spawn: Spawn) -> None:
        """`held`: the record, as the store has it now. `left`: seconds that the stale value in it is still of use."""
        self._store = store
        self.name = name
        self._held = held
        self._spawn = spawn
        self._stale_until = asyncio.get_running_loop().time() + left
        self._renewing = asyncio.create_task(self._renew())

    def kept(self) -> None:
        """The answer takes the place of the lease."""
        self._renewing.cancel()

    def void(self) -> None:
        """There is an answer, but not for others: they had better ask for themselves."""
        self._renewing.cancel()
        self._spawn(self._give_up(_VOID, _VOID_LASTS))

    def release(self) -> None:
        """Leave the place as it was. Who waits may try."""
        self._renewing.cancel()
        left = self._stale_until - asyncio.get_running_loop().time()
        self._spawn(self._give_up(stale_in(self._held), left))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEWED)
            try:
                if not await self._store.replace(self.name, self._held, self._held, LASTS):
                    return  # somebody else has it: we were too slow, or the answer was written anew
            except StoreUnavailable:
                continue  # it may be back before the lease lapses

    async def _give_up(self, instead: bytes, seconds: float) -> None:
        try:
            if instead and seconds > 0:
                await self._store.replace(self.name, self._held, instead, seconds)
            else:
                await self._store.remove(self.name, self._held)
        except StoreUnavailable:
            return  # it lapses
