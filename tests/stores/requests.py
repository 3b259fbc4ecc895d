"""Requests to a store whose server is in trouble, and what became of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from parley_server.stores.keyvalue import KeyValue, StoreUnavailable

LONGEST = 1.5  # seconds that a request may take at worst: 0.75, and what a loaded machine adds
CHEAP = 0.005
BACK = 2.0


@dataclass
class Outcomes:
    """What became of requests, in seconds each."""

    served: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        return max([*self.served, *self.failed])


async def request(values: KeyValue, outcomes: Outcomes) -> bool:
    """Write and read; whether that went well. Anything but StoreUnavailable fails the test."""
    begun = time.perf_counter()
    try:
        await values.put("a", b"1", 60)
        value = await values.get("a")
    except StoreUnavailable:
        outcomes.failed.append(time.perf_counter() - begun)
        return False
    outcomes.served.append(time.perf_counter() - begun)
    assert value in (b"1", None), "a primary that has just taken over may have missed it"
    return True
