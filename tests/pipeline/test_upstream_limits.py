"""A provider is asked no more than it allows."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

import pytest

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import CredentialsRejected, InvalidRequest, RateLimited, RequestTooLarge, Unavailable
from parley_server.core.quota import Counter, Quota, SlidingWindow, TokenBucket
from parley_server.core.reply import Reply
from parley_server.core.secret import Secret
from parley_server.core.target import Target
from parley_server.pipeline.upstream_limits import LimitsPolicy, Room, UpstreamLimits
from parley_server.providers.auth import Bearer, Keyring
from parley_server.transports.base import Outgoing
from tests.fakes import Upstream, chat, completed, context, delta, opened, said, started

TARGET = Target("acme", "m")


class Provider:
    """Answers within its limits, and with 429 beyond them; counts in one of three ways."""

    def __init__(self, limit: int, way: str = "sliding", takes: float = 0.05, tells: bool = False) -> None:
        self.random = random.Random(1)
        self.clock = asyncio.get_running_loop().time
        self.limit = limit
        self.way = way
        self.takes = takes
        self.tells = tells
        self.asked: list[float] = []
        self.answered: deque[float] = deque()
        self.refused: list[float] = []
        self.level, self.at = float(limit), self.clock()

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]:
        await asyncio.sleep(self.random.uniform(0, 0.1))  # on the way
        self.asked.append(self.clock())
        left = self._left()
        if self.tells:
            ctx.answer_headers = {
                "x-ratelimit-remaining-requests": str(max(int(left) - 1, 0)),
                "x-ratelimit-reset-requests": "60s",
            }
        if left < 1:
            self.refused.append(self.clock())
            raise RateLimited("slow down")
        self.level -= 1
        self.answered.append(self.clock())
        await asyncio.sleep(self.takes)
        return Reply.of(said("hi", input_tokens=5, output_tokens=5))

    def use(self, requests: int) -> None:
        """Somebody else asks."""
        self.answered.extend([self.clock()] * requests)
        self.level -= requests

    def _left(self) -> float:
        now = self.clock()
        if self.way == "bucket":
            self.level = min(self.level + (now - self.at) * self.limit / 60, self.limit)
            self.at = now
            return self.level
        begin = now // 60 * 60 if self.way == "calendar" else now - 60
        while self.answered and self.answered[0] <= begin:
            self.answered.popleft()
        return self.limit - len(self.answered)


def room(requests: int | None = None, tokens: int | None = None, kind: Any = SlidingWindow, **policy: Any) -> Room:
    clock = asyncio.get_running_loop().time

    def quota() -> Quota:
        return Quota(kind(requests, clock) if requests else None, kind(tokens, clock) if tokens else None, clock)

    return Room(quota, LimitsPolicy(**policy))


def counters(limits: Room, key: int = 0) -> list[Counter]:
    """Of requests and of tokens, as far as they are limited."""
    quota = limits.quota(key)
    return [counter for counter in (quota.requests, quota.tokens) if counter is not None]


async def call(
    service: Any, *, deadline: float | None = None, caller: str = "a", priority: int = 0, max_tokens: int | None = None
) -> Context:
    request = chat()
    if max_tokens is not None:
        request.sampling.max_output_tokens = max_tokens
    ctx = context(deadline=deadline, streaming=False)
    ctx.peer, ctx.priority = (lambda: caller), priority
    async with await service(request, ctx) as reply:
        await reply.response()
    return ctx


@pytest.mark.parametrize("way", ["sliding", "calendar", "bucket"])
async def test_a_storm_of_ten_times_the_limit_meets_hardly_any_429(way: str) -> None:
    provider = Provider(60, way)
    service = UpstreamLimits(TARGET, room(60, max_wait=20.0))(provider)
    clock = asyncio.get_running_loop().time
    done = {"answered": 0, "refused": 0}
    waits: list[float | None] = []

    async def one() -> None:
        try:
            await call(service)
            done["answered"] += 1
        except RateLimited as error:
            done["refused"] += 1
            waits.append(error.retry_after)

    begun = clock()
    async with asyncio.TaskGroup() as group:
        while clock() < begun + 600:  # ten a second, where one a second is allowed
            group.create_task(one())
            await asyncio.sleep(0.1)
    assert all(waits)
    assert sum(done.values()) == pytest.approx(6000, abs=5)
    assert len(provider.refused) <= 0.01 * len(provider.asked)
    assert done["answered"] >= 0.9 * 600  # and what is allowed is used


async def test_a_bucket_where_the_provider_has_one() -> None:
    provider = Provider(60, "bucket")
    service = UpstreamLimits(TARGET, room(60, kind=TokenBucket, max_wait=20.0))(provider)
    async with asyncio.TaskGroup() as group:
        for _ in range(3000):
            group.create_task(_quietly(call(service)))
            await asyncio.sleep(0.1)
    assert len(provider.refused) <= 0.01 * len(provider.asked)
    assert len(provider.answered) >= 300


async def _quietly(calling: Any) -> None:
    try:
        await calling
    except RateLimited:
        return


async def test_a_fresh_process_learns_what_others_have_used() -> None:
    provider = Provider(100, tells=True)
    provider.use(90)
    service = UpstreamLimits(TARGET, room(100, max_wait=0.0))(provider)
    await call(service)
    for _ in range(30):
        await _quietly(call(service))
    assert len(provider.asked) == 10
    assert not provider.refused


async def test_each_key_is_counted_by_itself() -> None:
    usable = [0, 1, 2]
    shown: list[int | None] = []

    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        shown.append(ctx.credential)
        return Reply.of(said("hi"))

    limits = room(10, max_wait=0.0)
    service = UpstreamLimits(TARGET, limits, lambda: usable)(provider)
    await asyncio.gather(*(_quietly(call(service)) for _ in range(50)))
    assert [shown.count(key) for key in (0, 1, 2)] == [10, 10, 10]
    await asyncio.sleep(61)
    usable = [1]
    await asyncio.gather(*(_quietly(call(service)) for _ in range(50)))
    assert [shown.count(key) for key in (0, 1, 2)] == [10, 20, 10]
    usable = []
    await call(service)  # whoever shows the keys will say why there are none
    assert len(shown) == 41


async def test_the_key_that_was_shown_in_the_end_is_the_one_that_counts() -> None:
    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        ctx.credential = 1
        ctx.answer_headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "9s"}
        return Reply.of(said("hi"))

    limits = room(10)
    ctx = await call(UpstreamLimits(TARGET, limits, lambda: [0, 1])(provider))
    assert ctx.credential is None
    assert [counter.left() for key in (0, 1) for counter in counters(limits, key)] == [10, 3]


async def test_tokens_are_reserved_and_settled() -> None:
    limits = room(tokens=1000, max_wait=0.0)
    service = UpstreamLimits(TARGET, limits)(Provider(1000))
    first = [asyncio.create_task(call(service, max_tokens=400)) for _ in range(3)]
    await asyncio.sleep(0)
    results = await asyncio.gather(*first, return_exceptions=True)
    assert [type(result) for result in results] == [Context, Context, RateLimited]
    await call(service, max_tokens=900)  # two answers have used twenty tokens, and not eight hundred


async def test_a_call_of_more_tokens_than_a_minute_has_goes_when_all_else_has_gone() -> None:
    limits = room(tokens=100, max_wait=120.0)
    service = UpstreamLimits(TARGET, limits)(Provider(1000, takes=1.0))
    await call(service, max_tokens=5000)
    assert limits.expected_wait(50) == 0


@pytest.mark.parametrize(
    ("deadline", "max_wait", "waits"),
    [(None, 65.0, True), (70.0, 65.0, True), (30.0, 65.0, False), (None, 30.0, False), (None, 0.0, False)],
)
async def test_who_would_wait_too_long_is_told_at_once(deadline: float | None, max_wait: float, waits: bool) -> None:
    provider = Provider(1000)
    service = UpstreamLimits(TARGET, room(1, max_wait=max_wait))(provider)
    clock = asyncio.get_running_loop().time
    await call(service)
    before = clock()
    if waits:
        await call(service, deadline=deadline)
        assert clock() - before == pytest.approx(60.7, abs=0.5)
        return
    with pytest.raises(RateLimited, match="as much as its limits allow") as full:
        await call(service, deadline=deadline)
    assert clock() == before
    error = full.value
    assert (error.attempted, error.retryable, error.falls_back) == (False, False, True)
    assert error.retry_after == pytest.approx(60.7, abs=0.5)
    assert error.facts == {"provider": "acme", "model": "m", "limitedBy": "gateway"}


async def test_callers_take_turns_and_the_queue_is_bounded() -> None:
    order: list[str] = []

    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        order.append(ctx.request_id)
        return Reply.of(said("hi"))

    service = UpstreamLimits(TARGET, room(60, kind=TokenBucket, queue=5, max_wait=60.0))(provider)

    async def one(name: str, caller: str, priority: int = 0) -> None:
        ctx = context()
        ctx.request_id, ctx.peer, ctx.priority = name, (lambda: caller), priority
        async with await service(chat(), ctx) as reply:
            await reply.response()

    await asyncio.gather(*(one("", "z") for _ in range(60)))
    order.clear()
    waiting = [
        asyncio.create_task(one(name, name[0], priority))
        for name, priority in [("a1", 0), ("a2", 0), ("a3", 0), ("b1", 0), ("c1", 2)]
    ]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await one("d1", "d")
    await asyncio.gather(*waiting)
    assert order == ["a1", "c1", "a2", "b1", "a3"]  # the first was next before the others came


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 30.0])
async def test_who_leaves_in_whatever_phase_leaves_nothing_behind(after: float) -> None:
    provider = Provider(1000, takes=0.5)
    limits = room(60, kind=TokenBucket, max_wait=60.0)
    service = UpstreamLimits(TARGET, limits)(provider)
    await asyncio.gather(*(call(service) for _ in range(60)))
    tasks = [asyncio.create_task(call(service)) for _ in range(5)]
    await asyncio.sleep(after)
    for task in tasks[1:4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], Context)
    assert isinstance(results[4], Context)
    assert (limits.queued, limits._waiting_tokens, limits._next) == (0, 0.0, None)
    begun = asyncio.get_running_loop().time()
    await call(service)
    assert asyncio.get_running_loop().time() - begun < 2.0


async def test_who_leaves_just_as_it_is_his_turn_gives_it_back() -> None:
    limits = room(1, kind=TokenBucket, max_wait=100.0)
    held = await limits.take(str, 0, 0.0, 100.0)
    assert held is not None
    waiting = asyncio.create_task(limits.take(str, 0, 0.0, 100.0))
    await asyncio.sleep(0)
    limits.refund(held)  # his turn has come, and he does not know yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert limits.expected_wait(0.0) == 0


@pytest.mark.parametrize(
    ("error", "left"),
    [(Unavailable("broken"), 98), (InvalidRequest("wrong"), 100), (RateLimited("slow"), 100)],
)
async def test_what_failed_attempts_use(error: Exception, left: int) -> None:
    async def fail(*_: Any) -> Reply[Any]:
        raise error

    limits = room(requests=10, tokens=100, max_wait=0.0)
    with pytest.raises(type(error)):
        await call(UpstreamLimits(TARGET, limits)(fail), max_tokens=10)
    assert [counter.left() for counter in counters(limits)] == [9, left]


async def test_what_was_not_asked_costs_nothing() -> None:
    async def not_asked(*_: Any) -> Reply[Any]:
        error = RateLimited("all keys are at their limits", retry_after=3.0)
        error.attempted = False
        raise error

    limits = room(requests=1, max_wait=0.0)
    for _ in range(3):
        with pytest.raises(RateLimited, match="all keys"):
            await call(UpstreamLimits(TARGET, limits)(not_asked))


async def test_after_a_429_nobody_goes_before_its_time() -> None:
    times: list[float] = []

    async def provider(_request: Any, ctx: Context) -> Reply[Any]:
        times.append(ctx.clock())
        if len(times) == 1:
            raise RateLimited("slow down", retry_after=7.0)
        return Reply.of(said("hi"))

    service = UpstreamLimits(TARGET, room(100))(provider)
    with pytest.raises(RateLimited):
        await call(service)
    await asyncio.gather(*(call(service) for _ in range(3)))
    assert [time - times[0] for time in times[1:]] == pytest.approx([7.0] * 3, abs=0.01)


@pytest.mark.parametrize("reads_on", [True, False], ids=["to_the_end", "cancelled"])
async def test_streams_are_settled_when_they_are_over(reads_on: bool) -> None:
    upstream = Upstream([started(), opened(), delta("x" * 40)], 10.0, [completed(input_tokens=30, output_tokens=20)])
    limits = room(tokens=1000, max_wait=0.0)
    reply = await UpstreamLimits(TARGET, limits)(upstream)(chat(), context())
    (tokens,) = counters(limits)
    left = tokens.left
    assert left() == 1000 - 2 - 500
    async with reply:
        async for _ in reply:
            if not reads_on:
                break
    assert left() == (950 if reads_on else 1000 - 2 - 10)


async def test_embeddings_have_no_output() -> None:
    async def provider(*_: Any) -> Reply[Any]:
        return Reply.of(v1.EmbedResponse())

    limits = room(tokens=100, max_wait=0.0)
    ctx = context("embed")
    request = v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="x" * 40)])
    reply = await UpstreamLimits(TARGET, limits)(provider)(request, ctx)
    assert [counter.left() for counter in counters(limits)] == [90]
    await reply.aclose()


def embedding(inputs: int) -> v1.EmbedRequest:
    return v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="x" * 40)] * inputs)


def split(limits: Room, provider: Any) -> Any:
    """A target that takes ten inputs at a time."""
    return UpstreamLimits(TARGET, limits, requests=lambda request: -(-len(request.inputs) // 10))(provider)


async def embedded(*_: Any) -> Reply[Any]:
    return Reply.of(v1.EmbedResponse())


async def embed(service: Any, inputs: int, deadline: float | None = None) -> None:
    async with await service(embedding(inputs), context("embed", deadline=deadline)) as reply:
        await reply.response()


async def test_a_call_of_several_requests_reserves_each_of_them() -> None:
    limits = room(requests=10, tokens=1000, max_wait=0.0)
    reply = await split(limits, embedded)(embedding(25), context("embed"))
    assert [counter.left() for counter in counters(limits)] == [7, 750]
    await reply.aclose()
    await embed(split(limits, embedded), 65)
    assert counters(limits)[0].left() == 0
    with pytest.raises(RateLimited):
        await embed(split(limits, embedded), 1)


async def test_it_waits_until_there_is_room_for_all_of_them_and_what_is_not_asked_is_given_back() -> None:
    async def not_asked(*_: Any) -> Reply[Any]:
        error = Unavailable("no")
        error.attempted = False
        raise error

    clock = asyncio.get_running_loop().time
    limits = room(requests=10, max_wait=100.0)
    with pytest.raises(Unavailable):
        await embed(split(limits, not_asked), 100)
    assert counters(limits)[0].left() == 10
    await embed(split(limits, embedded), 80)
    begun = clock()
    await embed(split(limits, embedded), 20)
    assert clock() == begun
    first = asyncio.create_task(embed(split(limits, embedded), 30))
    await asyncio.sleep(0)
    assert limits.expected_wait(0.0, requests=7) == pytest.approx(60.7, abs=0.5)
    assert limits.expected_wait(0.0, requests=8) == pytest.approx(121.0, abs=1), "three wait already"
    await first
    assert clock() - begun == pytest.approx(60.7, abs=0.5)
    assert counters(limits)[0].left() == 7


async def test_a_call_of_more_requests_than_a_minute_has_is_refused_at_once_and_may_go_elsewhere() -> None:
    limits = room(requests=10, max_wait=1000.0)
    with pytest.raises(RequestTooLarge, match="takes 11 requests to acme/m") as refused:
        await embed(split(limits, embedded), 101)
    error = refused.value
    assert (error.attempted, error.retryable, error.falls_back) == (False, False, True)
    assert [violation.field for violation in error.violations] == ["inputs"]
    assert error.facts["requests"] == "11"
    assert counters(limits)[0].left() == 10
    await embed(split(room(tokens=1000), embedded), 1010)  # where only tokens are limited, any number may go


async def test_another_key_than_the_reserved_one_pays_for_all_requests() -> None:
    async def other(_request: Any, ctx: Context) -> Reply[Any]:
        ctx.credential = 1
        return Reply.of(v1.EmbedResponse())

    limits = room(requests=10)
    service = UpstreamLimits(TARGET, limits, lambda: [0, 1], requests=lambda _: 3)(other)
    await embed(service, 30)
    assert [counter.left() for key in (0, 1) for counter in counters(limits, key)] == [10, 7]


async def test_a_rate_limit_within_a_stream_closes_the_key_too() -> None:
    upstream = Upstream([started(), opened(), delta("half")], RateLimited("slow down", retry_after=20.0))
    limits = room(requests=100)
    with pytest.raises(RateLimited):
        async with await UpstreamLimits(TARGET, limits)(upstream)(chat(), context()) as reply:
            await reply.response()
    assert limits.expected_wait(0.0) == pytest.approx(20.0)


class Keyed:
    """A provider that counts requests and tokens of each key by itself, asked as the driver asks: key after key."""

    def __init__(self, ring: Keyring, requests: int, tokens: int) -> None:
        self.clock = asyncio.get_running_loop().time
        self.ring = ring
        self.limits = (requests, tokens)
        self.random = random.Random(2)
        self.used: dict[str, deque[tuple[float, int]]] = {}
        self.dead: set[str] = set()
        self.exchanges: list[int] = []

    async def __call__(self, request: v1.ChatRequest, ctx: Context, /) -> Reply[Any]:
        text = request.messages[0].parts[0].text
        use = self.ring.for_request("m", ctx)
        while True:
            key = (await use.headers(Outgoing("POST", "", {}, text.encode())))["authorization"]
            await asyncio.sleep(self.random.uniform(0, 0.1))
            status = self._status(key, len(text) // 4)
            self.exchanges.append(status)
            if status == 200:
                use.accepted()
                await asyncio.sleep(self.random.uniform(0.1, 5))
                return Reply.of(said("hi", input_tokens=len(text) // 4, output_tokens=1))
            error = CredentialsRejected("x") if status == 401 else RateLimited("slow down")
            if not use.refused(error):
                raise error

    def _status(self, key: str, tokens: int) -> int:
        if key in self.dead:
            return 401
        used = self.used.setdefault(key, deque())
        while used and used[0][0] <= self.clock() - 60:
            used.popleft()
        if len(used) >= self.limits[0] or sum(amount for _, amount in used) + tokens > self.limits[1]:
            return 429
        used.append((self.clock(), tokens))
        return 200


@pytest.mark.parametrize(("requests", "tokens"), [(60, 1_000_000), (10_000, 30_000)], ids=["requests", "tokens"])
async def test_a_storm_over_several_keys_of_which_one_dies(requests: int, tokens: int) -> None:
    clock = asyncio.get_running_loop().time
    ring = Keyring([(name, Bearer(Secret(name))) for name in "abc"], "acme", clock)
    provider = Keyed(ring, requests, tokens)
    limits = room(requests, tokens, max_wait=10.0, output=1)
    service = UpstreamLimits(TARGET, limits, lambda: ring.usable("m"))(provider)
    sizes = random.Random(3)

    async def one() -> None:
        try:
            async with await service(chat(text="x" * sizes.choice([400, 2000, 4000])), context()) as reply:
                await reply.response()
        except (RateLimited, CredentialsRejected):
            return

    begun = clock()
    async with asyncio.TaskGroup() as group:
        while clock() < begun + 600:  # 1800 a minute, about 1 million tokens
            if clock() > begun + 300:
                provider.dead.add("Bearer b")
            group.create_task(one())
            await asyncio.sleep(1 / 30)
    counts = {status: provider.exchanges.count(status) for status in (200, 401, 429)}
    assert counts[429] <= 0.01 * len(provider.exchanges)
    assert 1 <= counts[401] <= 20  # those that were on their way
    minutes_of_keys = 5 * 3 + 5 * 2
    most = min(requests, tokens / (6400 / 3 / 4)) * minutes_of_keys
    assert counts[200] >= 0.9 * most
