"""Calls are known until gRPC has taken their answers, without anybody being told that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from parley_server.api.calls import Calls
from parley_server.core.context import Context
from tests.fakes import context


class Call:
    """A handler in a task, as gRPC runs it: what it gives still has to be sent when it is done."""

    def __init__(self, calls: Calls) -> None:
        self.handled, self.sent = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(calls))

    async def _run(self, calls: Calls) -> None:
        with calls.track(context()):
            await self.handled.wait()
        await self.sent.wait()


@asynccontextmanager
async def call(calls: Calls) -> AsyncIterator[Call]:
    made = Call(calls)
    await asyncio.sleep(0)
    yield made
    made.handled.set()
    made.sent.set()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_call_is_one_until_its_answer_is_sent() -> None:
    calls = Calls()
    assert await calls.drained(0)
    async with call(calls) as one:
        assert len(calls) == 1
        one.handled.set()
        await asyncio.sleep(0)
        assert len(calls) == 1, "its answer is still on its way"
        assert await calls.cleaned_up(0), "no handler is at work"
        assert not await calls.drained(0.01)
        one.sent.set()
        await asyncio.sleep(0)
        assert len(calls) == 0
        assert await calls.drained(0)
    assert calls.begun == 1


async def test_a_drain_waits_for_handlers_and_for_what_they_send() -> None:
    calls = Calls()
    async with call(calls) as one, call(calls) as other:
        draining = asyncio.create_task(calls.drained(5))
        for event in (one.handled, one.sent, other.handled):
            event.set()
            await asyncio.sleep(0.01)
            assert not draining.done()
        other.sent.set()
        assert await draining


async def test_a_drain_that_takes_too_long_leaves_what_can_be_cut() -> None:
    calls = Calls()
    async with call(calls) as one:
        assert not await calls.drained(0.01)
        assert calls.cut() == 1
        assert await calls.cleaned_up(1)
        assert one.task.cancelled()
        assert await calls.drained(0)


async def test_work_in_the_background_counts_until_it_is_done() -> None:
    calls = Calls()
    go_on = asyncio.Event()

    async def work() -> None:
        with calls.background():
            await go_on.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert len(calls) == 1
    assert not await calls.drained(0.01)
    go_on.set()
    assert await calls.drained(1)
    await task


async def test_one_answer_that_is_stuck_keeps_nothing_else() -> None:
    calls = Calls()

    async def quick() -> None:
        with calls.track(context()):
            pass

    async with call(calls) as stuck:
        stuck.handled.set()
        for _ in range(1000):
            await asyncio.create_task(quick())
        assert len(calls) == 1
        assert len(calls._sending) < 100
    assert len(calls) == 0


async def test_every_call_is_told_of_however_it_ended() -> None:
    calls = Calls()
    told: list[Context] = []
    calls.over = told.append
    with pytest.raises(ValueError, match="mistake"), calls.track(ctx := context()):
        raise ValueError("mistake")
    assert told == [ctx]


async def test_what_goes_wrong_in_telling_spoils_no_answer() -> None:
    calls, said = Calls(), []

    def cannot(_: Context) -> None:
        raise OSError("the log is full")

    calls.over = cannot
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: said.append(str(what["exception"])))
    with calls.track(context()):
        pass
    assert said == ["the log is full"]
    assert await calls.cleaned_up(0)
