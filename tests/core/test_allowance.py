"""Extras are some at any time and then a share of the calls, whatever the order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.allowance import Allowance
from parley_server.core.gauges import Gauges


@given(events=st.lists(st.booleans(), max_size=300), share=st.floats(0, 1), most=st.floats(0, 20))
def test_never_more_than_some_and_a_share_of_the_calls(events: list[bool], share: float, most: float) -> None:
    allowance = Allowance(share, most)
    calls = extras = 0
    for call in events:
        if call:
            allowance.called()
            calls += 1
        else:
            extras += allowance.take()
        assert extras <= most + share * calls + 1e-6


@pytest.mark.parametrize(("share", "most", "extras"), [(0.0, 0.0, 0), (0.0, 3.0, 3), (0.05, 3.0, 7), (1.0, 1.0, 100)])
def test_a_hundred_calls_that_each_want_one(share: float, most: float, extras: int) -> None:
    allowance = Allowance(share, most)
    taken = 0
    for _ in range(100):
        allowance.called()
        taken += allowance.take()
    assert taken == pytest.approx(extras, abs=1)


def test_gauges_look_when_they_are_read() -> None:
    gauges, held = Gauges(), [1, 2]
    gauges.add("held", lambda: len(held))
    assert gauges.read() == {"held": 2}
    held.clear()
    assert gauges.read() == {"held": 0}
