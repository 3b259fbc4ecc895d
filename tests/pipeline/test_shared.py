"""One upstream call for several callers, and what each of them gets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from parley import v1
from parley.fold import fold
from parley_server.core.context import Context
from parley_server.core.errors import (
    Code,
    GatewayError,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    InvalidRequest,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Batch
from parley_server.core.service import Layer, Service
from parley_server.core.target import Target
from parley_server.pipeline.in_use import InUse
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.shared import Join, Keyed, Memory, SharePolicy
from tests.fakes import FakeTimeLoop, Step, Upstream, chat, completed, context, delta, opened, run, started, used

PRICE = v1.ModelPricing(input_nano_usd=10**9, output_nano_usd=10**9)


def says(text: str, pause: float = 0.0) -> list[Step]:
    words: list[Step] = []
    for word in text.split(" "):
        words += [pause, [delta(word)]] if pause else [[delta(word)]]
    end = v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=0, part=v1.Part(text="")))
    return [[started(), opened()], *words, [end, completed(input_tokens=5, output_tokens=7)]]


def stacked(memory: Memory, *, join: bool = False, around: Layer | None = None) -> Layer:
    """Both layers, as a gateway has them."""
    return lambda inner: Keyed(memory, around=around)(Join(memory, enabled=join, around=around)(inner))


class Scene:
    """One upstream, metered, behind the layer."""

    def __init__(self, *script: Step, policy: SharePolicy | None = None, join: bool = False) -> None:
        self.upstream = Upstream(*script)
        self.memory = Memory(policy or SharePolicy(), asyncio.get_running_loop().time)
        self.service: Service = stacked(self.memory, join=join)(Meter(Target("a", "m"), PRICE)(self.upstream))

    @property
    def clean(self) -> bool:
        """Whether nothing is left behind."""
        upstream = self.upstream
        return upstream.opened == upstream.closed == upstream.generators_closed and not self.memory.running

    async def call(self, request: v1.ChatRequest, ctx: Context) -> Any:
        """A whole answer."""
        async with await self.service(request, ctx) as reply:
            return await reply.response()

    async def read(self, request: v1.ChatRequest, ctx: Context, pause: float = 0.0) -> Batch:
        """All events of a stream."""
        events: Batch = []
        async with await self.service(request, ctx) as reply:
            async for batch in reply:
                events += batch
                await asyncio.sleep(pause)
        return events


def keyed(key: str = "k", text: str = "hello", **fields: Any) -> v1.ChatRequest:
    request = chat(text=text)
    request.idempotency_key = key
    request.MergeFrom(v1.ChatRequest(**fields))
    return request


def said(response: Any) -> str:
    return "".join(part.text for part in response.message.parts)


def codes(ctx: Context) -> list[str]:
    return [warning.code for warning in ctx.warnings]


async def test_without_a_key_every_call_is_made() -> None:
    there = Scene(*says("hi"))
    for _ in range(2):
        await there.call(chat(), context(streaming=False))
    assert there.upstream.opened == 2
    assert there.memory.size == 0


@pytest.mark.parametrize("then", [False, True], ids=["then_whole", "then_stream"])
@pytest.mark.parametrize("first", [False, True], ids=["first_whole", "first_stream"])
async def test_a_finished_answer_comes_again_and_costs_nothing(first: bool, then: bool) -> None:
    there = Scene(*says("hi there"))
    answers = []
    for streaming in (first, then):
        ctx = context(streaming=streaming)
        answer = fold(await there.read(keyed(), ctx)) if streaming else await there.call(keyed(), ctx)
        answers.append((answer, ctx))
    (mine, my_ctx), (again, their_ctx) = answers
    assert said(mine) == said(again) == "hithere"
    assert there.upstream.opened == 1
    assert there.clean
    assert mine.usage.source == v1.Usage.SOURCE_PROVIDER
    assert my_ctx.ledger.cost_nano_usd() == mine.usage.cost.total_nano_usd == 12_000
    assert len(mine.route.attempts) == 1
    assert codes(my_ctx) == []
    assert again.usage.source == v1.Usage.SOURCE_CACHE
    assert (again.usage.input_tokens, again.usage.output_tokens) == (5, 7)
    assert again.usage.HasField("cost")
    assert again.usage.cost.total_nano_usd == 0
    assert their_ctx.ledger.attempts == []
    assert not again.route.attempts
    assert codes(their_ctx) == ["IDEMPOTENT_REPLAY"]


@pytest.mark.parametrize("then", [False, True], ids=["whole_joins", "stream_joins"])
@pytest.mark.parametrize("first", [False, True], ids=["whole_runs", "stream_runs"])
async def test_a_running_call_is_attached_to(first: bool, then: bool) -> None:
    there = Scene(*says("one two three", pause=10))

    async def ask(streaming: bool, ctx: Context) -> tuple[Any, float]:
        ctx.streaming = streaming
        answer = fold(await there.read(keyed(), ctx)) if streaming else await there.call(keyed(), ctx)
        return answer, ctx.clock()

    mine = asyncio.ensure_future(ask(first, context()))
    await asyncio.sleep(15)
    ctx = context()
    began = ctx.clock()
    answer, ended = await ask(then, ctx)
    assert said(answer) == "onetwothree"
    assert ended - began == pytest.approx(15)
    assert said((await mine)[0]) == "onetwothree"
    assert (await mine)[0].usage.source == v1.Usage.SOURCE_PROVIDER
    assert answer.usage.source == v1.Usage.SOURCE_CACHE
    assert codes(ctx) == ["IDEMPOTENT_REPLAY"]
    assert there.upstream.opened == 1
    assert there.clean


async def test_a_stream_is_followed_live_from_its_beginning() -> None:
    there = Scene(*says("one two three", pause=10))
    leader = asyncio.ensure_future(there.read(keyed(), context()))
    await asyncio.sleep(25)
    ctx = context()
    times: list[tuple[float, str]] = []
    async with await there.service(keyed(), ctx) as reply:
        async for batch in reply:
            text = "".join(event.part_delta.text for event in batch)
            if text:
                times.append((round(ctx.clock() - ctx.received), text))
    assert times == [(0, "onetwo"), (5, "three")]
    await leader


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "other",
    [
        keyed(text="something else"),
        keyed(metadata={"a": "b"}),
        v1.EmbedRequest(model="mock/echo", idempotency_key="k"),
    ],
    ids=["text", "metadata", "operation"],
)
async def test_another_request_with_the_key_is_refused(other: Any, running: bool) -> None:
    there = Scene(*says("hi", pause=10))
    first = asyncio.ensure_future(there.call(keyed(), context(streaming=False)))
    await asyncio.sleep(5 if running else 20)
    with pytest.raises(IdempotencyKeyReused) as caught:
        await there.service(other, context())
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED")
    assert caught.value.violations[0].field == "idempotency_key"
    await first


async def test_keys_belong_to_a_caller() -> None:
    there = Scene(*says("hi"))
    for caller in ("ann", "bob", "ann"):
        ctx = context(streaming=False)
        ctx.caller = caller
        await there.call(keyed(), ctx)
    assert there.upstream.opened == 2


@pytest.mark.parametrize(("after", "opened_"), [(59, 1), (61, 2)])
async def test_answers_are_forgotten_in_the_end(after: float, opened_: int) -> None:
    there = Scene(*says("hi"), policy=SharePolicy(window=60))
    await there.call(keyed(), context(streaming=False))
    await asyncio.sleep(after)
    await there.call(keyed(), context(streaming=False))
    assert there.upstream.opened == opened_


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_failure_before_content_frees_the_key_and_is_shared_by_those_who_wait(streaming: bool) -> None:
    there = Scene([started()], 10.0, Unavailable("down"))

    async def ask() -> None:
        await there.read(keyed(), context()) if streaming else await there.call(keyed(), context(streaming=False))

    errors = await asyncio.gather(*(ask() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in errors)
    assert len({id(error) for error in errors}) == 3  # outer layers write into them
    assert there.upstream.opened == 1
    there.upstream.script = tuple(says("hi"))
    assert said(await there.call(keyed(), context(streaming=False))) == "hi"
    assert there.upstream.opened == 2
    assert there.clean


async def test_a_stream_that_broke_behind_content_is_remembered_as_it_was() -> None:
    there = Scene([started(), opened(), delta("one")], StreamInterrupted("cut"))
    for _ in range(2):
        events: Batch = []
        with pytest.raises(StreamInterrupted):
            async with await there.service(keyed(), context()) as reply:
                async for batch in reply:
                    events += batch
        assert said(fold(events)) == "one"
    with pytest.raises(StreamInterrupted):
        await there.call(keyed(), context(streaming=False))
    assert there.upstream.opened == 1
    assert there.clean


async def test_whoever_goes_leaves_the_call_to_the_others() -> None:
    there = Scene(*says("one two three", pause=10))
    ctx = context()
    leader = asyncio.ensure_future(there.read(keyed(), ctx))
    await asyncio.sleep(5)
    follower = asyncio.ensure_future(there.read(keyed(), context()))
    await asyncio.sleep(10)
    leader.cancel()
    assert said(fold(await follower)) == "onetwothree"
    assert there.upstream.opened == 1
    assert there.clean
    assert [attempt.status.code for attempt in ctx.ledger.attempts] == [0]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("callers", [1, 3])
async def test_the_last_one_who_goes_ends_the_call(callers: int, streaming: bool) -> None:
    there = Scene(*says("one two three", pause=10))
    contexts = [context(streaming=streaming) for _ in range(callers)]
    ask = there.read if streaming else there.call
    tasks = [asyncio.ensure_future(ask(keyed(), ctx)) for ctx in contexts]
    await asyncio.sleep(15)
    for task in tasks:
        assert there.upstream.closed == 0
        task.cancel()
        await asyncio.wait((task,))
    assert there.clean
    assert [attempt.status.code for ctx in contexts for attempt in ctx.ledger.attempts] == [1]
    assert (await there.read(keyed(), context()))[-1].HasField("completed")  # nothing was remembered
    assert there.upstream.opened == 2


async def test_a_reply_that_is_never_read_ends_the_call() -> None:
    there = Scene(*says("one two three", pause=10))
    async with await there.service(keyed(), context()):
        pass
    assert there.clean


async def test_no_two_calls_for_a_key_are_ever_under_way() -> None:
    there = Scene(*says("hi", pause=10))
    tidying = asyncio.Event()
    inner = there.service

    async def slow_to_close(request: Any, ctx: Context) -> Any:
        try:
            return await there.upstream(request, ctx)
        except asyncio.CancelledError:
            await tidying.wait()
            raise

    service = stacked(there.memory)(slow_to_close)
    first = asyncio.ensure_future(service(keyed(), context(streaming=False)))
    await asyncio.sleep(5)
    first.cancel()
    await asyncio.sleep(1)
    second = asyncio.ensure_future(service(keyed(), context(streaming=False)))
    await asyncio.sleep(5)
    assert there.upstream.opened == 1
    tidying.set()
    assert said(await (await second).response()) == "hi"
    assert there.upstream.opened == 2
    assert inner is not service


async def test_the_call_may_take_as_long_as_any_of_its_callers() -> None:
    there = Scene(*says("one two", pause=10))
    first = context(deadline=5)
    leader = asyncio.ensure_future(there.call(keyed(), first))
    await asyncio.sleep(1)
    follower = asyncio.ensure_future(there.call(keyed(), context(deadline=500, streaming=False)))
    await asyncio.sleep(0)
    (call,) = there.memory.running.values()
    assert call.ctx.remaining() == pytest.approx(500)
    assert first.remaining() == pytest.approx(4)
    await asyncio.gather(leader, follower)


async def test_a_call_that_outlasts_who_began_it_is_counted_all_the_same() -> None:
    there = Scene()
    upstream = Upstream(*says("one two", pause=10))
    in_use = InUse()
    service = in_use(stacked(there.memory, around=in_use)(upstream))
    other = stacked(there.memory)(Upstream())  # that of a later configuration
    leader = asyncio.ensure_future(service(keyed(), context(streaming=False)))
    await asyncio.sleep(5)
    follower = asyncio.ensure_future(other(keyed(), context(streaming=False)))
    await asyncio.sleep(5)
    leader.cancel()
    await asyncio.wait((leader,))
    assert in_use.calls == 1
    assert said(await (await follower).response()) == "onetwo"
    assert in_use.calls == 0


async def test_notes_of_the_layers_further_in_go_to_everybody() -> None:
    there = Scene(*says("hi"))

    async def noting(request: Any, ctx: Context) -> Any:
        ctx.warnings.append(v1.Warning(code="NOTED"))
        return await there.upstream(request, ctx)

    service = stacked(there.memory)(noting)
    for expected in (["NOTED"], ["IDEMPOTENT_REPLAY", "NOTED"]):
        ctx = context()
        ctx.warnings.append(v1.Warning(code="OWN"))
        async with await service(keyed(), ctx) as reply:
            await reply.response()
        assert codes(ctx) == ["OWN", *expected]


async def test_what_a_caller_does_to_its_events_is_its_own() -> None:
    there = Scene(*says("one two"))
    for _ in range(2):
        events = await there.read(keyed(), context())
        assert [event.sequence for event in events] == [0] * len(events)
        assert not events[-1].completed.warnings
        for event in events:
            event.sequence = 99
        events[-1].completed.warnings.add(code="MINE")


# ---------------------------------------------------------------------------------------------------------- the bounds


async def test_a_stream_is_read_no_further_ahead_than_its_fastest_reader_bears() -> None:
    chunk: list[Step] = [[delta("x" * 10_000)]]
    there = Scene([started(), opened()], *(chunk * 200), [completed()])
    reply = await there.service(keyed(), context())
    async with reply:
        await asyncio.sleep(1)
        (call,) = there.memory.running.values()
        assert 200_000 < call._produced < 400_000
        total = sum([len(e.part_delta.text) async for batch in reply for e in batch])
    assert total == 2_000_000
    assert there.clean


async def test_a_stream_too_long_to_be_kept_cannot_be_joined_but_goes_on() -> None:
    chunk: list[Step] = [1.0, [delta("x" * 10_000)]]
    there = Scene([started(), opened()], *(chunk * 100), [completed()], policy=SharePolicy(max_bytes=400_000))
    leader = asyncio.ensure_future(there.read(keyed(), context()))
    await asyncio.sleep(0.5)
    follower = asyncio.ensure_future(there.read(keyed(), context()))
    await asyncio.sleep(50)
    (call,) = there.memory.running.values()
    assert call.lost
    assert len(call._events) < 5
    with pytest.raises(IdempotentRequestInProgress) as caught:
        await there.service(keyed(), context())
    assert caught.value.retry_after
    for events in await asyncio.gather(leader, follower):
        assert sum(len(event.part_delta.text) for event in events) == 1_000_000
    assert there.memory.size == 0
    assert there.clean


async def test_the_oldest_answers_make_room() -> None:
    there = Scene(*says("x" * 10_000), policy=SharePolicy(max_bytes=50_000))
    for key in "abcdef":
        await there.call(keyed(key), context(streaming=False))
        assert there.memory.size <= 50_000
    assert there.upstream.opened == 6
    for key in "fedc":
        await there.call(keyed(key), context(streaming=False))
    assert there.upstream.opened == 6
    await there.call(keyed("a"), context(streaming=False))
    assert there.upstream.opened == 7


# ------------------------------------------------------------------------------------------------------------- joining


SURE = v1.SamplingOptions(temperature=0)
SEEDED = v1.SamplingOptions(seed=7)
WARM = v1.SamplingOptions(temperature=0.1)


@pytest.mark.parametrize(
    ("request_", "joined"),
    [
        (v1.ChatRequest(model="m"), False),
        (v1.ChatRequest(model="m", sampling=WARM), False),
        (v1.ChatRequest(model="m", sampling=SURE), True),
        (v1.ChatRequest(model="m", sampling=SEEDED), True),
        (v1.EmbedRequest(model="m"), True),
        (v1.RerankRequest(model="m"), True),
    ],
    ids=["default", "warm", "temperature_0", "seed", "embed", "rerank"],
)
@pytest.mark.parametrize("enabled", [True, False])
async def test_who_is_joined(request_: Any, joined: bool, enabled: bool) -> None:
    there = Scene(*says("hi", pause=10), join=enabled)
    contexts = [context(streaming=False) for _ in range(3)]
    answers = await asyncio.gather(*(there.call(request_, ctx) for ctx in contexts))
    assert [said(answer) for answer in answers] == ["hi"] * 3
    assert there.upstream.opened == (1 if joined and enabled else 3)
    if joined and enabled:
        assert [codes(ctx) for ctx in contexts] == [[], ["JOINED"], ["JOINED"]]
        assert [a.usage.source for a in answers] == [1, 4, 4]
    await there.call(request_, context(streaming=False))
    assert there.upstream.opened == (2 if joined and enabled else 4)  # nothing is remembered
    assert there.memory.size == 0
    assert there.clean


@pytest.mark.parametrize(
    ("change", "opened_"),
    [
        ({"metadata": {"a": "b"}}, 1),
        ({"end_user_id": "u"}, 1),
        ({"sampling": v1.SamplingOptions(seed=8)}, 2),
        ({"model": "other"}, 2),
        ({"idempotency_key": "k"}, 2),
    ],
    ids=["metadata", "end_user", "seed", "model", "key"],
)
async def test_what_counts_as_equal(change: Any, opened_: int) -> None:
    there = Scene(*says("hi", pause=10), join=True)
    one, other = chat(), chat()
    one.sampling.CopyFrom(SURE)
    other.sampling.CopyFrom(SURE)
    other.MergeFrom(v1.ChatRequest(**change))
    await asyncio.gather(there.call(one, context(streaming=False)), there.call(other, context(streaming=False)))
    assert there.upstream.opened == opened_


@pytest.mark.parametrize(
    ("error", "calls"), [(Unavailable("down"), 2), (InvalidRequest("no"), 1)], ids=["of_the_moment", "lasting"]
)
async def test_a_failure_of_the_moment_is_not_shared_but_tried_once_more(error: GatewayError, calls: int) -> None:
    there = Scene(10.0, error, join=True)
    request = chat()
    request.sampling.CopyFrom(SURE)
    answers = await asyncio.gather(
        *(there.call(request, context(streaming=False)) for _ in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [type(error)] * 5
    assert there.upstream.opened == calls
    assert there.clean


# -------------------------------------------------------------------------------------------------------------- chance


class Callers(RuleBasedStateMachine):
    """Callers come, go, and let time pass; the script says that an answer takes 30 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = FakeTimeLoop()
        self.there = self._run(self._scene())
        self.tasks: list[asyncio.Task[str]] = []

    async def _scene(self) -> Scene:
        return Scene(*says("one two three", pause=10), policy=SharePolicy(window=60))

    def _run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(main)

    async def _ask(self, key: str, streaming: bool) -> str:
        ctx = context(streaming=streaming)
        request = keyed(key)
        return said(fold(await self.there.read(request, ctx)) if streaming else await self.there.call(request, ctx))

    @rule(key=st.sampled_from("ab"), streaming=st.booleans())
    def come(self, key: str, streaming: bool) -> None:
        self.tasks.append(self.loop.create_task(self._ask(key, streaming)))
        self._run(asyncio.sleep(0))

    @rule(which=st.integers(0, 5))
    def go(self, which: int) -> None:
        if which < len(self.tasks):
            self.tasks[which].cancel()
            self._run(asyncio.sleep(0.001))

    @rule(seconds=st.sampled_from([0.5, 5.0, 12.0, 31.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    @invariant()
    def no_more_calls_than_keys(self) -> None:
        upstream = self.there.upstream
        assert upstream.opened - upstream.closed <= 2

    @invariant()
    def nobody_gets_less_than_the_answer(self) -> None:
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            assert task.cancelled() or task.result() == "onetwothree"

    @invariant()
    def nothing_runs_for_nobody(self) -> None:
        if not self.tasks:
            assert self.there.clean

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self._run(asyncio.sleep(0.001))
        assert self.there.clean
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.floats(0, 3)), min_size=1, max_size=6))
def test_whenever_they_come_and_however_fast_they_read(callers: list[tuple[float, bool, float]]) -> None:
    async def main() -> None:
        there = Scene(*says("one two three", pause=10), [used()])

        async def ask(at: float, streaming: bool, pause: float) -> str:
            await asyncio.sleep(at)
            ctx = context(streaming=streaming)
            return said(fold(await there.read(keyed(), ctx, pause)) if streaming else await there.call(keyed(), ctx))

        answers = await asyncio.gather(*(ask(*caller) for caller in callers))
        assert set(answers) == {"onetwothree"}
        assert there.upstream.opened == 1
        assert there.clean

    run(main())
