"""Orders of targets: tables, and simulations in which shares and speeds have to come out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.core.standing import FORGOTTEN, Standing
from parley_server.core.strategies import (
    EXPLORATION,
    Call,
    Spread,
    Strategy,
    cheapest,
    fastest,
    least_busy,
    least_used,
    nearest,
    order,
    prefix_of,
    weighted,
)
from tests.fakes import chat

S = v1.RoutingOptions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Told:
    """A rate limit."""

    limit: int | None
    remaining: int | None
    resource: str = "tokens"
    reset: float | None = 60.0


@dataclass
class Some:
    """A target of a test."""

    key: str
    weight: int = 1
    cost: int | None = None
    standing: Standing = field(default_factory=lambda: Standing(lambda: 0.0))


def keys(options: list[Some]) -> str:
    return "".join(option.key for option in options)


def never() -> float:
    """A chance at which nothing is explored."""
    return 0.99


def some(key: str, clock: Clock | None = None, **more: int | None) -> Some:
    clock = clock or Clock()
    return Some(key, standing=Standing(clock, lambda headers: [Told(10, int(headers["left"]))]), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(0.0, "abc"), (0.59, "acb"), (0.6, "bac"), (0.89, "bca"), (0.9, "cab"), (0.999, "cba")],
)
def test_a_draw_falls_by_weight_and_places_the_rest_too(draw: float, expected: str) -> None:
    assert keys(weighted([some("a", weight=6), some("b", weight=3), some("c", weight=1)], draw)) == expected


def test_weight_zero_is_only_after_the_others() -> None:
    options = [some("z", weight=0), some("a"), some("y", weight=0)]
    assert {keys(weighted(options, draw / 10)) for draw in range(10)} == {"azy"}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True))
def test_a_weighted_order_has_everybody_once(weights: list[int], draw: float) -> None:
    options = [Some(str(number), weight) for number, weight in enumerate(weights)]
    assert sorted(map(id, weighted(options, draw))) == sorted(map(id, options))


def test_weights_are_met_in_a_thousand_simulations() -> None:
    """Whatever the start: after 100 calls no share is off by more than two calls, for first and second places alike."""
    options = [some("a", weight=60), some("b", weight=30), some("c", weight=10)]
    for seed in range(1000):
        draw = Spread(random.Random(seed).random)
        first = Counter(weighted(options, draw())[0].key for _ in range(100))
        assert all(abs(first[option.key] - option.weight) <= 2 for option in options), (seed, first)


def test_shares_are_smooth() -> None:
    """Of any ten calls in a row, one of two equals gets neither less than four nor more than six."""
    options = [some("a"), some("b")]
    draw = Spread(random.Random(1).random)
    said = [weighted(options, draw())[0].key for _ in range(1000)]
    assert {said[at : at + 10].count("a") for at in range(990)} <= {4, 5, 6}


def test_second_places_are_shared_by_weight() -> None:
    options = [some("a", weight=50), some("b", weight=40), some("c", weight=10)]
    draw = random.Random(3).random
    second = Counter(keys(weighted(options, draw()))[1] for _ in range(20_000) if True)
    # by hand: b comes second if a is first (0.5 * 0.8), or c (0.1 * 4/9); and so on
    assert second["b"] / 20_000 == pytest.approx(0.5 * 0.8 + 0.1 * 4 / 9, abs=0.02)


def seen(key: str, clock: Clock, *seconds: float, failed: int = 0) -> Some:
    option = some(key, clock)
    for one in seconds:
        option.standing.answered(one, streaming=True)
    for _ in range(failed):
        option.standing.failed()
    return option


def test_fastest_first() -> None:
    clock = Clock()
    options = [seen("a", clock, 0.3, 0.3), seen("b", clock, 0.1), seen("c", clock, 0.2, 0.2)]
    assert keys(fastest(options, Call(random=never))) == "bca"


def test_what_nobody_has_tried_goes_first_one_call_at_a_time() -> None:
    clock = Clock()
    known, new = seen("a", clock, 0.1), some("n", clock)
    assert keys(fastest([known, new], Call(random=never))) == "na"
    new.standing.began()
    assert keys(fastest([known, new], Call(random=never))) == "an"


def test_what_was_not_tried_for_long_is_tried_again() -> None:
    clock = Clock()
    slow = seen("s", clock, 9.0)
    clock.now += FORGOTTEN
    assert keys(fastest([seen("a", clock, 0.1), slow], Call(random=never))) == "sa"


def test_failures_cost_time_too() -> None:
    clock = Clock()
    quick_but_ill = seen("q", clock, 0.1, failed=9)
    dead = seen("d", clock, failed=1)
    assert keys(fastest([dead, quick_but_ill, seen("a", clock, 0.3)], Call(random=never))) == "aqd"


def test_now_and_then_another_one_is_tried() -> None:
    clock = Clock()
    options = [seen("a", clock, 0.1), seen("b", clock, 0.2), seen("c", clock, 0.3)]
    chance = random.Random(5).random
    first = Counter(fastest(options, Call(random=chance))[0].key for _ in range(20_000))
    assert (first["b"] + first["c"]) / 20_000 == pytest.approx(EXPLORATION, rel=0.2)
    assert first["b"] == pytest.approx(first["c"], rel=0.4)


def _calls(
    options: list[Some], speeds: dict[str, float], count: int, clock: Clock, chance: random.Random
) -> Counter[str]:
    """So many calls, five a second, each answered before the next comes."""
    first: Counter[str] = Counter()
    for _ in range(count):
        clock.now += 0.2
        chosen = fastest(options, Call(random=chance.random))[0]
        first[chosen.key] += 1
        chosen.standing.began()
        chosen.standing.answered(speeds[chosen.key] * chance.uniform(0.7, 1.3), streaming=True)
        chosen.standing.over()
    return first


def test_the_fastest_is_found_and_a_change_followed_in_a_thousand_simulations() -> None:
    for seed in range(1000):
        chance, clock = random.Random(seed), Clock()
        options = [some(key, clock) for key in "abc"]
        speeds = {"a": 0.9, "b": 0.3, "c": 0.6}
        assert _calls(options, speeds, 60, clock, chance)["b"] >= 48, seed
        speeds = {"a": 0.9, "b": 1.8, "c": 0.6}  # the fastest becomes the slowest: noticed at once, by asking it
        _calls(options, speeds, 60, clock, chance)
        assert _calls(options, speeds, 60, clock, chance)["c"] >= 48, seed
        speeds = {"a": 0.1, "b": 1.8, "c": 0.6}  # one that is hardly asked becomes the fastest: found by exploring
        _calls(options, speeds, 1000, clock, chance)
        assert _calls(options, speeds, 60, clock, chance)["a"] >= 48, seed


def test_cheapest_first_and_unknown_prices_last() -> None:
    options = [some("u"), some("b", cost=20), some("a", cost=10), some("v"), some("z", cost=0)]
    assert keys(cheapest(options)) == "zabuv"


def test_least_busy_for_its_weight() -> None:
    options = [some("a", weight=1), some("b", weight=4), some("c", weight=1), some("d", weight=0)]
    for option, busy in zip(options, (1, 5, 0, 0), strict=True):
        for _ in range(busy):
            option.standing.began()
    assert keys(least_busy(options)) == "cbad"
    waiting = some("w")
    waiting.standing.bind(queued=lambda: 3)
    assert keys(least_busy([waiting, options[0]])) == "aw"


def test_most_quota_first_and_who_says_nothing_counts_half() -> None:
    options = [some("n"), some("a"), some("b"), some("c")]
    for option, left in zip(options[1:], ("4", "9", "0"), strict=True):
        option.standing.told({"left": left})
    assert keys(least_used(options)) == "bnac"


def test_equal_prefixes_find_the_same_target_and_others_spread() -> None:
    options = [some(key) for key in "abcd"]
    first = Counter(nearest(options, b"%d" % number)[0].key for number in range(4000))
    assert all(count == pytest.approx(1000, rel=0.15) for count in first.values())
    for number in range(100):
        assert keys(nearest(options, b"%d" % number)) == keys(nearest(list(reversed(options)), b"%d" % number))


def test_only_the_prefixes_of_a_target_that_leaves_move() -> None:
    options = [some(key) for key in "abcd"]
    for number in range(500):
        before = keys(nearest(options, b"%d" % number))
        for gone in options:
            left = [option for option in options if option is not gone]
            assert keys(nearest(left, b"%d" % number)) == before.replace(gone.key, "")


def test_affinity_goes_by_weight() -> None:
    options = [some("a", weight=3), some("b", weight=1), some("c", weight=0)]
    first = Counter(nearest(options, b"%d" % number)[0].key for number in range(4000))
    assert first["a"] == pytest.approx(3000, rel=0.05)
    assert first["c"] == 0


def test_affinity_yields_to_full_targets() -> None:
    options = [some(key) for key in "abc"]
    prefix = b"prompt"
    before = keys(nearest(options, prefix))
    next(option for option in options if option.key == before[0]).standing.bind(full=lambda: True)
    assert keys(nearest(options, prefix)) == before[1:] + before[0]


@pytest.mark.parametrize("strategy", [value for value in S.Strategy.values() if value])
def test_targets_left_alone_come_last_in_every_order(strategy: Strategy) -> None:
    clock = Clock()
    options = [some(key, clock, cost=number) for number, key in enumerate("abcd")]
    for option, cool in zip(options[:2], (20.0, 10.0), strict=True):
        circuit = Circuit(CircuitPolicy(failures=1, cool=cool), clock)
        circuit.failed(circuit.admit() or 0)
        option.standing.bind(circuit)
    ordered = order(options, strategy, Call(random=never))
    assert keys(ordered)[2:] == "ba", "the one that may be asked first leads"
    assert sorted(keys(ordered)) == list("abcd")


@pytest.mark.parametrize("strategy", S.Strategy.values())
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_order_has_everybody_once(strategy: Strategy, count: int, chance: random.Random) -> None:
    options = [some(str(number), cost=number % 2 or None, weight=number % 3) for number in range(count)]
    ordered = order(options, strategy, Call(draw=chance.random, random=chance.random, prefix=lambda: b"p"))
    assert sorted(map(id, ordered)) == sorted(map(id, options))


def _turns(*texts: str, system: str = "be kind", key: str = "") -> v1.ChatRequest:
    request = v1.ChatRequest(model="m")
    request.messages.add(role=v1.ROLE_SYSTEM).parts.add(text=system)
    for number, text in enumerate(texts):
        request.messages.add(role=v1.ROLE_ASSISTANT if number % 2 else v1.ROLE_USER).parts.add(text=text)
    if key:
        request.prompt_cache.key = key
    return request


def _with_tool(request: v1.ChatRequest) -> v1.ChatRequest:
    request.tools.add().function.name = "f"
    return request


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (_turns("hi"), _turns("hi", "hello", "and now?"), True),
        (_turns("hi"), _turns("ho"), False),
        (_turns("hi"), _turns("hi", system="be rude"), False),
        (_turns("hi"), _with_tool(_turns("hi")), False),
        (_turns("hi", system="x" * 9000), _turns("ho", system="x" * 9000), True),
        (_turns("hi", key="k"), _turns("ho", key="k"), True),
        (_turns("hi", key="k"), _turns("hi"), False),
    ],
    ids=["later_turn", "other_turn", "other_system", "tools", "bounded", "key", "key_or_none"],
)
def test_prompts_are_known_by_how_they_begin(one: v1.ChatRequest, other: v1.ChatRequest, same: bool) -> None:
    assert (prefix_of(one) == prefix_of(other)) is same


def test_a_long_prompt_is_not_read_to_its_end() -> None:
    request = chat(text="x" * 100_000)
    assert prefix_of(request) == prefix_of(chat(text="x" * 90_000))
    assert prefix_of(v1.EmbedRequest(model="m")) == b""


def test_one_option_needs_no_order() -> None:
    def fails() -> float:
        raise AssertionError("nobody has to be drawn")

    draw: Callable[[], float] = fails
    only = some("a")
    assert order([only], S.STRATEGY_WEIGHTED, Call(draw=draw)) == [only]
