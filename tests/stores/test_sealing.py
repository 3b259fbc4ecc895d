"""Values come back as they were, or not at all."""

from __future__ import annotations

import os
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from parley_server.pipeline.cache.entry import Entry, Saved
from parley_server.stores.sealing import Seals

SIGNED = Seals(b"secret")
SEALED = Seals(b"secret", [bytes(range(32))])

FIELDS = {
    "data": st.binary(max_size=300),
    "made": st.floats(0, 2**33),
    "ttl": st.integers(1, 10**6).map(float),
    "grace": st.integers(0, 10**5).map(float),
    "revision": st.integers(0, 2**53),
    "tenant": st.text(max_size=63),
    "target": st.text(max_size=256),
    "answered": st.text(max_size=256),
    "namespace": st.text(max_size=128),
    "saved": st.builds(Saved, *[st.integers(0, 2**31)] * 3),
}


@given(st.fixed_dictionaries(FIELDS), st.binary(max_size=40), st.sampled_from([SIGNED, SEALED]))
def test_an_entry_comes_back_as_it_was(fields: dict[str, Any], place: bytes, seals: Seals) -> None:
    packed = seals.open(seals.close(Entry.of(**fields).packed, place), place)
    assert packed is not None
    again = Entry(packed)
    assert {name: getattr(again, name) for name in FIELDS} == fields


@given(st.data(), st.binary(max_size=200), st.sampled_from([SIGNED, SEALED]))
def test_a_bit_flipped_anywhere_makes_it_no_answer(data: st.DataObject, packed: bytes, seals: Seals) -> None:
    value = bytearray(seals.close(packed, b"here"))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    assert seals.open(bytes(value), b"here") is None


@pytest.mark.parametrize("seals", [SIGNED, SEALED])
def test_every_single_bit_counts(seals: Seals) -> None:
    value = seals.close(b"an answer", b"here")
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        assert seals.open(bytes(damaged), b"here") is None


@given(st.data(), st.binary(max_size=200), st.sampled_from([SIGNED, SEALED]))
def test_what_is_cut_short_or_made_up_is_no_answer(data: st.DataObject, packed: bytes, seals: Seals) -> None:
    value = seals.close(packed, b"here")
    assert seals.open(value[: data.draw(st.integers(0, len(value) - 1))], b"here") is None
    assert seals.open(value + data.draw(st.binary(min_size=1, max_size=3)), b"here") is None
    assert seals.open(data.draw(st.binary(max_size=100)), b"here") is None


@given(st.binary(max_size=20), st.binary(max_size=20), st.sampled_from([SIGNED, SEALED]))
def test_a_value_belongs_to_its_place(here: bytes, there: bytes, seals: Seals) -> None:
    opened = seals.open(seals.close(b"an answer", here), there)
    assert (opened == b"an answer") is (here == there)
    assert opened is None or here == there


def test_keys_rotate() -> None:
    old, new = os.urandom(32), os.urandom(32)
    value = Seals(b"", [old]).close(b"an answer", b"")
    assert Seals(b"", [new, old]).open(value, b"") == b"an answer"
    assert Seals(b"", [new]).open(value, b"") is None
    assert Seals(b"", [old]).open(Seals(b"", [new, old]).close(b"an answer", b""), b"") is None


def test_where_values_are_sealed_one_that_is_only_signed_is_none_of_ours() -> None:
    assert SEALED.open(SIGNED.close(b"an answer", b""), b"") is None
    assert SIGNED.open(SEALED.close(b"an answer", b""), b"") is None
    assert Seals(b"other").open(SIGNED.close(b"an answer", b""), b"") is None


def test_what_is_sealed_shows_nothing_and_is_never_the_same_twice() -> None:
    one, other = (SEALED.close(b"an answer", b"") for _ in range(2))
    assert one != other
    assert b"answer" not in one


def test_a_value_that_would_unfold_without_measure_is_refused() -> None:
    body = zstandard.ZstdCompressor().compress(bytes(200 * 1024 * 1024))
    bomb = b"\x01\x01" + SIGNED._tag(body, b"") + body
    assert len(bomb) < 100_000
    assert SIGNED.open(bomb, b"") is None
