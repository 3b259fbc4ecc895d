"""The watch over a store: a breaker for each purpose, and a look in the background whether it is back.

Once a breaker is open, requests fail at once. None of them is ever a probe: those are made here, so nobody waits for
one, and what has recovered is used again within about half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.stores.health import PURPOSES, Purpose, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable

T = TypeVar("T")

_BREAKER = CircuitPolicy(failures=3, ratio=0.5, fewest=20, window=10, cool=0.25, cap=0.5)
_LEAST = 0.01  # seconds between two probes


class Guard:
    """What one purpose asks of a store goes through here."""

    def __init__(self, guards: Guards, purpose: Purpose, circuit: Circuit) -> None:
        self.purpose = purpose
        self.circuit = circuit
        self._guards = guards
        self._health = guards.health

    async def watch(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, if the store is asked at all now. Raises StoreUnavailable."""
        if self.circuit.state() != "closed":
            self._health.failed(self.purpose)
            raise StoreUnavailable(f"{self._guards.name} is left alone for a moment: it did not answer as it should")
        try:
            result = await work()
        except StoreUnavailable as error:
            self.circuit.failed(0)
            self._health.failed(self.purpose)
            if self.circuit.state() != "closed":
                self._health.down(self.purpose, str(error))
                self._guards.probe()
            raise
        self.circuit.succeeded(0)
        return result

    def refused(self, error: StoreUnavailable) -> None:
        """The store has answered, but will not do what it should."""
        self._health.refused(self.purpose, str(error))
        self._health.failed(self.purpose)


class Guards:
    """The guards of a store called `name`. `ping` raises StoreUnavailable while it does not do what it should."""

    def __init__(
        self, name: str, ping: Callable[[], Awaitable[None]], health: StoreHealth, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.health = health
        self._ping = ping
        self._prober: asyncio.Task[None] | None = None
        self._all = {purpose: Guard(self, purpose, Circuit(_BREAKER, clock)) for purpose in PURPOSES}

    def __getitem__(self, purpose: Purpose) -> Guard:
        return self._all[purpose]

    async def start(self) -> None:
        """Find out whether the store is there. It need not be."""
        try:
            await self._ping()
        except StoreUnavailable as error:
            self.leave_alone(error)

    async def aclose(self) -> None:
        """Stop looking whether it is back."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)

    def doubt(self) -> None:
        """The store may not be what it should be: have a look."""
        self._in_background(self._look())

    def leave_alone(self, why: StoreUnavailable) -> None:
        """Open all breakers."""
        for guard in self._all.values():
            if guard.circuit.state() == "closed":
                guard.circuit.shut(_BREAKER.cool)
                self.health.down(guard.purpose, str(why))
        self.probe()

    def probe(self) -> None:
        """Look in the background whether the store is back, until all breakers are closed."""
        self._in_background(self._probe())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """One at a time: each ends with all breakers closed."""
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(work)
        else:
            work.close()

    async def _look(self) -> None:
        await self.start()
        await self._probe()

    async def _probe(self) -> None:
        while waiting := [guard for guard in self._all.values() if guard.circuit.state() != "closed"]:
            await asyncio.sleep(max(min(guard.circuit.wait() for guard in waiting), _LEAST))
            tickets = [(guard, guard.circuit.admit()) for guard in waiting]
            try:
                await self._ping()
                back = True
            except StoreUnavailable:
                back = False
            for guard, ticket in tickets:
                if ticket is None:
                    continue
                if not back:
                    guard.circuit.failed(ticket)
                    continue
                guard.circuit.succeeded(ticket)
                if guard.circuit.state() == "closed":
                    self.health.up(guard.purpose)
