"""Embeddings, input by input."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import CacheMiss, Unavailable
from parley_server.core.reply import Reply
from parley_server.core.target import Target
from parley_server.pipeline.cache import Answers, CachePolicy, EmbedCache, Keys, Policies
from parley_server.pipeline.cache import Target as CacheTarget
from parley_server.pipeline.cache.embeds import shares
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.shared import Join, Memory, SharePolicy
from parley_server.stores.memory.keyvalue import MemoryKeyValue, MemoryMessages
from tests.fakes import context
from tests.pipeline.cache.scene import PRICE, Clock, Options, statuses

READ_WRITE = Options(mode=Options.MODE_READ_WRITE)


class Scene:
    """Gateways over one upstream that embeds a text as its length, and fails where it is told to."""

    def __init__(self, count: int = 1, policy: CachePolicy | None = None, pause: float = 0.0) -> None:
        self.wall = Clock()
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.pause = pause
        loop = asyncio.get_running_loop()
        shared = (MemoryKeyValue(loop.time), MemoryMessages()) if count > 1 else None
        self.answers = [Answers(Keys(b"s"), 2**20, self.wall, shared=shared) for _ in range(count)]
        resolve = lambda model, _: CacheTarget(model, primary="a/m")  # noqa: E731
        policies = Policies(policy or CachePolicy())
        self.services = [
            EmbedCache(answers, policies, resolve, Join(Memory(SharePolicy(), loop.time)))(
                Meter(Target("a", "m"), PRICE)(self.upstream)
            )
            for answers in self.answers
        ]

    async def upstream(self, request: v1.EmbedRequest, _ctx: Context) -> Reply[Any]:
        self.asked.append([one.text for one in request.inputs])
        await asyncio.sleep(self.pause)
        if self.error is not None:
            raise self.error
        response = v1.EmbedResponse()
        for index, one in enumerate(request.inputs):
            response.embeddings.add(index=index, floats=v1.FloatVector(values=[len(one.text)]), dimensions=1)
        tokens = sum(len(one.text) for one in request.inputs)
        response.usage.MergeFrom(v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=tokens))
        response.route.provider, response.route.model = "a", "m"
        return Reply.of(response)

    async def embed(
        self, *texts: str, cache: Options | None = READ_WRITE, at: int = 0, tenant: str = "", **fields: Any
    ) -> tuple[v1.EmbedResponse, v1.CacheInfo | None]:
        request = v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text=text) for text in texts], **fields)
        if cache is not None:
            request.response_cache.CopyFrom(cache)
        ctx = context("embed", streaming=False)
        ctx.received_at, ctx.tenant = self.wall.now, tenant
        async with await self.services[at](request, ctx) as reply:
            response = await reply.response()
        assert [one.index for one in response.embeddings] == list(range(len(texts)))
        assert [one.floats.values[0] for one in response.embeddings] == [len(text) for text in texts]
        return response, ctx.cache


async def test_only_what_is_not_there_is_asked_for_each_once_and_in_order() -> None:
    there = Scene()
    _, first = await there.embed("a", "bb")
    there.wall.now += 5
    mixed, second = await there.embed("bb", "ccc", "a", "dddd", "ccc")
    there.wall.now += 5
    whole, third = await there.embed("dddd", "a")
    assert there.asked == [["a", "bb"], ["ccc", "dddd"]]
    assert statuses([first, second, third]) == ["MISS", "MISS", "HIT"]
    assert mixed.usage.source == v1.Usage.SOURCE_PROVIDER
    assert mixed.usage.input_tokens == 7
    assert mixed.usage.cost.total_nano_usd == 7000
    assert whole.usage.source == v1.Usage.SOURCE_CACHE
    assert whole.usage.input_tokens == 5
    assert whole.usage.HasField("cost")
    assert whole.usage.cost.total_nano_usd == 0
    assert not whole.route.attempts
    assert whole.route.provider == "a"
    assert third is not None
    assert third.age_seconds == 10
    counts = there.answers[0].counts
    assert (counts.memory_hits, counts.misses, counts.writes) == (4, 4, 4)
    assert counts.saved_input_tokens == 2 + 1 + 4 + 1


async def test_modes() -> None:
    there = Scene()
    options = {name: Options(mode=number) for name, number in Options.Mode.items()}
    with pytest.raises(CacheMiss, match="1 of 1 inputs"):
        await there.embed("a", cache=options["MODE_ONLY_IF_CACHED"])
    names = ("READ_ONLY", "READ_WRITE", "ONLY_IF_CACHED", "READ_ONLY", "BYPASS", "REFRESH", "READ_WRITE")
    infos = [(await there.embed("a", cache=options[f"MODE_{name}"]))[1] for name in names]
    assert statuses(infos) == ["MISS", "MISS", "HIT", "HIT", "BYPASS", "MISS", "HIT"]
    assert len(there.asked) == 4
    assert (await there.embed("a", cache=None))[1] is None


async def test_tenants_namespaces_and_forms_share_nothing() -> None:
    there = Scene()
    for tenant in ("", "t"):
        for namespace in ("", "n"):
            for fields in ({}, {"dimensions": 1}):
                cache = Options(mode=Options.MODE_READ_WRITE, namespace=namespace)
                infos = [(await there.embed("a", cache=cache, tenant=tenant, **fields))[1] for _ in range(2)]
                assert statuses(infos) == ["MISS", "HIT"]
    assert len(there.asked) == 8


async def test_failures_and_second_choices_are_not_kept() -> None:
    there = Scene()
    there.error = Unavailable("gone")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await there.embed("a")
    assert there.answers[0].counts.writes == 0
    assert len(there.asked) == 2


async def test_gateways_share_and_ask_once_for_what_they_are_asked_at_the_same_time() -> None:
    there = Scene(4, pause=1.0)
    for answers in there.answers:
        answers.start()
    await asyncio.sleep(0.01)
    replies = await asyncio.gather(*(there.embed("a", "bb", at=at) for at in range(4) for _ in range(25)))
    assert there.asked == [["a", "bb"]]
    found = statuses([info for _, info in replies])
    assert found.count("MISS") == 1
    _, hit = await there.embed("bb", at=3)
    assert statuses([hit]) == ["HIT"]
    for answers in there.answers:
        await answers.aclose()


@given(st.integers(0, 2**40), st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_shares_add_up_and_are_fair(whole: int, weights: list[int]) -> None:
    parts = list(shares(whole, weights))
    assert sum(parts) == whole
    assert all(abs(part - whole * weight / sum(weights)) < 1.01 for part, weight in zip(parts, weights, strict=True))
