"""Counters and histograms, and the families that keep them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.instruments import Counter, Families, Family, Histogram, Instrument

DURATION = Instrument("a.duration", "histogram", "s", "How long.", ("kind",), (0.1, 1.0, 10.0))
CALLS = Instrument("a.calls", "counter", "{call}", "How many.", ("kind", "reason"))


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_every_value_in_the_bucket_that_includes_it(values: list[float]) -> None:
    cell = Histogram(DURATION)
    for value in values:
        cell.record(value)
    ends = [*DURATION.bounds, float("inf")]
    begins = [float("-inf"), *DURATION.bounds]
    assert cell.counts == [sum(a < value <= b for value in values) for a, b in zip(begins, ends, strict=True)]
    assert cell.sum == pytest.approx(sum(values))


def test_the_same_values_have_the_same_cell() -> None:
    family = Family(CALLS, Counter)
    family.of("chat", "").add()
    family.of("chat", "").add(2)
    family.of("chat", "TIMEOUT").add()
    assert {values: cell.value for values, cell in family.cells()} == {("chat", ""): 3, ("chat", "TIMEOUT"): 1}


def test_a_value_for_every_attribute_is_needed() -> None:
    with pytest.raises(ValueError, match=r"a\.calls has the attributes"):
        Family(CALLS, Counter).of("chat")


def test_beyond_the_most_all_further_ones_share_a_cell() -> None:
    family = Family(DURATION, Histogram, most=2)
    for name in "abcab":
        family.of(name).record(1)
    family.of("d").record(1)
    assert [(values, sum(cell.counts)) for values, cell in family.cells()] == [(("a",), 2), (("b",), 2), (None, 2)]


def test_a_table_has_a_family_for_what_is_counted() -> None:
    families = Families([DURATION, CALLS])
    assert list(families.counters) == ["a.calls"]
    assert list(families.histograms) == ["a.duration"]
