"""The circuit of a target: a machine with three states, held against its rules in any order of events."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parley_server.core.circuit import Circuit, CircuitPolicy

POLICY = CircuitPolicy(failures=3, ratio=0.5, fewest=6, window=10.0, cool=4.0, cap=12.0, probes=2, successes=2)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class At:
    """A circuit, its clock, and short words for what happens to it."""

    def __init__(self, policy: CircuitPolicy = POLICY) -> None:
        self.clock = Clock()
        self.circuit = Circuit(policy, self.clock)

    def call(self, outcome: str) -> None:
        ticket = self.circuit.admit()
        assert ticket is not None
        match outcome:
            case "ok":
                self.circuit.succeeded(ticket)
            case "bad":
                self.circuit.failed(ticket)
            case _:
                self.circuit.left(ticket)


def test_failures_in_a_row_open_it() -> None:
    at = At()
    for outcome in ("bad", "bad", "ok", "bad", "bad"):
        at.call(outcome)
    assert at.circuit.state() == "closed"
    at.call("bad")
    assert at.circuit.state() == "open"
    assert at.circuit.admit() is None
    assert at.circuit.wait() == pytest.approx(4.0)


def test_a_share_of_failures_opens_it_but_only_of_the_window() -> None:
    at = At()
    for outcome in ("bad", "ok", "bad", "ok"):
        at.call(outcome)
    at.clock.now += 20
    for outcome in ("bad", "ok", "bad", "ok", "ok"):
        at.call(outcome)
    assert at.circuit.state() == "closed"
    at.call("bad")
    assert at.circuit.state() == "open"


def test_callers_who_leave_count_as_nothing() -> None:
    at = At()
    for _ in range(100):
        at.call("left")
    for outcome in ("bad", "left", "bad", "left"):
        at.call(outcome)
    assert at.circuit.state() == "closed"
    at.call("bad")
    assert at.circuit.state() == "open"


def test_it_closes_after_enough_probes() -> None:
    at = At()
    for _ in range(3):
        at.call("bad")
    at.clock.now += 4
    first, second = at.circuit.admit(), at.circuit.admit()
    assert first is not None
    assert second is not None
    assert at.circuit.admit() is None  # two probes at a time
    at.circuit.succeeded(first)
    assert at.circuit.state() == "half-open"
    at.circuit.succeeded(second)
    assert at.circuit.state() == "closed"


def test_a_probe_that_fails_doubles_the_cooling_up_to_the_cap() -> None:
    at = At()
    for _ in range(3):
        at.call("bad")
    for cooling in (8.0, 12.0, 12.0):
        at.clock.now += at.circuit.wait()
        at.call("bad")
        assert at.circuit.wait() == pytest.approx(cooling)


def test_a_probe_that_leaves_makes_room_for_another() -> None:
    at = At()
    for _ in range(3):
        at.call("bad")
    at.clock.now += 4
    for _ in range(10):
        at.call("left")
    assert at.circuit.state() == "half-open"


def test_what_the_provider_asks_for_is_a_lower_bound() -> None:
    at = At()
    ticket = at.circuit.admit()
    assert ticket is not None
    at.circuit.shut(60.0)
    assert at.circuit.wait() == pytest.approx(60.0)
    at.circuit.shut(5.0)  # a later answer that knows less
    assert at.circuit.wait() == pytest.approx(60.0)
    at.circuit.failed(ticket, 1.0)  # one that was under way
    assert at.circuit.wait() == pytest.approx(60.0)


def test_who_waited_as_told_is_let_in_although_his_timer_rang_early() -> None:
    at = At()
    at.circuit.shut(1.0)
    at.clock.now += 0.9985
    assert at.circuit.admit()


def test_a_warning_shuts_nobody_out_but_one_failure_is_enough_then() -> None:
    at = At()
    at.circuit.warn(30.0)
    assert at.circuit.state() == "closed"
    tickets = [at.circuit.admit() for _ in range(100)]
    assert tickets == [0] * 100
    at.circuit.failed(0)
    assert at.circuit.wait() == pytest.approx(4.0), "as long as any first time"
    at.clock.now += 4
    at.call("ok")
    at.call("ok")
    at.call("bad")
    assert at.circuit.state() == "closed", "once it has been open it is closed as ever"


def test_a_warning_is_over_with_a_success_or_with_its_time() -> None:
    at = At()
    at.circuit.warn(30.0)
    at.call("left")
    at.call("ok")
    at.call("bad")
    assert at.circuit.state() == "closed"
    at = At()
    at.circuit.warn(1e9)
    at.clock.now += POLICY.cap
    at.call("bad")
    assert at.circuit.state() == "closed"


def test_a_warning_says_nothing_to_a_circuit_that_is_open() -> None:
    at = At()
    at.circuit.shut(10.0)
    at.circuit.warn(100.0)
    assert at.circuit.wait() == pytest.approx(10.0)
    at.clock.now += 10
    for outcome in ("ok", "ok", "bad"):
        at.call(outcome)
    assert at.circuit.state() == "closed"


def test_others_can_be_told_when_failures_open_it() -> None:
    at, told = At(), list[float]()
    at.circuit.on_open = told.append
    at.circuit.shut(60.0)  # a rate limit is no failure
    at.clock.now += 60
    at.call("bad")
    at.clock.now += 8
    for outcome in ("ok", "ok", "bad", "bad", "bad"):
        at.call(outcome)
    assert told == [8.0, 4.0]


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    @initialize()
    def begin(self) -> None:
        self.at = At()
        self.tickets: list[int] = []
        self.until = 0.0

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.at.clock.now += seconds

    @rule()
    def somebody_calls(self) -> None:
        state, ticket = self.at.circuit.state(), self.at.circuit.admit()
        if state == "open":
            assert ticket is None
        if state == "closed":
            assert ticket == 0
        if ticket is not None:
            self.tickets.append(ticket)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "bad", "left"]), after=st.none() | st.floats(0, 30))
    def a_call_ends(self, data: st.DataObject, outcome: str, after: float | None) -> None:
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        match outcome:
            case "ok":
                self.at.circuit.succeeded(ticket)
            case "bad":
                self.at.circuit.failed(ticket, after)
            case _:
                self.at.circuit.left(ticket)

    @rule(seconds=st.floats(0.1, 30))
    def others_warn(self, seconds: float) -> None:
        state, wait = self.at.circuit.state(), self.at.circuit.wait()
        self.at.circuit.warn(seconds)
        assert (self.at.circuit.state(), self.at.circuit.wait()) == (state, wait)

    @rule(seconds=st.floats(0.1, 30))
    def the_provider_sets_a_time(self, seconds: float) -> None:
        self.at.circuit.shut(seconds)
        assert self.at.circuit.wait() >= seconds - 1e-6

    @invariant()
    def cooling_is_never_shortened(self) -> None:
        circuit, now = self.at.circuit, self.at.clock.now
        if circuit.state() == "open":
            assert now + circuit.wait() >= self.until - 1e-6
            self.until = now + circuit.wait()
        else:
            assert now >= self.until - 1e-6
            self.until = 0.0

    @invariant()
    def no_more_probes_than_allowed_are_under_way(self) -> None:
        if self.at.circuit.state() == "half-open":
            admitted = 0
            while (ticket := self.at.circuit.admit()) is not None:
                self.tickets.append(ticket)
                admitted += 1
                assert admitted <= POLICY.probes


TestAnything = Anything.TestCase
