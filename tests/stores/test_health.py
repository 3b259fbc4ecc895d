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


def test_a_refusal_counts_until_it_is_not_heard_any_more() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    for _ in range(10):
        health.refused("cache", "is a replica")
        clock.now += 1.9
        assert health.degraded == ("cache",)
    clock.now += 0.2
    assert not health.degraded


def test_what_does_not_answer_is_down_until_a_probe_says_otherwise() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    health.refused("limits", "is a replica")
    health.down("limits", "does not answer")
    health.refused("limits", "is a replica")
    clock.now += 600
    assert health.degraded == ("limits",)
    health.up("limits")
    assert not health.is_down("limits")


def test_what_comes_and_goes_all_the_time_does_not_fill_the_log() -> None:
    clock = Clock()
    health = StoreHealth(OnFailure().modes(), 1, clock)
    with structlog.testing.capture_logs() as log:
        for _ in range(1200):  # twice a second, for ten minutes
            health.down("cache", "gone")
            health.failed("cache")
            clock.now += 0.25
            health.up("cache")
            clock.now += 0.25
        health.down("limits", "gone")
    downs = [line for line in log if line["event"] == "store_down"]
    assert len(downs) == 10 * 10 + 1
    assert downs[-1]["purpose"] == "limits", "another purpose has lines of its own"
    assert sum(line["event"] == "store_up" for line in log) == 10 * 10
    assert health.failures == 1200
