"""Hashed groups of letters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.context import Context
from parley_server.embedders.base import CannotEmbed, Vector
from parley_server.embedders.ngrams import HashedNgrams
from tests.fakes import run

CTX = Context("chat", False, "request", "response")


def vector(text: str) -> Vector:
    return run(HashedNgrams().embed(text, CTX))


def test_spelling_is_what_counts() -> None:
    said = vector("How do I reset my password?")
    assert said @ vector("how do i  reset my\npassword?") == pytest.approx(1)
    assert said @ vector("How can I reset my password?") > 0.6
    assert said @ vector("I forgot what to type when I sign in.") < 0.3


def test_the_same_in_every_process_and_version() -> None:
    """Vectors are stored, and compared with those of other gateways."""
    found = vector("The quick brown fox")
    assert np.flatnonzero(found)[:6].tolist() == [0, 21, 27, 30, 36, 60]
    assert np.sign(found[[0, 21, 27, 30, 36, 60]]).tolist() == [1, -1, 1, -1, 1, 1]


@given(st.text(min_size=1, max_size=300))
def test_every_text_has_a_direction_or_none(text: str) -> None:
    try:
        found = vector(text)
    except CannotEmbed:
        return
    assert found.dtype == np.float32
    assert found.shape == (512,)
    assert found @ found == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", [" ", "\n\t", "a" * 10_000])
def test_texts_without_a_vector(text: str) -> None:
    with pytest.raises(CannotEmbed):
        vector(text)
