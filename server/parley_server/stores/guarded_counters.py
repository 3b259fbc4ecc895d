"""Counters that go on while the store that others share is not there, as `on_failure.limits` says."""

from __future__ import annotations

from collections.abc import Sequence

from parley_server.stores.counters import Counters, Decision, Grant, Level, Limit
from parley_server.stores.health import StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable

_MOST = 1000  # sets of limits whose shares are remembered


class GuardedCounters:
    """`shared` as long as it can be asked. Then `local` counters of this process with its share of every limit; or
    everything is let through (`open`); or StoreUnavailable is raised (`closed`)."""

    def __init__(self, shared: Counters, local: Counters, health: StoreHealth) -> None:
        self._shared = shared
        self._local = local
        self._health = health
        self._shares: dict[tuple[float, tuple[Limit, ...]], tuple[Limit, ...]] = {}

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        try:
            return await self._shared.take(group, limits, calls)
        except StoreUnavailable:
            match self._health.mode("limits"):
                case "local":
                    decision = await self._local.take(group, self._share(tuple(limits)), calls)
                    for grant in decision.grants:
                        grant.here = True
                    return decision
                case "open":
                    levels = [Level(limit.rule.amount, 0.0) for limit in limits]
                    return Decision([Grant(group, (), (), here=True) for _ in calls], levels)
                case _:
                    raise

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        if not grant.here:
            self._shared.settle(grant, used)
        elif grant.limits:
            self._local.settle(grant, used)

    async def told(self) -> None:
        await self._shared.told()

    async def aclose(self) -> None:
        await self._shared.aclose()
        await self._local.aclose()

    def _share(self, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        key = self._health.share, limits
        share = self._shares.get(key)
        if share is None:
            if len(self._shares) >= _MOST:
                self._shares.clear()
            share = tuple(Limit(limit.name, limit.rule.scaled(self._health.share)) for limit in limits)
            self._shares[key] = share
        return share
