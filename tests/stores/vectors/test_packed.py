"""Vectors and changes as bytes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.stores.vectors.changes import Change
from parley_server.stores.vectors.packed import pack, unpack
from tests.stores.vectors.near import clustered, unit


def test_a_vector_comes_back_nearly_the_same() -> None:
    for row in clustered(20, 384, seed=5):
        packed = pack(row, b"note")
        vector, note = unpack(packed)
        assert note == b"note"
        assert vector @ row > 0.99999
        assert vector @ vector == pytest.approx(1, abs=1e-6)
        assert len(packed) == 3 + 2 * 384 + 4


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_a_direction(packed: bytes) -> None:
    try:
        vector, _ = unpack(packed)
    except ValueError:
        return
    assert np.isfinite(vector).all()
    assert vector @ vector == pytest.approx(1, abs=1e-3)


def test_nothing_else_is_taken_for_a_vector() -> None:
    packed = pack(unit(1, 2), b"")
    for wrong in (b"", packed[:-1], b"\x02" + packed[1:], pack(np.zeros(2, np.float32), b"")):
        with pytest.raises(ValueError, match=r"not|short"):
            unpack(wrong)


CHANGES = st.builds(
    Change,
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.floats(0, 1e9),
)


@given(CHANGES)
def test_changes_come_back_the_same(change: Change) -> None:
    assert Change.unpack(change.pack()) == change


@given(st.binary(max_size=60))
def test_other_bytes_are_no_change(packed: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert Change.unpack(packed).pack() == packed
