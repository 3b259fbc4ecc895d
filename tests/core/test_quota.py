"""What is left of a limit: windows, buckets, reservations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.quota import Counter, Quota, SlidingWindow, TokenBucket

KINDS = (SlidingWindow, TokenBucket)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", KINDS)
def test_so_much_at_once_and_then_a_wait(kind: type[SlidingWindow] | type[TokenBucket]) -> None:
    clock = Clock()
    counter = kind(60, clock)
    for _ in range(60):
        assert counter.wait(1) == 0
        counter.reserve(1)
    wait = counter.wait(1)
    assert wait == pytest.approx(1.0 if kind is TokenBucket else 60.85)
    clock.now += wait
    assert counter.wait(1) == 0
    assert counter.wait(2) == (pytest.approx(1.0) if kind is TokenBucket else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_reserved_and_not_used_is_given_back(kind: type[SlidingWindow] | type[TokenBucket]) -> None:
    counter = kind(100, Clock())
    held = counter.reserve(100)
    assert counter.wait(40) > 0
    counter.settle(held, 100, 60)
    assert counter.wait(40) == 0
    assert counter.wait(41) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_used_beyond_what_was_reserved_is_a_debt(kind: type[SlidingWindow] | type[TokenBucket]) -> None:
    clock = Clock()
    counter = kind(60, clock)
    held = counter.reserve(30)
    clock.now += 10
    counter.settle(held, 30, 90)
    assert counter.left() <= -20
    assert counter.wait(1) > 0
    clock.now += 130
    assert counter.left() == pytest.approx(60)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_ever_is_takes_all_of_it(kind: type[SlidingWindow] | type[TokenBucket]) -> None:
    clock = Clock()
    quota = Quota(None, kind(100, clock), clock)
    assert quota.fits(5000) == 100
    assert quota.wait(1, 100) == 0
    held = quota.reserve(100)
    assert quota.wait(1, 1) > 0
    quota.settle(held, 20)
    assert quota.wait(1, 80) == 0


def test_what_others_use_is_learnt_from_what_the_provider_says_is_left() -> None:
    clock = Clock()
    window = SlidingWindow(100, clock)
    window.reserve(10)
    assert not window.is_news(95)
    window.told(remaining=95, reset=30.0)  # it does not know yet of all that is under way
    assert window.left() == 90
    assert window.is_news(3)
    window.told(remaining=3, reset=30.0)
    assert window.left() == 3
    assert window.wait(4) == pytest.approx(30.0)
    assert window.is_news(50)
    window.told(remaining=50, reset=20.0)  # it knows best
    assert window.left() == 50
    clock.now += 20
    assert window.left() == 90

    bucket = TokenBucket(60, clock)
    bucket.told(remaining=5, reset=55.0)
    assert bucket.left() == 5
    bucket.told(remaining=50, reset=10.0)
    assert bucket.left() == 5
    clock.now += 10
    assert bucket.left() == pytest.approx(15)


def test_a_provider_that_wants_nothing_for_a_while() -> None:
    clock = Clock()
    quota = Quota(SlidingWindow(100, clock), None, clock)
    quota.close(20.0)
    quota.close(5.0)
    assert quota.wait(1, 0) == pytest.approx(20.0)
    clock.now += 20
    assert quota.wait(1, 0) == 0


def test_not_asked_after_all() -> None:
    clock = Clock()
    quota = Quota(SlidingWindow(1, clock), TokenBucket(10, clock), clock)
    held = quota.reserve(10)
    assert quota.wait(1, 10) > 0
    quota.refund(held)
    assert quota.wait(1, 10) == 0


Steps = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 40), st.integers(0, 60)), max_size=60)


@given(Steps)
def test_no_minute_holds_more_than_the_limit(steps: list[tuple[float, int, int]]) -> None:
    """Of what is let in by `wait`, with estimates that come out too high: those too low are not the window's fault."""
    clock = Clock()
    window = SlidingWindow(100, clock)
    used: list[tuple[float, float]] = []
    for pause, reserved, real in steps:
        clock.now += pause
        clock.now += window.wait(reserved)
        assert window.wait(reserved) == 0
        held = window.reserve(reserved)
        window.settle(held, reserved, min(real, reserved))
        used.append((clock.now, min(real, reserved)))
        assert sum(amount for at, amount in used if at > clock.now - 60) <= 100 + 1e-6


@given(Steps)
def test_a_bucket_never_lets_out_more_than_it_was_filled_with(steps: list[tuple[float, int, int]]) -> None:
    clock = Clock()
    bucket = TokenBucket(100, clock)
    total = 0.0
    for pause, reserved, real in steps:
        clock.now += pause
        clock.now += bucket.wait(reserved) + 1e-9
        held = bucket.reserve(reserved)
        bucket.settle(held, reserved, min(real, reserved))
        total += min(real, reserved)
        assert total <= 100 + (clock.now - 1000) * 100 / 60 + 1e-3


@given(st.sampled_from(KINDS), st.lists(st.tuples(st.floats(0, 100), st.integers(0, 300)), max_size=30))
def test_waiting_as_long_as_was_said_is_enough(
    kind: type[SlidingWindow] | type[TokenBucket], steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    counter: Counter = kind(100, clock)
    for pause, amount in steps:
        clock.now += pause
        counter.reserve(amount)
        wait = counter.wait(100)
        assert wait >= 0
        clock.now += wait + 1e-6
        assert counter.wait(100) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", [SlidingWindow, TokenBucket])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "told"]), st.integers(0, 130), st.floats(0, 50)), min_size=1, max_size=40
    )
)
def test_the_quick_ways_are_the_slow_ways(
    kind: type[SlidingWindow] | type[TokenBucket], steps: list[tuple[str, int, float]]
) -> None:
    """Taking is reserving where no wait is needed, and what is no news changes nothing."""
    clock = Clock()
    quick, slow = (Quota(kind(40, clock), kind(100, clock), clock) for _ in range(2))
    for what, amount, later in steps:
        if what == "take":
            tokens, requests = min(amount, 100), min(amount // 10, 40)
            expected = slow.wait(requests, tokens) <= 0
            assert (quick.take(tokens, requests) is not None) is expected
            if expected:
                slow.reserve(tokens, requests)
        else:
            for resource in ("requests", "tokens"):
                counter, other = quick.counter(resource), slow.counter(resource)
                assert counter is not None
                assert other is not None
                if counter.is_news(amount):
                    counter.told(amount, 10.0)
                other.told(amount, 10.0)
        clock.now += later
        for resource in ("requests", "tokens"):
            counter, other = quick.counter(resource), slow.counter(resource)
            assert counter is not None
            assert other is not None
            assert counter.left() == pytest.approx(other.left(), abs=1e-6)
