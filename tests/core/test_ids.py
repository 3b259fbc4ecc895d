"""IDs are ULIDs as others read them, and sort by time."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from parley_server.core.ids import new_id, ulid

times = st.integers(0, 2**48 - 1)
randomness = st.binary(min_size=10, max_size=10)


@given(times, randomness)
def test_an_id_is_the_ulid_of_its_parts(milliseconds: int, random: bytes) -> None:
    assert ulid(milliseconds, random) == str(ULID(milliseconds.to_bytes(6, "big") + random)).lower()


@given(times, times, randomness, randomness)
def test_ids_sort_by_time(one: int, other: int, a: bytes, b: bytes) -> None:
    if one != other:
        assert (ulid(one, a) < ulid(other, b)) is (one < other)


def test_ids_are_new_each_time_and_of_now() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert abs(ULID.from_str(ids.pop().upper()).timestamp - time.time()) < 60
