"""Counting the calls under way: from before they wait for anything until their answer is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from parley_server.core.context import Context
from parley_server.core.errors import Unavailable
from parley_server.core.reply import Reply
from parley_server.pipeline.in_use import InUse
from tests.fakes import Attempts, Upstream, chat, completed, context, delta, opened, started

ANSWER = Upstream([started(), opened(), delta("one")], 5.0, [completed()])


async def test_a_call_counts_until_its_answer_is_closed() -> None:
    layer = InUse()
    reply = await layer(ANSWER)(chat(), context())
    over = asyncio.create_task(layer.over())
    async with reply:
        async for _ in reply:
            await asyncio.sleep(1)
            assert layer.calls == 1
            assert not over.done()
    await over
    assert layer.calls == 0


async def test_who_waits_for_an_answer_counts() -> None:
    layer = InUse()

    async def slow(request: Any, ctx: Context) -> Reply[Any]:
        await asyncio.sleep(100)
        return await ANSWER(request, ctx)

    call = asyncio.create_task(layer(slow)(chat(), context()))
    await asyncio.sleep(1)
    assert layer.calls == 1
    call.cancel()
    await layer.over()
    assert layer.calls == 0


async def test_failures_do_not_stay() -> None:
    layer = InUse()
    with pytest.raises(Unavailable):
        await layer(Attempts(Unavailable("no")))(chat(), context())
    await layer.over()


async def test_the_last_of_several_ends_the_wait_however_they_come_and_go() -> None:
    layer = InUse()
    ask = layer(ANSWER)
    first = await ask(chat(), context())
    over = asyncio.create_task(layer.over())
    await asyncio.sleep(0)
    await first.aclose()
    second = await ask(chat(), context())  # before the waiting task has had its turn
    await asyncio.sleep(1)
    assert not over.done()
    await second.aclose()
    await over
