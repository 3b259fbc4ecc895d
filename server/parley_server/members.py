"""What an assembly is made of and hands on to the next one: providers, and what is remembered of their targets."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from parley_server.core.circuit import Circuit
from parley_server.core.limits import Rule
from parley_server.core.quota import MINUTE, ON_THE_WAY, Quota, SlidingWindow, TokenBucket
from parley_server.core.standing import Standing
from parley_server.pipeline.bulkhead import Places
from parley_server.pipeline.retry import RetryBudget
from parley_server.pipeline.upstream_limits import LimitsPolicy, Room, SharedLimits, SharedRoom
from parley_server.providers.auth import fingerprint
from parley_server.providers.base import Provider
from parley_server.settings import KeyedSettings, KindSettings, ModelLimits
from parley_server.stores.counters import Counters, Limit
from parley_server.transports.http import HttpTransport


@dataclass(slots=True)
class TargetHealth:
    """What is remembered of a target: of its failures, and of who is asking it now."""

    retries: RetryBudget
    circuit: Circuit | None
    places: Places | None
    standing: Standing


@dataclass(slots=True)
class Member:
    """A provider with connections of its own. A reload that leaves its settings alone leaves all of it alone."""

    settings: KindSettings
    provider: Provider
    wire: HttpTransport
    users: int = 1
    """Assemblies that it is part of."""
    counters: Counters | None = None
    """Those that it shares with other gateways, if there are others."""
    rooms: dict[str, Room] = field(default_factory=dict)
    """Its limits and who waits for them: by model, or "" for those that models share."""

    def room(self, model: str) -> Room | None:
        """The limits for a model; None if there are none."""
        limits = self.settings.limits
        if limits is None:
            return None
        own = limits.models.get(model)
        name, known = ("", limits) if own is None else (model, own)
        if name not in self.rooms and (known.requests_per_minute or known.tokens_per_minute):
            kind = SlidingWindow if limits.window == "sliding" else TokenBucket
            requests, tokens, clock = known.requests_per_minute, known.tokens_per_minute, time.monotonic
            policy = LimitsPolicy(limits.max_wait, limits.queue, limits.expected_output)

            def quota() -> Quota:
                return Quota(
                    kind(requests, clock) if requests else None, kind(tokens, clock) if tokens else None, clock
                )

            shared = None if self.counters is None else self._shared(self.counters, name, known, limits.window)
            self.rooms[name] = Room(quota, policy) if shared is None else SharedRoom(quota, policy, shared)
        return self.rooms.get(name)

    def _shared(
        self, counters: Counters, room: str, known: ModelLimits, window: Literal["sliding", "bucket"]
    ) -> SharedLimits:
        """The limits as they are counted with other gateways: of each key by its fingerprint, whatever its number."""
        amounts = {"requests": known.requests_per_minute, "tokens": known.tokens_per_minute}
        limits = {kind: Limit(kind, _rule(amount, window)) for kind, amount in amounts.items() if amount}
        keys = self.settings.keys if isinstance(self.settings, KeyedSettings) else ()
        names = [fingerprint(key) if key else "" for key in keys]
        which = f"upstream/{self.provider.name}/{room}/"
        return SharedLimits(counters, limits, lambda key: which + (names[key] if key < len(names) else ""))

    async def leave(self) -> None:
        """One of them needs it no more; the last one closes the connections."""
        self.users -= 1
        if not self.users:
            if self.provider.transport not in (None, self.wire):
                await self.provider.transport.aclose()
            await self.wire.aclose()


def _rule(amount: int, window: Literal["sliding", "bucket"]) -> Rule:
    if window == "bucket":
        return Rule("bucket", amount, int(MINUTE * 1000))
    return Rule("window", amount, int((MINUTE + ON_THE_WAY) * 1000))


def bind(health: TargetHealth, provider: Provider, room: Room | None) -> None:
    """Let the standing of a target know its breaker, its places and its limits."""
    places = health.places

    def queued() -> int:
        return (places.queued if places is not None else 0) + (room.queued if room is not None else 0)

    def full() -> bool:
        return (places is not None and places.taken >= places.policy.concurrency) or queued() > 0

    health.standing.bind(health.circuit if provider.breaks else None, queued, full)
