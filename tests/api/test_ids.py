"""ULIDs: sorted by time, unlike each other, readable by whoever knows the format."""

from __future__ import annotations

import time

from parley_server.api.ids import ulid

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def _number(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 32 + _DIGITS.index(digit)
    return number


def test_ulid_has_26_characters_that_tell_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = ulid()
    after = time.time_ns() // 1_000_000
    assert len(made) == 26
    assert before <= _number(made) >> 80 <= after


def test_ulids_of_one_millisecond_differ_in_all_80_random_bits() -> None:
    numbers = [_number(ulid()) & (1 << 80) - 1 for _ in range(200)]
    seen_as_one, seen_as_zero = 0, 0
    for number in numbers:
        seen_as_one |= number
        seen_as_zero |= ~number
    assert len(set(numbers)) == 200
    assert seen_as_one & seen_as_zero & (1 << 80) - 1 == (1 << 80) - 1


def test_later_ulids_sort_behind_earlier_ones() -> None:
    earlier = ulid()
    while time.time_ns() // 1_000_000 <= _number(earlier) >> 80:
        pass
    assert earlier < ulid()
