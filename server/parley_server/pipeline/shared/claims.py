"""One call for each idempotency key, however many gateways its callers come to.

Whoever makes the call claims the key first, in the store that gateways share; the answer takes the place of the claim.
A claim counts while its owner is there: one that dies frees its keys. An owner that was only held up finds its claim
gone and keeps its answer to itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from parley_server.pipeline.shared.memory import Key, Remembered
from parley_server.pipeline.shared.records import Begun, packed, unpacked
from parley_server.stores.keyvalue import KeyValue, StoreUnavailable
from parley_server.stores.presence import Presence

_TOLD = 2.0  # seconds for which those who wait are told that an answer is too long for them
_AGAIN = 1.0  # seconds between two attempts to say what came of a call
_LAST = 1.0  # seconds that this may take in the end


class Seals(Protocol):
    """Makes values of records that others cannot read or forge, and records of values."""

    def close(self, packed: bytes, place: bytes) -> bytes: ...

    def open(self, value: bytes, place: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make the call for a key, and the duty to say what came of it. `held`: what the store has for it."""

    name: str
    held: bytes
    begun: Begun


class Claims:
    """The keys that calls are under way for, and answers, of all gateways.

    `lasts`: seconds that no call exceeds. `refuses`: whether calls with keys are refused now that the store is away.
    `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        values: KeyValue,
        presence: Presence,
        seals: Seals,
        clock: Callable[[], float],
        *,
        lasts: float,
        refuses: Callable[[], bool],
    ) -> None:
        self.refuses = refuses
        self.corrupt = 0
        """Records that could not be read, ever: they count as none."""
        self.seals = seals
        self.lasts = lasts
        self._values = values
        self._presence = presence
        self._clock = clock
        self._telling: set[asyncio.Task[None]] = set()

    async def take(self, key: Key, digest: bytes, response_id: str) -> Claim | Begun | Remembered:
        """The claim; or what there is in its place, whatever it was asked for: an answer, or another call.

        Raises StoreUnavailable.
        """
        name, begun = _name(key), Begun(digest, response_id, self._presence.gateway)
        mine = self.seals.close(packed(begun), name.encode())
        claim = Claim(name, mine, begun)
        try:
            while (value := await self._values.add(name, mine, self.lasts)) is not None:
                there = self._read(value, name)
                if there is not None and (isinstance(there, Remembered) or await self._stands(there)):
                    return there
                if await self._values.replace(name, value, mine, self.lasts):
                    break
        except BaseException:  # it may have been claimed all the same
            self._in_background(self._tell(claim, None, 0.0, pause=_AGAIN))
            raise
        return claim

    def settle(self, claim: Claim, answer: Remembered | None, window: float, *, lost: bool = False) -> None:
        """Say what came of a call: an answer, to be remembered for `window` seconds; or none, so the key is free.

        `lost`: there is one, which is too long. It is said in the background, as soon as the store can be told.
        """
        instead, lasts = None, window
        if answer is not None:
            instead = self.seals.close(packed(answer), claim.name.encode())
        elif lost:
            begun = Begun(claim.begun.digest, claim.begun.response_id, claim.begun.owner, lost=True)
            instead, lasts = self.seals.close(packed(begun), claim.name.encode()), _TOLD
        self._in_background(self._tell(claim, instead, lasts))

    def forget(self, key: Key) -> None:
        """There is no room for the answer to a key."""
        self._in_background(self._remove(_name(key)))

    async def aclose(self) -> None:
        """Say what is left to be said, within a moment."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=_LAST)
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _in_background(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _stands(self, begun: Begun) -> bool:
        return begun.lost or await self._presence.is_there(begun.owner)

    def _read(self, value: bytes, name: str) -> Begun | Remembered | None:
        record = self.seals.open(value, name.encode())
        try:
            if record is not None:
                return unpacked(record, self._clock())
        except ValueError:
            pass
        self.corrupt += 1
        return None

    async def _tell(self, claim: Claim, instead: bytes | None, lasts: float, pause: float = 0.0) -> None:
        latest = self._clock() + self.lasts  # then the claim is over in any case
        await asyncio.sleep(pause)
        while self._clock() < latest:
            try:
                if instead is None:
                    await self._values.remove(claim.name, claim.held)
                else:
                    await self._values.replace(claim.name, claim.held, instead, lasts)
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _remove(self, name: str) -> None:
        try:
            await self._values.remove(name)
        except StoreUnavailable:
            return  # it expires


def _name(key: Key) -> str:
    """What a key is called in the store: callers choose it, and may put names into it."""
    caller, text = key
    told = hashlib.blake2b(digest_size=20, person=b"idempotency key")
    for part in (caller.encode(), text if isinstance(text, bytes) else text.encode()):
        told.update(len(part).to_bytes(4, "big") + part)
    return told.hexdigest()
