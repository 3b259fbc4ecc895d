"""Callers ask what their limits allow; what was not used, or not asked at all, is theirs again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import CallerRateLimited, InvalidRequest, StateUnavailable, Unavailable
from parley_server.core.limits import SLOT_WAIT, Rule
from parley_server.core.reply import Reply
from parley_server.core.service import Service, stack
from parley_server.core.target import Target
from parley_server.pipeline.admit import Admit, CallerLimit, Plan
from parley_server.pipeline.meter import Meter
from parley_server.stores.counters import Counters, Decision, Limit
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.counters import MemoryCounters
from tests.fakes import Upstream, answering, chat, completed, context, delta, drain, opened, said, started

REQUESTS = CallerLimit(Limit("caller:a:requests", Rule("window", 3, 10_000)), "requests", "caller:a")
TOKENS = CallerLimit(Limit("tenant:t:tokens", Rule("window", 1000, 60_000)), "tokens", "tenant:t")
SLOTS = CallerLimit(Limit("caller:a:concurrency", Rule("slots", 2)), "concurrency", "caller:a")
BIG = CallerLimit(Limit("caller:a:big", Rule("window", 1, 60_000)), "requests", "caller:a", frozenset({"big", "huge"}))


class Scene:
    """Callers "a", with limits, and "b", without; behind them `service`, metered."""

    def __init__(self, service: Service, *limits: CallerLimit, counters: Counters | None = None) -> None:
        self.counters = MemoryCounters(asyncio.get_running_loop().time) if counters is None else counters
        admit = Admit(self.counters, {"a": Plan("t", limits)}, 100)
        self.service = stack(admit, Meter(Target("mock", "m"), None), service=service)
        self.limits = limits

    async def begin(self, caller: str = "a", **fields: Any) -> tuple[Reply[Any], Context]:
        ctx = context(streaming=fields.pop("streaming", False))
        ctx.caller = caller
        request = chat(fields.pop("model", "m"), fields.pop("text", "hello"))
        if "most" in fields:
            request.sampling.max_output_tokens = fields.pop("most")
        return await self.service(request, ctx), ctx

    async def call(self, caller: str = "a", **fields: Any) -> Context:
        reply, ctx = await self.begin(caller, **fields)
        async with reply:
            await reply.response()
        return ctx

    async def left(self) -> list[int]:
        decision = await self.counters.take("t", [one.limit for one in self.limits], [[0] * len(self.limits)])
        return [level.left for level in decision.levels]


async def test_so_many_and_then_a_refusal_that_says_for_how_long() -> None:
    there = Scene(answering("hi"), REQUESTS)
    clock = asyncio.get_running_loop().time
    for _ in range(3):
        await there.call()
    for _ in range(20):
        await there.call("b")
    with pytest.raises(CallerRateLimited, match=r"caller a may use 3 requests in 10 s; there is room in 10\.0") as full:
        await there.call()
    error = full.value
    assert error.facts == {
        "limitedBy": "caller",
        "metric": "requests",
        "limit": "3",
        "periodSeconds": "10",
        "caller": "a",
    }
    assert (error.retryable, error.falls_back, error.attempted) == (False, False, False)
    assert error.retry_after is not None
    begun = clock()
    await asyncio.sleep(error.retry_after)
    await there.call()
    assert clock() - begun <= 10.04


async def test_tokens_are_reserved_and_made_right_when_the_answer_is_over() -> None:
    there = Scene(answering("hi", input_tokens=10, output_tokens=30), TOKENS)
    reply, _ = await there.begin(text="x" * 80, most=500)
    assert await there.left() == [1000 - 20 - 500]
    with pytest.raises(CallerRateLimited, match="tenant t may use 1000 tokens in 60 s"):
        await there.call(most=600)
    async with reply:
        await reply.response()
    assert await there.left() == [960]
    reply, _ = await there.begin(text="x" * 80)
    assert await there.left() == [960 - 20 - 100], "the usual output, where a call does not say"
    await reply.aclose()


async def test_who_wants_more_than_there_ever_is_waits_until_all_is_there() -> None:
    there = Scene(answering("hi", input_tokens=10, output_tokens=30), TOKENS)
    await there.call(most=50_000)
    with pytest.raises(CallerRateLimited):
        await there.call(most=50_000)
    await there.call(most=900)


async def test_places_are_held_until_the_answer_is_over() -> None:
    upstream = Upstream([started(), opened(), delta("x")], 5.0, [completed(input_tokens=1, output_tokens=1)])
    there = Scene(upstream, SLOTS)
    first, second = [(await there.begin(streaming=True))[0] for _ in range(2)]
    with pytest.raises(CallerRateLimited, match="caller a may have 2 calls at a time") as full:
        await there.begin(streaming=True)
    assert full.value.retry_after == SLOT_WAIT / 1000
    assert "periodSeconds" not in full.value.facts
    await first.aclose()
    third, _ = await there.begin(streaming=True)
    async with second:
        async for _ in second:
            pass
    assert await there.left() == [1]
    await third.aclose()
    assert await there.left() == [2]


@pytest.mark.parametrize("reads_on", [True, False], ids=["to_the_end", "cancelled"])
async def test_streams_are_settled_as_far_as_they_came(reads_on: bool) -> None:
    upstream = Upstream([started(), opened(), delta("x" * 40)], 1.0, [completed(input_tokens=30, output_tokens=20)])
    there = Scene(upstream, REQUESTS, TOKENS)
    reply, _ = await there.begin(streaming=True, text="y" * 20)
    async with reply:
        async for _ in reply:
            if not reads_on:
                break
    assert await there.left() == [2, 950 if reads_on else 1000 - 5 - 10]


async def test_what_was_not_asked_is_given_back() -> None:
    async def refuse(*_: Any) -> Reply[Any]:
        raise InvalidRequest("no such thing")

    counters = MemoryCounters(asyncio.get_running_loop().time)
    admit = Admit(counters, {"a": Plan("t", (REQUESTS, TOKENS, SLOTS))}, 100)
    ctx = context()
    ctx.caller = "a"
    with pytest.raises(InvalidRequest):
        await admit(refuse)(chat(), ctx)
    limits = [one.limit for one in (REQUESTS, TOKENS, SLOTS)]
    levels = (await counters.take("t", limits, [[0, 0, 0]])).levels
    assert [level.left for level in levels] == [3, 1000, 2]


async def test_what_failed_was_a_request_and_used_what_was_billed() -> None:
    async def fail(*_: Any) -> Reply[Any]:
        raise Unavailable("broken")

    there = Scene(fail, REQUESTS, TOKENS, SLOTS)
    with pytest.raises(Unavailable):
        await there.call()
    assert await there.left() == [2, 1000, 2]


async def test_who_goes_away_pays_for_what_the_provider_has_read() -> None:
    async def slow(*_: Any) -> Reply[Any]:
        await asyncio.sleep(100)
        raise AssertionError

    there = Scene(slow, REQUESTS, TOKENS, SLOTS)
    call = asyncio.create_task(there.call(text="x" * 400))
    await asyncio.sleep(1)
    assert await there.left() == [2, 800, 1]
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert await there.left() == [2, 900, 2]


async def test_an_answer_from_a_cache_is_a_request_without_tokens() -> None:
    async def cached(*_: Any) -> Reply[Any]:
        response = said("hi", input_tokens=500, output_tokens=400)
        response.usage.source = v1.Usage.SOURCE_CACHE
        return Reply.of(response)

    counters = MemoryCounters(asyncio.get_running_loop().time)
    service = Admit(counters, {"a": Plan("t", (REQUESTS, TOKENS))}, 100)(cached)
    ctx = context()
    ctx.caller = "a"
    async with await service(chat(), ctx) as reply:
        await reply.response()
    levels = (await counters.take("t", [REQUESTS.limit, TOKENS.limit], [[0, 0]])).levels
    assert [level.left for level in levels] == [2, 1000]


async def test_limits_of_single_models() -> None:
    there = Scene(answering("hi"), REQUESTS, BIG)
    await there.call(model="big")
    with pytest.raises(CallerRateLimited, match="caller a may use 1 requests for big, huge in 60 s") as full:
        await there.call(model="huge")
    assert full.value.facts["models"] == "big,huge"
    assert await there.left() == [2, 0], "all or none"
    await there.call(model="small")
    await there.call(model="small")
    with pytest.raises(CallerRateLimited, match="may use 3 requests in"):
        await there.call(model="small")


async def test_what_is_left_is_told_ahead_of_the_answer() -> None:
    there = Scene(answering("hi", input_tokens=10, output_tokens=30), REQUESTS, TOKENS, SLOTS)
    assert (await there.call("b")).initial == ()
    told = dict((await there.call(most=300, text="x" * 400)).initial)
    assert list(told) == [
        f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")
    ]
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("3", "2")
    assert (told["x-ratelimit-limit-tokens"], told["x-ratelimit-remaining-tokens"]) == ("1000", "600")
    assert 10.0 <= float(told["x-ratelimit-reset-requests"].removesuffix("s")) <= 10.04
    only_slots = Scene(answering("hi"), SLOTS)
    assert (await only_slots.call()).initial == ()


async def test_of_two_limits_the_one_that_is_nearer_its_end_is_told() -> None:
    hour = CallerLimit(Limit("hour", Rule("window", 4, 3_600_000)), "requests", "caller:a")
    there = Scene(answering("hi"), REQUESTS, hour)
    assert dict((await there.call()).initial)["x-ratelimit-limit-requests"] == "3"
    await asyncio.sleep(20)
    await there.call()
    await asyncio.sleep(20)
    told = dict((await there.call()).initial)
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("4", "1")


class Away(MemoryCounters):
    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        raise StoreUnavailable("away")


async def test_no_call_goes_on_without_limits_that_must_be_asked_for() -> None:
    there = Scene(answering("hi"), REQUESTS, counters=Away(lambda: 0.0))
    with pytest.raises(StateUnavailable, match="limits are kept in a store that cannot be asked now"):
        await there.call()
    await there.call("b")


async def test_a_hundred_at_once_are_let_in_as_often_as_they_may() -> None:
    there = Scene(answering("hi"), CallerLimit(Limit("x", Rule("window", 40, 60_000)), "requests", "caller:a"))
    results = await asyncio.gather(*(there.call() for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(result, Context) for result in results) == 40
    assert sum(isinstance(result, CallerRateLimited) for result in results) == 60


async def test_reading_a_stream_through_costs_nothing_of_its_own() -> None:
    upstream = Upstream([started(), opened(), delta("x")], [delta("y")], [completed(input_tokens=1, output_tokens=1)])
    there = Scene(upstream, REQUESTS, TOKENS, SLOTS)
    ctx = context()
    ctx.caller = "a"
    assert len(await drain(there.service, chat(), ctx)) == 3
    assert await there.left() == [2, 998, 2]
