"""One timer for many waits."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.pipeline.watch import TimeIsUp, Watch
from tests.fakes import run


async def test_wait_that_ends_in_time_is_left_alone() -> None:
    watch = Watch()
    with watch.until(watch.time() + 2):
        await asyncio.sleep(1)
    watch.close()


async def test_overdue_wait_is_broken_off_at_its_time() -> None:
    watch = Watch()
    start = watch.time()
    with pytest.raises(TimeIsUp), watch.until(start + 2):
        await asyncio.sleep(10)
    assert watch.time() - start == pytest.approx(2, abs=0.01)


async def test_wait_that_is_overdue_already_does_not_begin() -> None:
    watch = Watch()
    began = False
    with pytest.raises(TimeIsUp), watch.until(watch.time()):
        began = True
    assert not began


async def test_later_wait_has_a_time_of_its_own() -> None:
    watch = Watch()
    for _ in range(5):
        with watch.until(watch.time() + 2):
            await asyncio.sleep(1.9)
    start = watch.time()
    with pytest.raises(TimeIsUp), watch.until(start + 2):
        await asyncio.sleep(3)
    assert watch.time() - start == pytest.approx(2, abs=0.01)


async def test_shorter_wait_after_a_longer_one_rings_in_time() -> None:
    watch = Watch()
    with watch.until(watch.time() + 100):
        await asyncio.sleep(0)
    start = watch.time()
    with pytest.raises(TimeIsUp), watch.until(start + 1):
        await asyncio.sleep(5)
    assert watch.time() - start == pytest.approx(1, abs=0.01)


async def test_time_between_waits_does_not_count() -> None:
    watch = Watch()
    with watch.until(watch.time() + 1):
        await asyncio.sleep(0)
    await asyncio.sleep(50)
    with watch.until(watch.time() + 1):
        await asyncio.sleep(0.5)


async def test_cancelling_the_reader_is_not_mistaken_for_time() -> None:
    async def wait() -> None:
        watch = Watch()
        with watch.until(watch.time() + 10):
            await asyncio.sleep(20)

    task = asyncio.create_task(wait())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_at_the_same_moment_wins() -> None:
    async def wait() -> None:
        watch = Watch()
        with watch.until(watch.time() + 10):
            await asyncio.sleep(20)

    task = asyncio.create_task(wait())
    asyncio.get_running_loop().call_later(10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_is_not_left_cancelled() -> None:
    watch = Watch()
    with pytest.raises(TimeIsUp), watch.until(watch.time() + 1):
        await asyncio.sleep(2)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)


async def test_infinity_is_a_time() -> None:
    watch = Watch()
    with watch.until(math.inf):
        await asyncio.sleep(100_000)
    watch.close()


async def test_closed_watch_leaves_no_timer_behind() -> None:
    watch = Watch()
    with watch.until(watch.time() + 100):
        await asyncio.sleep(1)
    watch.close()
    loop = asyncio.get_running_loop()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]


@given(st.lists(st.tuples(st.floats(0.01, 50), st.floats(0, 60)), max_size=12))
def test_rings_exactly_for_the_waits_that_take_too_long(waits: list[tuple[float, float]]) -> None:
    async def main() -> None:
        watch = Watch()
        for limit, takes in waits:
            start = watch.time()
            try:
                with watch.until(start + limit):
                    await asyncio.sleep(takes)
            except TimeIsUp:
                assert takes > limit - 0.01
                assert watch.time() - start == pytest.approx(limit, abs=0.01)
            else:
                assert takes < limit + 0.01
        watch.close()

    run(main())
