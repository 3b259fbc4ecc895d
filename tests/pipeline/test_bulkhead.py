"""How much a target is asked at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import DeadlineExceeded, GatewayOverloaded, Unavailable
from parley_server.core.reply import Reply
from parley_server.core.target import Target
from parley_server.pipeline.bulkhead import Bulkhead, BulkheadPolicy, Places
from tests.fakes import chat, context

TARGET = Target("openai", "m")


class Room:
    """A target that takes a second for an answer, behind a bulkhead, and who is in it when."""

    def __init__(self, policy: BulkheadPolicy) -> None:
        self.clock = asyncio.get_running_loop().time
        self.places = Places(policy, self.clock)
        self.service = Bulkhead(TARGET, self.places, self.clock)(self._answer)
        self.most = 0
        self.order: list[str] = []

    async def _answer(self, request: Any, ctx: Context) -> Reply[Any]:
        self.most = max(self.most, self.places.taken)
        self.order.append(ctx.request_id)
        if request.model == "broken":
            raise Unavailable("broken")
        await asyncio.sleep(1)
        return Reply.of(v1.ChatResponse())

    async def call(
        self, name: str = "", model: str = "m", caller: str = "a", priority: int = 0, deadline: float | None = None
    ) -> None:
        ctx = context(deadline=deadline)
        ctx.request_id, ctx.peer, ctx.priority = name, lambda: caller, priority
        async with await self.service(chat(model), ctx) as reply:
            await asyncio.sleep(1)  # the answer is read
            await reply.response()


async def test_no_more_than_allowed_and_a_place_is_held_until_the_answer_is_over() -> None:
    room = Room(BulkheadPolicy(concurrency=2))
    begun = room.clock()
    await asyncio.gather(*(room.call() for _ in range(6)))
    assert room.most == 2
    assert room.clock() - begun == pytest.approx(6.0)
    assert (room.places.taken, room.places.queued) == (0, 0)


async def test_callers_take_turns_and_priority_goes_first() -> None:
    room = Room(BulkheadPolicy(concurrency=1))
    calls = [("a0", "a", 0), ("a1", "a", 0), ("a2", "a", 0), ("b1", "b", 0), ("c9", "c", 1)]
    await asyncio.gather(*(room.call(name, caller=caller, priority=priority) for name, caller, priority in calls))
    assert room.order == ["a0", "c9", "a1", "b1", "a2"]


async def test_failures_give_their_place_back() -> None:
    room = Room(BulkheadPolicy(concurrency=1))
    for _ in range(3):
        with pytest.raises(Unavailable):
            await room.call(model="broken")
    assert room.places.taken == 0


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5, 2.0, 2.5])
async def test_who_leaves_in_whatever_phase_leaves_nothing_behind(after: float) -> None:
    room = Room(BulkheadPolicy(concurrency=1))
    first, second, third = (asyncio.create_task(room.call(str(number))) for number in range(3))
    await asyncio.sleep(after)
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert second.cancelled()
    assert room.order[-1] == "2"
    assert (room.places.taken, room.places.queued) == (0, 0)


async def test_who_leaves_just_as_it_is_his_turn_passes_the_place_on() -> None:
    room = Room(BulkheadPolicy(concurrency=1))
    assert await room.places.take(str, 0)
    waiting = asyncio.create_task(room.places.take(str, 0))
    await asyncio.sleep(0)
    room.places.give_back(1.0)  # his turn has come, and he does not know yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert room.places.taken == 0


async def test_a_full_queue_and_too_long_a_wait_say_when_to_come_back() -> None:
    room = Room(BulkheadPolicy(concurrency=1, queue=1, max_wait=1.5))
    first, second = asyncio.create_task(room.call()), asyncio.create_task(room.call())
    await asyncio.sleep(0)
    with pytest.raises(GatewayOverloaded) as full:
        await room.call()
    assert (full.value.retry_after or 0) >= 1.0
    assert full.value.facts == {"provider": "openai", "model": "m"}
    with pytest.raises(GatewayOverloaded):
        await second  # it has waited for its 1.5 s
    await first


async def test_a_deadline_before_ones_turn_is_told_at_once() -> None:
    room = Room(BulkheadPolicy(concurrency=1))
    await room.call()  # now it is known that an answer takes two seconds
    running = [asyncio.create_task(room.call()) for _ in range(3)]
    await asyncio.sleep(0)
    before = room.clock()
    with pytest.raises(DeadlineExceeded, match=r"queue of about 6\.0 s, and 5\.0 s are left"):
        await room.call(deadline=5.0)
    assert room.clock() == before
    await room.call(deadline=9.0)
    await asyncio.gather(*running)
