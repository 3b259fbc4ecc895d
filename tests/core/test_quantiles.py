"""Percentiles of what was observed: how near they come, how fast they follow, and what is given up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.quantiles import MEMORY, Quantiles

SEEDS = 1000
NORMAL = NormalDist()


class Lognormal:
    """Times as those of models are: many alike, and a long tail."""

    def __init__(self, chance: random.Random) -> None:
        self.mu, self.sigma = chance.uniform(-4, 4), chance.uniform(0.1, 1.5)
        self._chance = chance

    def __call__(self) -> float:
        return self._chance.lognormvariate(self.mu, self.sigma)

    def share_below(self, seconds: float) -> float:
        """The true share of times below `seconds`."""
        return NORMAL.cdf((math.log(seconds) - self.mu) / self.sigma)


def errors_of(share: float, rounds: Callable[[random.Random], tuple[Quantiles, Lognormal]]) -> list[float]:
    """By how much the true share below the estimate is off, for each seed; of what a bin's width cannot explain."""
    errors = []
    for seed in range(SEEDS):
        known, times = rounds(random.Random(seed))
        estimate = known.quantile(share)
        assert estimate is not None
        low, high = times.share_below(estimate / 1.1), times.share_below(estimate * 1.1)
        errors.append(max(low - share, share - high, 0.0))
    return errors


@pytest.mark.parametrize(("share", "most", "usual"), [(0.5, 0.08, 0.03), (0.95, 0.035, 0.015), (0.99, 0.02, 0.006)])
def test_the_estimate_comes_near_the_true_percentile(share: float, most: float, usual: float) -> None:
    def settled(chance: random.Random) -> tuple[Quantiles, Lognormal]:
        known, times = Quantiles(), Lognormal(chance)
        for _ in range(2 * MEMORY):
            known.add(times())
        return known, times

    errors = errors_of(share, settled)
    assert max(errors) <= most
    assert sorted(errors)[int(0.95 * SEEDS)] <= usual


def test_it_follows_a_target_that_has_become_another() -> None:
    def moved(chance: random.Random) -> tuple[Quantiles, Lognormal]:
        known, before, times = Quantiles(), Lognormal(chance), Lognormal(chance)
        for _ in range(2 * MEMORY):
            known.add(before())
        for _ in range(5 * MEMORY):
            known.add(times())
        return known, times

    errors = errors_of(0.95, moved)
    assert max(errors) <= 0.04
    assert sorted(errors)[int(0.95 * SEEDS)] <= 0.02


def test_it_notices_within_a_hundred_answers_that_a_target_has_become_slower() -> None:
    known = Quantiles()
    for _ in range(10 * MEMORY):
        known.add(1.0)
    for _ in range(100):
        known.add(10.0)
    assert known.quantile(0.95) == pytest.approx(10.0, rel=0.1)


def test_it_does_not_sink_where_the_slow_ones_are_given_up() -> None:
    """As a race does: whatever takes longer than the estimate is cut off soon after, and the estimate holds."""

    def raced(chance: random.Random) -> tuple[Quantiles, Lognormal]:
        known, times = Quantiles(), Lognormal(chance)
        for _ in range(4 * MEMORY):
            takes, patience = times(), known.quantile(0.95)
            cut = math.inf if patience is None else patience * chance.uniform(1.0, 1.5)
            known.add(takes) if takes <= cut else known.add_unfinished(cut)
        return known, times

    errors = errors_of(0.95, raced)
    assert max(errors) <= 0.04
    assert sorted(errors)[int(0.95 * SEEDS)] <= 0.02


def test_callers_who_leave_early_say_nothing() -> None:
    known = Quantiles()
    for _ in range(100):
        known.add(1.0)
        known.add_unfinished(0.01)
    assert known.quantile(0.95) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(("share", "enough"), [(0.5, 20), (0.9, 20), (0.95, 20), (0.99, 100)])
def test_nothing_is_said_while_too_few_are_known(share: float, enough: int) -> None:
    known = Quantiles()
    for _ in range(enough - 1):
        known.add(1.0)
        known.add_unfinished(2.0)
    assert known.quantile(share) is None
    known.add(1.0)
    assert known.quantile(share) is not None


@given(
    times=st.lists(st.tuples(st.floats(0, 1e5), st.booleans()), max_size=200),
    share=st.floats(0.01, 0.99),
)
def test_estimates_lie_among_what_was_observed_and_rise_with_the_share(
    times: list[tuple[float, bool]], share: float
) -> None:
    known = Quantiles()
    for _ in range(100):
        known.add(1.0)
    for seconds, ended in times:
        known.add(seconds) if ended else known.add_unfinished(seconds)
    estimate, higher = known.quantile(share), known.quantile(0.99)
    assert estimate is not None
    assert higher is not None
    all_times = [1.0, *(max(seconds, 0.0001) for seconds, _ in times)]
    assert min(all_times) / 1.11 <= estimate <= max(all_times) * 1.11
    assert estimate <= higher * 1.0001


def test_what_it_remembers_stays_small() -> None:
    known = Quantiles()
    chance = random.Random(0)
    for number in range(50_000):
        known.add(chance.lognormvariate(number / 10_000, 1))
    assert len(known._bins) < 150
    assert known.quantile(0.5) == pytest.approx(math.exp(4.97), rel=0.3)
