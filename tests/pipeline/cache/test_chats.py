"""Which chats are answered from the cache, and with what."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from parley import v1
from parley.fold import fold
from parley_server.core.errors import CacheMiss, Unavailable
from parley_server.pipeline.cache import CachePolicy
from parley_server.pipeline.cache.near import Nearby, Question
from parley_server.pipeline.check import Check
from tests.fakes import delta, opened, started
from tests.pipeline.cache.scene import Options, Scene, ask, says, statuses, text_of

HIT, MISS, BYPASS = v1.CacheInfo.STATUS_HIT, v1.CacheInfo.STATUS_MISS, v1.CacheInfo.STATUS_BYPASS


def mode(name: str, **fields: Any) -> Options:
    return Options(mode=Options.Mode.Value(f"MODE_{name}"), **fields)


async def test_the_same_question_gets_the_same_answer_and_is_not_billed_again() -> None:
    there = Scene()
    first, missed = await there.call(ask())
    there.wall.now += 7.5
    second, hit = await there.call(ask())
    assert there.asked == 1
    assert statuses([missed, hit]) == ["MISS", "HIT"]
    assert text_of(first) == text_of(second) == "ananswer"
    assert first.usage.source == v1.Usage.SOURCE_PROVIDER
    assert first.usage.cost.total_nano_usd == 12_000
    assert second.usage.source == v1.Usage.SOURCE_CACHE
    assert (second.usage.input_tokens, second.usage.output_tokens) == (5, 7)
    assert second.usage.HasField("cost")
    assert second.usage.cost.total_nano_usd == 0
    assert not second.route.attempts
    assert hit is not None
    assert missed is not None
    assert hit.age_seconds == 7
    assert hit.key == missed.key != ""
    counts = there.answers.counts
    assert (counts.memory_hits, counts.misses, counts.writes) == (1, 1, 1)
    assert (counts.saved_input_tokens, counts.saved_output_tokens, counts.saved_nano_usd) == (5, 7, 12_000)


async def test_a_cached_answer_streams_and_a_streamed_one_is_cached() -> None:
    there = Scene()
    streamed, _ = await there.read(ask())
    whole, hit = await there.call(ask())
    again, hit_too = await there.read(ask())
    assert there.asked == 1
    assert statuses([hit, hit_too]) == ["HIT", "HIT"]
    assert fold(streamed).message == whole.message == fold(again).message
    assert [event.WhichOneof("event") for event in again] == [
        *("started", "part_started", "part_delta", "part_completed", "completed"),
    ]


async def test_nothing_is_cached_unless_somebody_says_so() -> None:
    there = Scene()
    infos = [(await there.call(ask(cache=None)))[1] for _ in range(2)]
    assert infos == [None, None]
    assert there.asked == 2


async def test_modes() -> None:
    there = Scene()
    with pytest.raises(CacheMiss):
        await there.call(ask(cache=mode("ONLY_IF_CACHED")))
    names = ("READ_ONLY", "READ_WRITE", "ONLY_IF_CACHED", "READ_ONLY", "BYPASS", "REFRESH", "READ_WRITE")
    infos = [(await there.call(ask(cache=mode(name))))[1] for name in names]
    assert statuses(infos) == ["MISS", "MISS", "HIT", "HIT", "BYPASS", "MISS", "HIT"]
    assert there.asked == 4


async def test_where_there_is_no_cache_only_what_must_come_from_it_fails() -> None:
    there = Scene(policy=CachePolicy(enabled=False, mode=Options.MODE_READ_WRITE))
    infos = [(await there.call(ask(cache=cache)))[1] for cache in (None, mode("READ_WRITE"), mode("REFRESH"))]
    assert statuses(infos) == ["BYPASS"] * 3
    with pytest.raises(CacheMiss):
        await there.call(ask(cache=mode("ONLY_IF_CACHED")))
    assert there.asked == 3


async def test_what_has_been_checked_and_answered_before_is_not_checked_again() -> None:
    checks: list[v1.ChatRequest] = []
    there = Scene(policy=CachePolicy(mode=Options.MODE_READ_WRITE, max_temperature=2))
    check = Check(lambda request: checks.append(request) or [], there.cache.knows)  # type: ignore[func-returns-value]
    service = check(there.service)

    async def call(request: v1.ChatRequest, tenant: str = "") -> str:
        ctx = there.context(tenant=tenant)
        async with await service(request, ctx) as reply:
            await reply.response()
        return statuses([ctx.cache])[0]

    plain = ask(cache=None)
    assert [await call(plain) for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert len(checks) == 1
    assert await call(plain, tenant="other") == "MISS"
    for fields in ({"metadata": {"": "no"}}, {"end_user_id": "u" * 200}, {"routing": v1.RoutingOptions()}):
        assert await call(ask(cache=None, **fields)) == "HIT"  # what is not part of the key is looked at each time
    assert len(checks) == 5
    there.wall.now += 3601
    assert await call(plain) == "MISS"
    assert len(checks) == 6
    assert there.answers.counts.memory_hits == 5


async def test_what_is_past_its_time_is_asked_for_again() -> None:
    there = Scene(policy=CachePolicy(max_ttl=100))
    short, long = mode("READ_WRITE"), mode("READ_WRITE")
    short.ttl.FromSeconds(10)
    long.ttl.FromSeconds(10**6)
    await there.call(ask(cache=short))
    there.wall.now += 9.9
    assert statuses([(await there.call(ask(cache=short)))[1]]) == ["HIT"]
    there.wall.now += 0.2
    assert statuses([(await there.call(ask(cache=long)))[1]]) == ["MISS"]
    there.wall.now += 99
    assert statuses([(await there.call(ask(cache=short)))[1]]) == ["HIT"]
    there.wall.now += 2  # the request asked for more than may be
    assert statuses([(await there.call(ask(cache=short)))[1]]) == ["MISS"]


@pytest.mark.parametrize(
    ("sampling", "cached"),
    [
        ({}, False),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.1}, False),
        ({"temperature": 0.1, "seed": 1}, True),
        ({"seed": 1}, True),
    ],
)
async def test_by_policy_alone_only_repeatable_requests_are_cached(sampling: dict[str, float], cached: bool) -> None:
    there = Scene(policy=CachePolicy(mode=Options.MODE_READ_WRITE))
    request = ask(cache=None, sampling=v1.SamplingOptions(**sampling))  # type: ignore[arg-type]
    infos = [(await there.call(request))[1] for _ in range(2)]
    assert statuses(infos) == (["MISS", "HIT"] if cached else ["BYPASS", "BYPASS"])


async def test_a_policy_may_allow_any_temperature() -> None:
    there = Scene(policy=CachePolicy(mode=Options.MODE_READ_WRITE, max_temperature=1))
    infos = [(await there.call(ask(cache=None)))[1] for _ in range(2)]
    assert statuses(infos) == ["MISS", "HIT"]


def ends(reason: v1.FinishReason.ValueType, part: v1.Part | None = None) -> list[Any]:
    end = v1.ResponseCompleted(finish_reason=reason)
    events = [started(), opened(), delta("half an")]
    if part is not None:
        events += [
            v1.StreamChatResponse(part_started=v1.PartStarted(part_index=1, part=part)),
            v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=1, part=part)),
        ]
    return [[*events, v1.StreamChatResponse(completed=end)]]


CALL = v1.Part(tool_call=v1.ToolCall(id="1", name="f"))


@pytest.mark.parametrize(
    "script",
    [
        *(ends(reason) for reason in v1.FinishReason.values() if reason != v1.FINISH_REASON_STOP),
        ends(v1.FINISH_REASON_TOOL_CALL, CALL),
        ends(v1.FINISH_REASON_STOP, CALL),
        ends(v1.FINISH_REASON_STOP, v1.Part(refusal=v1.RefusalPart(text="no"))),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_answers_that_are_not_whole_and_plain_are_not_kept(script: list[Any], streaming: bool) -> None:
    there = Scene(*script)
    for _ in range(2):
        await (there.read if streaming else there.call)(ask())
    assert there.asked == 2
    assert (there.answers.counts.writes, there.answers.counts.refused_writes) == (0, 2)


async def test_calls_of_tools_are_kept_where_the_policy_has_it_so() -> None:
    there = Scene(*ends(v1.FINISH_REASON_TOOL_CALL, CALL), policy=CachePolicy(tool_calls=True))
    await there.read(ask())
    response, hit = await there.call(ask())
    assert statuses([hit]) == ["HIT"]
    assert response.message.parts[1].tool_call.name == "f"


@pytest.mark.parametrize("streaming", [False, True])
async def test_failures_are_not_kept(streaming: bool) -> None:
    there = Scene([started(), opened(), delta("half")], Unavailable("gone"))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await (there.read if streaming else there.call)(ask())
    assert there.asked == 2
    assert not len(there.answers.memory)


async def test_an_answer_larger_than_allowed_is_not_kept() -> None:
    there = Scene(*says("x" * 3000), policy=CachePolicy(max_entry_bytes=2048))
    for _ in range(2):
        await there.call(ask())
        await there.read(ask())
    assert there.asked == 4
    assert there.answers.counts.refused_writes == 4


async def test_tenants_and_namespaces_share_nothing() -> None:
    there = Scene()
    seen = set()
    for tenant in ("", "a", "b"):
        for namespace in ("", "a", "b"):
            request = ask(cache=mode("READ_WRITE", namespace=namespace))
            infos = [(await there.call(request, there.context(tenant=tenant)))[1] for _ in range(2)]
            assert statuses(infos) == ["MISS", "HIT"]
            seen.add(infos[1].key if infos[1] else "")
    assert len(seen) == 9


async def test_equal_requests_at_the_same_time_are_answered_by_one_call() -> None:
    there = Scene(*says("one answer for all", pause=1.0))
    answers = await asyncio.gather(*(there.call(ask()) for _ in range(50)), *(there.read(ask()) for _ in range(50)))
    assert there.asked == 1
    found = statuses([info for _, info in answers])
    assert found.count("MISS") == 1
    assert found.count("COALESCED") == 99
    assert there.answers.counts.coalesced == 99


async def test_a_purge_takes_what_is_there_and_what_is_under_way() -> None:
    from parley_server.pipeline.cache.purges import Purge

    there = Scene(*says("slow answer", pause=1.0))
    await there.call(ask("before"))
    call = asyncio.create_task(there.call(ask("under way")))
    await asyncio.sleep(0.5)
    assert await there.answers.purge(Purge()) == 1
    await call
    infos = [(await there.call(ask(text)))[1] for text in ("before", "under way", "before", "under way")]
    assert statuses(infos) == ["MISS", "MISS", "HIT", "HIT"]


class Index:
    """Knows one question."""

    threshold = 0.8

    def __init__(self) -> None:
        self.kept: list[tuple[Question, float]] = []
        self.asked: list[float] = []

    async def find(self, question: Question, least: float, _ctx: object) -> list[Nearby]:
        self.asked.append(least)
        return [Nearby(b"nowhere", 0.99), *(Nearby(kept.key, 0.95) for kept, _ in self.kept)]

    async def keep(self, question: Question, seconds: float, _ctx: object) -> None:
        self.kept.append((question, seconds))


async def test_a_near_hit_comes_after_an_exact_miss_where_it_is_wanted() -> None:
    index = Index()
    there = Scene(near=index)
    wish = mode("READ_WRITE", min_similarity=0.9)
    first, _ = await there.call(ask("hello", cache=wish))
    await asyncio.sleep(0)
    assert [seconds for _, seconds in index.kept] == [3600]
    second, near = await there.call(ask("hello there", cache=wish))
    _, exact = await there.call(ask("hello", cache=wish))
    _, only = await there.call(ask("hello!", cache=mode("ONLY_IF_CACHED", min_similarity=0.9)))
    assert there.asked == 1
    assert second.message == first.message
    assert statuses([near, exact, only]) == ["SEMANTIC_HIT", "HIT", "SEMANTIC_HIT"]
    assert near is not None
    assert exact is not None
    assert near.similarity == 0.95
    assert near.key == exact.key
    assert not exact.HasField("similarity")
    await there.call(ask("hello there"))  # without the wish
    assert there.asked == 2
    assert index.asked == [0.9, 0.9, 0.9]


async def test_a_policy_may_accept_near_hits_for_requests_that_do_not_say() -> None:
    index = Index()
    there = Scene(near=index, policy=CachePolicy(similar=True))
    await there.call(ask("hello"))
    await there.call(ask("hello there", cache=mode("READ_WRITE", min_similarity=0.97)))
    assert there.asked == 1
    there = Scene(near=index, policy=CachePolicy(similar=True, min_similarity=0.9))
    await there.call(ask("hello"))
    assert index.asked == [0.8, 0.97, 0.9]


async def test_the_wish_for_near_hits_gets_a_note_where_there_is_no_index() -> None:
    there = Scene()
    ctx = there.context()
    await there.call(ask(cache=mode("READ_WRITE", min_similarity=0.9)), ctx)
    assert [(note.code, note.field) for note in ctx.warnings] == [
        ("UNSUPPORTED_PARAMETER", "response_cache.min_similarity")
    ]


async def test_what_another_tenant_has_asked_cannot_be_told_from_the_time_that_a_lookup_takes() -> None:
    there = Scene()
    theirs, nobodys = (
        [f"asked by a {number}" for number in range(400)],
        [f"asked by 0 {number}" for number in range(400)],
    )
    for text in theirs:
        await there.call(ask(text), there.context(tenant="a"))
    only = mode("ONLY_IF_CACHED")
    times: dict[str, list[int]] = {"theirs": [], "nobody's": []}
    for pair in zip(theirs, nobodys, strict=True):
        for name, text in zip(times, pair, strict=True):
            request, ctx = ask(text, cache=only), there.context(tenant="b")
            begun = time.perf_counter_ns()
            with pytest.raises(CacheMiss):
                await there.service(request, ctx)
            times[name].append(time.perf_counter_ns() - begun)
    middle = {name: sorted(some)[len(some) // 2] for name, some in times.items()}
    assert 0.8 < middle["theirs"] / middle["nobody's"] < 1.25
