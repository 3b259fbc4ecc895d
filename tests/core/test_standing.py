"""What is remembered of a target, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from parley_server.core.standing import FORGOTTEN, HALF_LIFE, Decayed, Standing
from parley_server.dialects.rate_limits import rate_limits


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_observations_count_alike() -> None:
    average = Decayed()
    for observed in (1.0, 2.0, 3.0):
        average.add(observed, 0.0)
    assert average.value == pytest.approx(2.0)


def test_after_a_half_life_the_new_observation_weighs_as_much_as_all_before() -> None:
    average = Decayed()
    for _ in range(100):
        average.add(4.0, 0.0)
    average.add(2.0, HALF_LIFE)
    assert average.value == pytest.approx(3.0)


def test_streams_and_whole_answers_are_averaged_apart_and_stand_in_for_each_other() -> None:
    standing = Standing(Clock())
    assert standing.latency(streaming=True) == math.inf
    standing.answered(5.0, streaming=False)
    assert standing.latency(streaming=True) == 5.0
    standing.answered(1.0, streaming=True)
    assert (standing.latency(streaming=True), standing.latency(streaming=False)) == (1.0, 5.0)


def test_a_caller_who_leaves_says_only_that_it_is_no_faster() -> None:
    standing = Standing(Clock())
    standing.answered(2.0, streaming=True)
    standing.left(1.0, streaming=True)
    assert standing.latency(streaming=True) == 2.0
    standing.left(4.0, streaming=True)
    assert standing.latency(streaming=True) == 3.0
    assert standing.failure_rate() == 0.0


def test_percentiles_are_of_streams_and_whole_answers_apart() -> None:
    standing = Standing(Clock())
    for _ in range(100):
        standing.answered(5.0, streaming=False)
    assert standing.percentile(95, streaming=False) == pytest.approx(5.0, rel=0.1)
    assert standing.percentile(95, streaming=True) is None
    for _ in range(100):
        standing.left(9.0, streaming=False)
    assert standing.percentile(50, streaming=False) == pytest.approx(9.0, rel=0.2), "half of them took at least nine"


def test_what_is_old_is_not_known_any_more() -> None:
    clock = Clock()
    standing = Standing(clock)
    assert not standing.is_known()
    standing.failed()
    assert standing.is_known()
    assert standing.failure_rate() == 1.0
    clock.now += FORGOTTEN
    assert not standing.is_known()


def test_quota_is_that_of_the_tightest_limit_and_fills_up_again() -> None:
    clock = Clock()
    standing = Standing(clock, rate_limits)
    assert standing.quota() is None
    standing.told(
        {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "50",
            "x-ratelimit-reset-requests": "10s",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "800",
            "x-ratelimit-reset-tokens": "10s",
        }
    )
    assert standing.quota() == pytest.approx(0.5)
    for _ in range(20):
        standing.began()
    assert standing.quota() == pytest.approx(0.3), "what was asked since is gone too"
    clock.now += 5
    assert standing.quota() == pytest.approx(0.65)
    clock.now += 5
    assert standing.quota() == 1.0


def test_headers_without_limits_leave_what_was_said_before() -> None:
    standing = Standing(Clock(), rate_limits)
    standing.told({"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "4"})
    assert standing.quota() == pytest.approx(0.4)
    standing.told({"content-type": "application/json"})
    assert standing.quota() == pytest.approx(0.4)


def test_it_is_full_without_a_place_or_without_quota() -> None:
    standing = Standing(Clock(), rate_limits)
    assert not standing.is_full()
    standing.told({"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "0"})
    assert standing.is_full()
    other = Standing(Clock())
    other.bind(queued=lambda: 2, full=lambda: True)
    assert other.is_full()
    other.began()
    assert other.busy() == 3
    other.over()
    assert other.busy() == 2
