"""Who is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.fair import HEAD_START, FairQueue


def order(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


def test_callers_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.add(item, item[0])
    assert order(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_comes_late_does_not_get_what_others_have_had_before() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(4):
        queue.add(f"a{number}", "a")
    assert [queue.take(), queue.take()] == ["a0", "a1"]
    for number in range(3):
        queue.add(f"b{number}", "b")
    assert order(queue) == ["b0", "a2", "b1", "a3", "b2"]


def test_priority_is_a_head_start_not_a_right_of_way() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("plain", "a")
    for number in range(20):
        queue.add(f"urgent{number}", "b", priority=1)
    taken = order(queue)
    assert taken.index("plain") == HEAD_START


def test_what_is_withdrawn_is_passed_over() -> None:
    queue: FairQueue[str] = FairQueue()
    numbers = [queue.add(item, "a") for item in ("one", "two", "three")]
    queue.withdraw(numbers[1])
    assert len(queue) == 2
    assert order(queue) == ["one", "three"]
    assert len(queue) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 4), st.booleans()), max_size=40))
def test_everybody_gets_a_turn_once_and_nothing_is_left(entries: list[tuple[str, int, bool]]) -> None:
    queue: FairQueue[int] = FairQueue()
    numbers = [queue.add(index, caller, priority) for index, (caller, priority, _) in enumerate(entries)]
    for number, (_, _, withdrawn) in zip(numbers, entries, strict=True):
        if withdrawn:
            queue.withdraw(number)
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    assert sorted(taken) == [index for index, (_, _, withdrawn) in enumerate(entries) if not withdrawn]
    assert len(queue) == 0
    assert not queue._last_start  # nothing is remembered of callers who have gone
    assert not queue._waiting
