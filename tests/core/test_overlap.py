"""What a continuation repeats is taken out, in whatever pieces it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.overlap import Overlap

CASES = {
    "nothing_repeated": ("The quick brown fox", " jumps over", " jumps over"),
    "the_last_words": ("The quick brown fox", "quick brown fox jumps", " jumps"),
    "everything": ("The quick brown fox", "The quick brown fox jumps", " jumps"),
    "a_word_cut_in_two": ("Say hel", "lo to them", "lo to them"),
    "too_short_to_tell": ("It was a very", "very long day", "very long day"),
    "a_short_text_again": ("Hello", "Hello there", " there"),
    "laughter": ("Ha", "Ha!", "Ha!"),
    "the_longest_of_several": ("ab ab ab ab ab ab ab ab", "ab ab ab ab ab ab ab ab cd", " cd"),
    "nothing_but_the_repetition": ("The quick brown fox", "quick brown fox", ""),
    "begins_like_the_middle": ("The quick brown fox is here", "quick brown fox jumps", "quick brown fox jumps"),
    "empty_continuation": ("The quick brown fox", "", ""),
    "empty_text": ("", "anything", "anything"),
}


def pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def trimmed(text: str, fragments: list[str]) -> str:
    overlap = Overlap(text)
    return "".join(overlap.feed(fragment) for fragment in fragments) + overlap.finish()


def expected(text: str, continuation: str) -> str:
    """The same by trying every length."""
    least = min(12, max(len(text), 4))
    starts = [s for s in range(len(text) - least + 1) if s == 0 or s >= len(text) - 4096]
    repeated = max((len(text) - s for s in starts if continuation.startswith(text[s:])), default=0)
    return continuation[repeated:]


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("name", CASES)
def test_repetitions(name: str, size: int) -> None:
    text, continuation, new = CASES[name]
    assert trimmed(text, pieces(continuation, size)) == new


@given(st.text("ab ", max_size=60), st.text("ab ", max_size=60), st.integers(1, 20))
def test_any_text_in_any_pieces(text: str, continuation: str, size: int) -> None:
    assert trimmed(text, pieces(continuation, size)) == expected(text, continuation)


@given(st.text(max_size=40), st.text(min_size=12, max_size=40), st.text("xyz", max_size=20), st.integers(1, 7))
def test_a_repeated_end_is_never_said_twice(head: str, end: str, new: str, size: int) -> None:
    text = head + end
    assert (text + trimmed(text, pieces(end + new, size))).startswith(text)
    assert len(trimmed(text, pieces(end + new, size))) <= len(new)


def test_no_more_is_held_back_than_may_be_a_repetition() -> None:
    overlap = Overlap("The quick brown fox")
    assert overlap.feed("quick") == ""
    assert overlap.feed("ly") == "quickly"
    assert overlap.done
    assert overlap.feed(" gone") == " gone"


def test_a_long_text_repeated_as_a_whole() -> None:
    text = "".join(f"Line {n} of a long answer.\n" for n in range(2000))
    assert trimmed(text, pieces(text + "The end.", 5)) == "The end."


def test_the_worst_text_costs_little() -> None:
    text = "a" * 100_000
    assert trimmed(text, pieces("a" * 5000 + "b", 4)) == "a" * 904 + "b"
