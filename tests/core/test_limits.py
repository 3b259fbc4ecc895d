"""How limits count: no period holds more than the amount, waits are exact, what is reserved is made right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.limits import SLICES, SLOT_WAIT, Rule

WINDOW, BUCKET, SLOTS = Rule("window", 100, 10_000), Rule("bucket", 100, 10_000), Rule("slots", 3)
BEGIN = 1_790_000_000_123

Rates = st.builds(
    Rule, st.sampled_from(["window", "bucket"]), st.integers(1, 1000), st.sampled_from([1, 7, 1000, 60_000, 86_400_000])
)
Steps = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 100), st.integers(0, 100)), max_size=50)


@pytest.mark.parametrize("rule", [WINDOW, BUCKET])
def test_so_much_at_once_and_then_a_wait(rule: Rule) -> None:
    count = rule.new()
    for left in range(99, -1, -1):
        assert count.wait(BEGIN, 1) == 0
        count.take(BEGIN, 1, "", 0)
        assert count.left(BEGIN) == left
    wait = count.wait(BEGIN, 1)
    assert wait == 100 if rule is BUCKET else 10_000 <= wait <= 10_000 + rule.width
    assert count.wait(BEGIN + wait - 1, 1) == 1
    assert count.wait(BEGIN + wait, 1) == 0


@given(Rates, Steps)
def test_waits_are_exact_to_the_millisecond(rule: Rule, steps: list[tuple[int, int, int]]) -> None:
    count, now = rule.new(), BEGIN
    for pause, cost, _ in steps:
        now += pause
        cost = min(cost, rule.amount)
        wait = count.wait(now, cost)
        if wait:
            assert count.wait(now + wait - 1, cost) == 1, "not a millisecond sooner"
            now += wait
        assert count.wait(now, cost) == 0
        count.take(now, cost, "", 0)
        assert count.left(now) >= 0


@given(Steps)
def test_no_period_holds_more_than_the_amount(steps: list[tuple[int, int, int]]) -> None:
    count, now = WINDOW.new(), BEGIN
    used: list[tuple[int, int]] = []
    for pause, reserved, real in steps:
        now += pause
        now += count.wait(now, reserved)
        mark = count.take(now, reserved, "", 0)
        count.settle(now, mark, reserved, min(real, reserved), "")
        used.append((now, min(real, reserved)))
        assert sum(amount for at, amount in used if at > now - WINDOW.per) <= WINDOW.amount


def test_a_window_uses_what_it_has_but_for_a_slice() -> None:
    count, now, admitted = WINDOW.new(), BEGIN, []
    while now < BEGIN + 60_000:
        if count.wait(now, 1) == 0:
            count.take(now, 1, "", 0)
            admitted.append(now)
        now += 1
    assert len(admitted) == 600
    for start in range(BEGIN, BEGIN + 50_000, 1000):
        assert 99 <= sum(start <= at < start + 10_000 for at in admitted) <= 100


@given(Steps)
def test_a_bucket_lets_out_no_more_than_was_filled_in(steps: list[tuple[int, int, int]]) -> None:
    count, now, total = BUCKET.new(), BEGIN, 0
    for pause, reserved, real in steps:
        now += pause
        now += count.wait(now, reserved)
        mark = count.take(now, reserved, "", 0)
        count.settle(now, mark, reserved, min(real, reserved), "")
        total += min(real, reserved)
        assert total <= 100 + (now - BEGIN) / 100


@pytest.mark.parametrize("rule", [WINDOW, BUCKET])
def test_what_was_used_beyond_what_was_reserved_is_a_debt(rule: Rule) -> None:
    count = rule.new()
    mark = count.take(BEGIN, 10, "", 0)
    count.settle(BEGIN + 10, mark, 10, 150, "")
    assert count.left(BEGIN + 10) <= -49
    assert count.wait(BEGIN + 10, 0) > 0, "nobody goes before it is paid, not even who needs nothing"
    assert count.wait(BEGIN + 10, 1) > 0
    assert count.reset(BEGIN + 10) > 0
    later = BEGIN + 10 + count.reset(BEGIN + 10)
    assert count.left(later) == 100
    assert count.reset(later) == 0


@pytest.mark.parametrize("rule", [WINDOW, BUCKET])
def test_what_is_given_back_after_its_time_gives_nothing(rule: Rule) -> None:
    count = rule.new()
    mark = count.take(BEGIN, 60, "", 0)
    later = BEGIN + 20_000
    count.settle(later, mark, 60, 0, "")
    assert count.left(later) == 100


@pytest.mark.parametrize("rule", [WINDOW, BUCKET])
@pytest.mark.parametrize("back", [1, 500, 9_000, 40_000, 10**9])
def test_a_clock_that_is_set_back_blocks_nobody_for_long(rule: Rule, back: int) -> None:
    count = rule.new()
    count.take(BEGIN, 100, "", 0)
    now = BEGIN - back
    assert 0 <= count.wait(now, 1) <= 2 * rule.per + rule.width
    count.take(now, 1, "", 0)
    assert count.left(now + 2 * rule.per + rule.width) == 100


def test_slots_are_given_back_or_run_out() -> None:
    count = SLOTS.new()
    for holder in "abc":
        assert count.wait(BEGIN, 1) == 0
        count.take(BEGIN, 1, holder, 30_000)
    assert count.wait(BEGIN, 1) == SLOT_WAIT
    count.settle(BEGIN, 0, 1, 1, "b")
    assert count.left(BEGIN) == 1
    count.settle(BEGIN, 0, 1, 1, "b")
    assert count.left(BEGIN) == 1, "nobody gives back what he has not"
    assert count.left(BEGIN + 29_999) == 1
    assert count.left(BEGIN + 30_000) == 3


def test_rules_that_cannot_be_counted() -> None:
    for way, amount, per in (("window", 0, 1), ("window", 1, 0), ("bucket", 1, 0), ("slots", 1, 1)):
        with pytest.raises(ValueError, match="at least one"):
            Rule(way, amount, per)  # type: ignore[arg-type]
    Rule("bucket", 1_000_000_000, 86_400_000)
    with pytest.raises(ValueError, match="exactly"):
        Rule("bucket", 999_999_937, 86_400_000)


def test_a_share_of_a_rule_is_at_least_one() -> None:
    assert WINDOW.scaled(1 / 4) == Rule("window", 25, 10_000)
    assert SLOTS.scaled(1 / 4) == Rule("slots", 1)


def test_what_is_kept_is_bounded() -> None:
    count = Rule("window", 1_000_000, 10_000).new()
    for now in range(BEGIN, BEGIN + 100_000, 3):
        count.take(now, 1, "", 0)
    assert len(count.slices) <= SLICES + 2  # type: ignore[attr-defined]
