"""What this process holds in counters that others share: slots are renewed, and all is settled when a call ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from parley_server.stores.counters import LEASE, Decision, Grant
from parley_server.stores.keyvalue import StoreUnavailable

_EVERY = LEASE / 3
_TOGETHER = 200  # holders that are renewed in one step
log = structlog.get_logger("parley.stores")


class Leases:
    """Calls `renew` with a key and some of its holders, again and again until they end."""

    def __init__(self, renew: Callable[[str, Sequence[str]], Coroutine[Any, Any, None]], every: float = _EVERY) -> None:
        self._renew = renew
        self._every = every
        self._holders: dict[str, set[str]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Future[Any]] = set()

    async def taking(
        self, work: Coroutine[Any, Any, Decision], settle: Callable[[Grant, Sequence[int]], None]
    ) -> Decision:
        """What `work` decides. If whoever asked goes away it may be done all the same, and is given back then."""
        task = asyncio.ensure_future(work)

        def give_back(task: asyncio.Future[Decision]) -> None:
            if not task.cancelled() and task.exception() is None:
                for grant in task.result().grants:
                    settle(grant, [0] * len(grant.costs))

        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(give_back)
            self.keep(task)
            raise

    def begin(self, grant: Grant, keys: Sequence[str]) -> None:
        """The call has been let in. `keys`: those of its limits."""
        for limit, key, cost in zip(grant.limits, keys, grant.costs, strict=True):
            if limit.rule.way == "slots" and cost:
                self._holders.setdefault(key, set()).add(grant.holder)
                if self._renewing is None or self._renewing.done():
                    self._renewing = asyncio.create_task(self._run())

    def end(self, grant: Grant, keys: Sequence[str], used: Sequence[int]) -> bool:
        """It is over. Whether that is to be told: not if all was used that was reserved and no slot is given back."""
        slots = [key for limit, key in zip(grant.limits, keys, strict=True) if limit.rule.way == "slots"]
        for key in slots:
            holders = self._holders.get(key)
            if holders is not None:
                holders.discard(grant.holder)
                if not holders:
                    del self._holders[key]
        return bool(slots) or any(a != b for a, b in zip(grant.costs, used, strict=True))

    def keep(self, telling: asyncio.Future[Any]) -> None:
        """Hold on to something that goes on in the background, until it is done."""
        self._telling.add(telling)
        telling.add_done_callback(self._done)

    async def told(self) -> None:
        """Wait for all that goes on in the background, but not for what is renewed."""
        while self._telling:
            await asyncio.wait(self._telling)
            await asyncio.sleep(0)  # what is done takes itself out

    async def aclose(self) -> None:
        """Wait for the same, and renew no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self.told()

    def _done(self, telling: asyncio.Future[Any]) -> None:
        self._telling.discard(telling)
        error = None if telling.cancelled() else telling.exception()
        if error is not None and not isinstance(error, StoreUnavailable):  # of that its breaker has told already
            log.error("bug", exc_info=error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if not self._holders:
                return
            for key, held in list(self._holders.items()):
                holders = list(held)
                for start in range(0, len(holders), _TOGETHER):
                    try:
                        await self._renew(key, holders[start : start + _TOGETHER])
                    except StoreUnavailable as error:  # they run out, unless it comes back before
                        log.debug("slots_not_renewed", reason=str(error))
