"""What an assembly is made of and hands on to the next one: providers, and what is remembered of their targets."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from parley_server.core.circuit import Circuit
from parley_server.core.quota import Quota, SlidingWindow, TokenBucket
from parley_server.core.standing import Standing
from parley_server.pipeline.bulkhead import Places
from parley_server.pipeline.retry import RetryBudget
from parley_server.pipeline.upstream_limits import LimitsPolicy, Room
from parley_server.providers.base import Provider
from parley_server.settings import KindSettings
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
            self.rooms[name] = Room(
                lambda: Quota(
                    kind(requests, clock) if requests else None, kind(tokens, clock) if tokens else None, clock
                ),
                policy,
            )
        return self.rooms.get(name)

    async def leave(self) -> None:
        """One of them needs it no more; the last one closes the connections."""
        self.users -= 1
        if not self.users:
            if self.provider.transport not in (None, self.wire):
                await self.provider.transport.aclose()
            await self.wire.aclose()


def bind(health: TargetHealth, provider: Provider, room: Room | None) -> None:
    """Let the standing of a target know its breaker, its places and its limits."""
    places = health.places

    def queued() -> int:
        return (places.queued if places is not None else 0) + (room.queued if room is not None else 0)

    def full() -> bool:
        return (places is not None and places.taken >= places.policy.concurrency) or queued() > 0

    health.standing.bind(health.circuit if provider.breaks else None, queued, full)
