"""What is told of stores that are down: once when they go, once when they are back, now and then in between."""

from __future__ import annotations

import structlog

from parley_server.stores.health import StoreHealth
from parley_server.stores.settings import OnFailure


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_modes_are_those_of_the_settings() -> None:
    health = StoreHealth(OnFailure(resume="closed").modes(), 4, Clock())
    assert health.mode("cache") == "open"
    assert health.mode("limits") == "local"
    assert health.mode("idempotency") == "closed"
    assert health.mode("resume") == "closed"
    assert health.share == 0.25
    health.follow(OnFailure(limits="open").modes(), 10)
    assert health.mode("limits") == "open"
    assert health.mode("resume") == "degraded"
    assert health.share == 0.1


def test_a_long_outage_is_told_of_twice_a_minute() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    with structlog.testing.capture_logs() as log:
        health.failed("cache")
        health.down("cache", "gone")
        for _ in range(6500):  # ten a second, for something under eleven minutes
            health.down("cache", "gone")
            health.failed("cache")
            clock.now += 0.1
        assert health.is_down("cache")
        health.up("cache")
        health.up("cache")
    assert [line["event"] for line in log] == ["store_down", *["store_still_down"] * 21, "store_up"]
    assert log[1] == {
        "event": "store_still_down",
        "log_level": "warning",
        "purpose": "cache",
        "reason": "gone",
        "failures": 301,
        "seconds": 30.0,
    }
    assert log[-1]["failures"] == 6500
    assert log[-1]["seconds"] == 650.0
    assert health.failures == 6501
    assert not health.degraded


def test_a_refusal_counts_for_as_long_as_it_is_heard() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    for _ in range(10):
        health.down("cache", "is a replica", passing=True)
        clock.now += 4
        assert health.is_down("cache")
        assert health.degraded == ("cache",)
    health.wrote("cache")
    assert not health.is_down("cache")
    health.down("cache", "is a replica", passing=True)
    clock.now += 6
    assert not health.degraded


def test_what_does_not_answer_is_down_until_a_probe_says_otherwise() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    health.down("limits", "is a replica", passing=True)
    health.down("limits", "does not answer")
    health.down("limits", "is a replica", passing=True)
    health.wrote("limits")
    clock.now += 600
    assert health.degraded == ("limits",)
    health.up("limits")
    assert not health.is_down("limits")
