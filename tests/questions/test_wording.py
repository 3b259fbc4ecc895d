"""Which questions ask the same, by their words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.pipeline.cache.wording import same, stem, wording
from tests.questions.pairs import Pair, pairs


def are_same(one: str, other: str) -> bool:
    forth, back = same(wording(one), wording(other)), same(wording(other), wording(one))
    assert forth == back
    return forth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "What is the best way to reset my password?"),
        ("how do i reset my password", "HOW DO I RESET MY PASSWORD??"),
        ("What is the capital of France?", "Tell me the capital of France, please."),
        ("Can I cancel my order?", "Is it possible to cancel my order?"),
        ("Why is the sky blue?", "What makes the sky blue?"),
        ("Which foods don’t contain gluten?", "Which foods do not contain gluten?"),
        ("How do I turn on notifications?", "How can I enable notifications?"),
        ("How many days are in a year?", "What is the number of days in a year?"),
        ("List 3 rivers in Peru.", "Name three rivers in Peru."),
        ("In Python, how do I sort a list?", "How can I sort a list in Python?"),
        ("Wie wird das Wetter?", "wie wird das wetter"),
        ("東京の天気は？", "東京の天気は?"),
    ],
)
def test_the_same_in_other_words(one: str, other: str) -> None:
    assert are_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("Which foods contain gluten?", "Which foods don't contain gluten?"),
        ("Fly from Oslo to Rome.", "Fly from Rome to Oslo."),
        ("Does a cat chase a dog?", "Does a dog chase a cat?"),
        ("Write to sales@example.com.", "Write to info@example.com."),
        ("What does rm -r do?", "What does rm -i do?"),
        ("How do I get a job in IT?", "How do I get a job in it?"),
        ("Is it cold in May?", "Is it cold?"),
        ("Summarise it.", "What is it?"),
        ("", ""),
        ("?!", "?!"),
        ("Wie wird das Wetter heute?", "Wie wird das Wetter morgen?"),
        ("東京の天気は？", "大阪の天気は？"),
        ("Explain how to write a contract.", "Write a contract."),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert not are_same(one, other)


@pytest.mark.parametrize("pair", [*pairs("tuning"), *pairs("judging")], ids=lambda pair: pair.one[:30])
def test_nothing_that_only_looks_alike_passes(pair: Pair) -> None:
    if pair.is_same:
        one, other = wording(pair.one), wording(pair.other)
        assert one.signature == other.signature or not same(one, other)
    else:
        assert not are_same(pair.one, pair.other)


def test_many_questions_in_other_words_pass() -> None:
    found = [are_same(pair.one, pair.other) for pair in pairs("judging") if pair.is_same]
    assert sum(found) / len(found) > 0.45


def test_among_hundreds_of_questions_none_is_taken_for_another() -> None:
    judging = pairs("judging")
    meant = {frozenset((pair.one, pair.other)) for pair in judging if pair.is_same}
    texts = sorted({text for pair in judging for text in (pair.one, pair.other)})
    worded = [wording(text) for text in texts]
    for index, one in enumerate(worded):
        for before in range(index):
            if same(one, worded[before]):
                assert frozenset((texts[index], texts[before])) in meant


SMALL = ["how", "what", "do", "i", "the", "a", "is", "can", "not", "to", "from", "Will", "May", "who", "in"]
WORDS = st.sampled_from([*SMALL, "big", "large", "3", "three", "+", "-", "buy", "sell", "order?", "running,", "Rome"])
TEXTS = st.lists(WORDS, max_size=9).map(" ".join) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_the_same_in_both_directions_and_by_signature(one: str, other: str) -> None:
    if are_same(one, other):
        assert wording(one).signature == wording(other).signature


@given(st.lists(WORDS, min_size=1, max_size=9), st.data())
def test_another_number_is_another_question(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words)))
    one, other = ([*words[:place], number, *words[place:]] for number in ("17", "71"))
    assert not are_same(" ".join(one), " ".join(other))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", "run"),
        ("parties", "party"),
        ("party", "party"),
        ("wrote", stem("writing")),
        ("boxes", "box"),
        ("cases", stem("case")),
        ("organised", stem("organize")),
        ("bus", "bus"),
        ("class", "class"),
        ("3rd", "3rd"),
        ("third", "3rd"),
        ("sing", "sing"),
        ("été", "été"),
    ],
)
def test_stems(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_long_questions_take_no_time_to_speak_of() -> None:
    few = " ".join(f"word{number % 7} big large" for number in range(600))
    one, other = wording(few), wording(few.replace("big", "large"))
    begun = time.perf_counter()
    assert not same(one, other)
    assert same(one, wording(few.upper()))
    assert time.perf_counter() - begun < 1
