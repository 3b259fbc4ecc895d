"""Several gateways ask a provider no more than it allows one of them; each keeps its own fair queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from parley_server.core.context import Context
from parley_server.core.errors import RateLimited, StateUnavailable
from parley_server.core.limits import Rule
from parley_server.core.quota import MINUTE, ON_THE_WAY, Quota, SlidingWindow
from parley_server.core.reply import Reply
from parley_server.pipeline.upstream_limits import LimitsPolicy, SharedLimits, SharedRoom, UpstreamLimits
from parley_server.stores.counters import Decision, Limit
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.counters import MemoryCounters
from tests.fakes import chat, context, said
from tests.pipeline.test_upstream_limits import TARGET, Provider, call

GATEWAYS = 4


class Server(MemoryCounters):
    """Counters a millisecond away."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)
        self.steps = 0
        self.away = False

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        self.steps += 1
        await asyncio.sleep(0.001)
        if self.away:
            raise StoreUnavailable("away")
        decision = await super().take(group, limits, calls)
        await asyncio.sleep(0.001)
        return decision

    async def left(self, key: int = 0, requests: int = 60, tokens: int = 0) -> list[int]:
        limits = limited(requests, tokens)
        decision = await super().take(f"up/{key}", [*limits.values()], [[0] * len(limits)])
        return [level.left for level in decision.levels]


def limited(requests: int, tokens: int) -> dict[str, Limit]:
    amounts = {"requests": requests, "tokens": tokens}
    per = int((MINUTE + ON_THE_WAY) * 1000)
    return {kind: Limit(kind, Rule("window", amount, per)) for kind, amount in amounts.items() if amount}


def room(server: Server, requests: int = 60, tokens: int = 0, **policy: Any) -> SharedRoom:
    clock = asyncio.get_running_loop().time

    def quota() -> Quota:
        windows = [SlidingWindow(amount, clock) if amount else None for amount in (requests, tokens)]
        return Quota(windows[0], windows[1], clock)

    shared = SharedLimits(server, limited(requests, tokens), lambda key: f"up/{key}")
    return SharedRoom(quota, LimitsPolicy(**policy), shared)


async def outcome(calling: Any) -> str:
    try:
        await calling
    except RateLimited:
        return "full"
    return "in"


async def test_a_storm_at_four_gateways_meets_hardly_any_429() -> None:
    provider = Provider(60)
    server = Server()
    services = [UpstreamLimits(TARGET, room(server, max_wait=20.0))(provider) for _ in range(GATEWAYS)]
    clock = asyncio.get_running_loop().time
    begun = clock()
    tasks: list[asyncio.Task[str]] = []
    while clock() < begun + 600:  # ten a second, where one a second is allowed
        tasks.append(asyncio.create_task(outcome(call(services[len(tasks) % GATEWAYS]))))
        await asyncio.sleep(0.1)
    done = await asyncio.gather(*tasks)
    assert len(provider.refused) <= 0.01 * len(provider.asked)
    assert done.count("in") >= 0.9 * 600, "and what is allowed is used"
    assert server.steps < 3 * len(tasks)


async def test_nobody_waits_for_what_is_free_and_nobody_queues_where_nobody_may() -> None:
    server = Server()
    first, second = [UpstreamLimits(TARGET, room(server, 10, max_wait=0.0, queue=0))(Provider(100)) for _ in range(2)]
    results = await asyncio.gather(*(outcome(call(one)) for one in [first, second] * 10))
    assert (results.count("in"), results.count("full")) == (10, 10)


async def test_tokens_are_settled_for_all() -> None:
    server = Server()
    services = [UpstreamLimits(TARGET, room(server, 0, 1000, max_wait=0.0))(Provider(100)) for _ in range(2)]
    held = [asyncio.create_task(outcome(call(services[n % 2], max_tokens=400))) for n in range(3)]
    assert await asyncio.gather(*held) == ["in", "in", "full"]
    assert await server.left(requests=0, tokens=1000) == [980], "what two answers have used, and not what was reserved"
    assert await outcome(call(services[1], max_tokens=900)) == "in"


async def test_a_queue_is_asked_for_in_few_steps_and_keeps_its_order() -> None:
    server = Server()
    order: list[str] = []

    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        order.append(ctx.request_id)
        return Reply.of(said("hi"))

    shared = room(server, 60, max_wait=100.0)
    service = UpstreamLimits(TARGET, shared)(provider)

    async def one(name: str, caller: str, priority: int = 0) -> None:
        ctx = context()
        ctx.request_id, ctx.peer, ctx.priority = name, (lambda: caller), priority
        async with await service(chat(), ctx) as reply:
            await reply.response()

    other = UpstreamLimits(TARGET, room(server, 60))(provider)
    await asyncio.gather(*(call(other) for _ in range(60)))
    order.clear()
    first = asyncio.create_task(one("first", "z"))
    await asyncio.sleep(0.01)  # it is refused, and waits
    before = server.steps
    names = [(f"{caller}{turn}", caller) for caller in "ab" for turn in range(20)]
    await asyncio.gather(first, *(one(name, caller) for name, caller in names))
    assert order == ["first", *(f"{caller}{turn}" for turn in range(20) for caller in "ab")]
    assert server.steps - before <= 70, "once a second while it is full, and then all at once"
    assert (shared.queued, len(shared._front)) == (0, 0)


async def test_a_key_that_is_full_leaves_the_others() -> None:
    server = Server()
    shown: list[int | None] = []

    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        shown.append(ctx.credential)
        return Reply.of(said("hi"))

    for _ in range(10):
        await server.take("up/1", [*limited(10, 0).values()], [[1]])  # another gateway has used it up
    service = UpstreamLimits(TARGET, room(server, 10, max_wait=0.0), lambda: [0, 1, 2])(provider)
    results = [await outcome(call(service)) for _ in range(30)]
    assert results.count("in") == 20
    assert [shown.count(key) for key in (0, 1, 2)] == [10, 0, 10]


async def test_the_key_that_was_shown_in_the_end_is_the_one_that_counts() -> None:
    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        ctx.credential = 1
        return Reply.of(said("hi"))

    server = Server()
    await call(UpstreamLimits(TARGET, room(server, 10), lambda: [0, 1])(provider))
    assert [await server.left(key, 10) for key in (0, 1)] == [[10], [9]]


async def test_what_was_not_asked_is_given_back() -> None:
    async def not_asked(*_: Any) -> Reply[Any]:
        error = RateLimited("all keys are at their limits", retry_after=3.0)
        error.attempted = False
        raise error

    server = Server()
    for _ in range(5):
        with pytest.raises(RateLimited, match="all keys"):
            await call(UpstreamLimits(TARGET, room(server, 1, max_wait=0.0))(not_asked))
    assert await server.left(requests=1) == [1]


@pytest.mark.parametrize("after", [0.0, 0.0005, 0.0015, 0.5, 10.0, 59.9, 60.3005, 60.3015, 61.0])
async def test_who_leaves_in_whatever_phase_leaves_nothing_behind(after: float) -> None:
    server = Server()
    mine, other = room(server, 10, max_wait=100.0), room(server, 10, max_wait=100.0)
    await asyncio.gather(*(call(UpstreamLimits(TARGET, other)(Provider(100))) for _ in range(8)))
    service = UpstreamLimits(TARGET, mine)(Provider(100, takes=0.5))
    tasks = [asyncio.create_task(call(service)) for _ in range(6)]
    await asyncio.sleep(after)
    for task in tasks[1:4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in (results[0], *results[4:])] == [Context] * 3
    await asyncio.sleep(1)
    assert (mine.queued, len(mine._front), mine._waiting_requests, mine._asking) == (0, 0, 0, None)
    await asyncio.sleep(130)
    assert await server.left(requests=10) == [10]
    requests = mine.quota().requests
    assert requests is not None
    assert requests.left() == 10


async def test_without_the_store_calls_are_refused_where_it_says_so() -> None:
    server = Server()
    mine, other = room(server, 10, max_wait=100.0), room(server, 10)
    await asyncio.gather(*(call(UpstreamLimits(TARGET, other)(Provider(100))) for _ in range(10)))
    service = UpstreamLimits(TARGET, mine)(Provider(100))
    waiting = [asyncio.create_task(call(service)) for _ in range(3)]
    await asyncio.sleep(1)
    server.away = True
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StateUnavailable] * 3
    with pytest.raises(StateUnavailable):
        await call(service)
    assert (mine.queued, len(mine._front)) == (0, 0)
