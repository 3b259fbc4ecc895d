"""Several gateways with one store: what one has learned all know, and one question is one call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, StateUnavailable, Unavailable
from parley_server.pipeline.cache import CachePolicy
from parley_server.pipeline.cache.lease import LASTS
from parley_server.pipeline.cache.purges import Purge
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.keyvalue import MemoryKeyValue
from tests.fakes import Step, delta, opened, started
from tests.pipeline.cache.scene import Options, Scene, ask, says, statuses, text_of


class Store:
    """One that can be away, and counts what it is asked."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[str] = []
        self._inner = MemoryKeyValue(asyncio.get_running_loop().time)

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        if self.away:
            raise StoreUnavailable("away")
        return getattr(self._inner, name)

    @property
    def values(self) -> dict[str, bytes]:
        """Those that are there, without the list of purges."""
        now = asyncio.get_running_loop().time()
        entries = self._inner._entries.items()
        return {key: entry.value for key, entry in entries if entry.expires > now and key.startswith("a/")}


@asynccontextmanager
async def gateways(
    count: int, *script: Step, policy: CachePolicy | None = None, keys: Sequence[bytes] = ()
) -> AsyncIterator[list[Scene]]:
    first = Scene(*script, policy=policy, store=Store(), keys=keys)
    scenes = [first, *(Scene(beside=first, policy=policy, keys=keys) for _ in range(count - 1))]
    async with AsyncExitStack() as stack:
        for scene in scenes:
            await stack.enter_async_context(scene.serving())
        yield scenes
        await asyncio.sleep(0.1)


async def settle() -> None:
    """Let what is done in the background be done."""
    await asyncio.sleep(0.05)


async def test_what_one_gateway_has_kept_the_others_give() -> None:
    async with gateways(2) as (one, other):
        await one.read(ask())
        await settle()
        response, hit = await other.call(ask())
        again, hit_again = await other.call(ask())
        assert one.asked == 1
        assert text_of(response) == text_of(again) == "ananswer"
        assert statuses([hit, hit_again]) == ["HIT", "HIT"]
        assert response.usage.source == v1.Usage.SOURCE_CACHE
        assert (other.answers.counts.shared_hits, other.answers.counts.memory_hits) == (1, 1)


async def test_before_the_first_token_the_store_is_asked_once() -> None:
    async with gateways(1) as (one,):
        one.store.asked.clear()
        reply = await one.service(ask(), one.context(streaming=True))
        assert one.store.asked == ["add"]
        await reply.aclose()
        await settle()
        one.store.asked.clear()
        await one.call(ask("other"))
        await settle()
        assert one.store.asked == ["add", "put"]
        one.store.asked.clear()
        await one.call(ask("other"))
        assert one.store.asked == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_equal_requests_at_several_gateways_are_one_call(streaming: bool) -> None:
    async with gateways(4, *says("one answer for all of them", pause=1.0)) as scenes:
        one = scenes[0]
        calls = [(scene.read if streaming else scene.call)(ask()) for scene in scenes for _ in range(25)]
        answers = await asyncio.gather(*calls)
        assert one.asked == 1
        found = statuses([info for _, info in answers])
        assert found.count("MISS") == 1
        assert set(found) == {"MISS", "COALESCED", "HIT"}


async def test_a_gateway_that_dies_is_replaced_once_its_lease_has_lapsed() -> None:
    loop = asyncio.get_running_loop()
    async with gateways(3, *says("an answer", pause=60.0)) as (one, two, three):
        dying = asyncio.create_task(one.call(ask()))
        await asyncio.sleep(0.5)
        one.answers._shared._store = None  # type: ignore[union-attr]  # nothing of it gets to the store any more
        for task in asyncio.all_tasks():
            if "_renew" in repr(task.get_coro()):
                task.cancel()
        begun = loop.time()
        answers = await asyncio.gather(two.call(ask()), three.call(ask()))
        assert 120 <= loop.time() - begun <= 121 + LASTS
        assert one.asked == 2
        assert sorted(statuses([info for _, info in answers])) == ["HIT", "MISS"]
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)


async def test_a_lease_is_renewed_for_as_long_as_the_call_takes() -> None:
    async with gateways(2, *says("an answer", pause=60.0)) as (one, two):
        answers = await asyncio.gather(one.call(ask()), two.call(ask()))
        assert one.asked == 1
        assert sorted(statuses([info for _, info in answers])) == ["HIT", "MISS"]


async def test_where_the_answer_may_not_be_shared_those_who_waited_ask_at_once_and_together() -> None:
    loop = asyncio.get_running_loop()
    end = v1.StreamChatResponse(completed=v1.ResponseCompleted(finish_reason=v1.FINISH_REASON_LENGTH))
    async with gateways(4, [started(), opened(), delta("half")], 10.0, [end]) as scenes:
        begun = loop.time()
        await asyncio.gather(*(scene.call(ask()) for scene in scenes))
        assert scenes[0].asked == 4
        assert loop.time() - begun < 21


async def test_after_a_failure_one_of_those_who_waited_tries() -> None:
    async with gateways(3, [started()], 5.0, Unavailable("gone")) as scenes:
        results = await asyncio.gather(*(scene.call(ask()) for scene in scenes), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3
        assert scenes[0].asked == 3
        await settle()
        assert not scenes[0].store.values


async def test_who_leaves_gives_the_lease_back() -> None:
    loop = asyncio.get_running_loop()
    async with gateways(2, *says("an answer", pause=5.0)) as (one, two):
        leaving = asyncio.create_task(one.call(ask()))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(two.call(ask()))
        await asyncio.sleep(1)
        leaving.cancel()
        begun = loop.time()
        _, info = await waiting
        assert statuses([info]) == ["MISS"]
        assert loop.time() - begun < 10.5
        assert one.upstream.opened == 2


@pytest.mark.parametrize("keys", [[], [bytes(32)]])
async def test_a_store_that_is_away_is_a_cache_that_is_empty(keys: list[bytes]) -> None:
    async with gateways(2, keys=keys) as (one, two):
        one.store.away = True
        infos = [(await scene.call(ask()))[1] for scene in (one, two, one, two)]
        assert statuses(infos) == ["MISS", "MISS", "HIT", "HIT"]  # each has its memory
        assert one.answers.counts.store_failures >= 1
        one.store.away = False
        await one.call(ask("other"))
        await settle()
        assert statuses([(await two.call(ask("other")))[1]]) == ["HIT"]


async def test_where_the_store_is_needed_calls_that_are_cached_fail_without_it() -> None:
    async with gateways(1) as (open_one,):
        needing = Scene(beside=open_one, closed=True)
        async with needing.serving():
            await needing.call(ask("there"))
            open_one.store.away = True
            assert statuses([(await needing.call(ask("there")))[1]]) == ["HIT"]
            for mode in (Options.MODE_READ_WRITE, Options.MODE_READ_ONLY):
                with pytest.raises(StateUnavailable):
                    await needing.call(ask("not there", cache=Options(mode=mode)))
            assert (await needing.call(ask("not there", cache=None)))[1] is None
            late = Scene(beside=open_one, closed=True)
            async with late.serving():
                with pytest.raises(StateUnavailable):  # purges are not known yet
                    await late.call(ask())
        assert open_one.asked == 2


async def test_a_purge_is_known_everywhere_at_once() -> None:
    async with gateways(4) as scenes:
        for scene in scenes:
            await scene.call(ask("a"), scene.context(tenant="t"))
            await scene.call(ask("a"), scene.context(tenant="u"))
            await settle()
        assert scenes[0].asked == 2
        assert await scenes[1].answers.purge(Purge(tenant="t")) == 1
        await settle()
        for scene in scenes:
            assert len(scene.answers.memory) == 1
        assert len(scenes[0].store.values) == 1  # freed there as well
        infos = [(await scenes[2].call(ask("a"), scenes[2].context(tenant=tenant)))[1] for tenant in "tu"]
        assert statuses(infos) == ["MISS", "HIT"]


async def test_a_call_under_way_anywhere_is_purged_too() -> None:
    async with gateways(2, *says("slow answer", pause=1.0)) as (one, two):
        call = asyncio.create_task(one.call(ask()))
        await asyncio.sleep(1.5)
        await two.answers.purge(Purge())
        await call
        await settle()
        assert statuses([(await scene.call(ask()))[1] for scene in (two, one)]) == ["MISS", "HIT"]


async def test_a_purge_that_was_missed_is_read_later() -> None:
    async with gateways(2) as (one, two):
        for scene in (one, two):
            await scene.call(ask())
            await settle()
        with one.messages.cut():
            await two.answers.purge(Purge(model="mock/echo"))
            await settle()
            assert statuses([(await one.call(ask()))[1]]) == ["HIT"]
        await settle()
        assert len(one.answers.memory) == len(two.answers.memory) == 0


async def test_a_purge_that_cannot_be_made_known_says_so_and_holds_here() -> None:
    async with gateways(1) as (one,):
        await one.call(ask())
        await settle()
        one.store.away = True
        with pytest.raises(StoreUnavailable):
            await one.answers.purge(Purge())
        assert not len(one.answers.memory)
        one.store.away = False
        assert statuses([(await one.call(ask()))[1]]) == ["MISS"]


async def test_nothing_of_the_store_is_given_before_the_purges_are_known() -> None:
    async with gateways(1) as (one,):
        await one.call(ask())
        await settle()
        one.store.away = True
        late = Scene(beside=one)
        async with late.serving():
            one.store.away = False
            assert statuses([(await late.call(ask()))[1]]) == ["MISS"]
            await asyncio.sleep(0.5)
            await late.call(ask("x"))
            late.answers.memory.max_bytes = 0
            assert statuses([(await late.call(ask()))[1]]) == ["HIT"]


STALE = CachePolicy(ttl=10, stale_while_revalidate=5, stale_if_error=100)


async def test_an_answer_past_its_time_is_given_while_a_new_one_is_fetched() -> None:
    async with gateways(2, policy=STALE) as (one, two):
        await one.call(ask())
        await settle()
        one.wall.now += 12
        _, stale = await two.call(ask())
        assert stale is not None
        assert statuses([stale]) == ["HIT"]
        assert stale.age_seconds == 12
        assert two.answers.counts.stale_hits == 1
        await settle()
        assert one.asked == 2
        infos = [(await scene.call(ask()))[1] for scene in (two, one)]
        assert [info.age_seconds for info in infos if info] == [0, 12]  # the first one has its own, as old
        await settle()
        assert one.asked == 2
        assert [(await scene.call(ask()))[1].age_seconds for scene in (one, two)] == [0, 0]  # type: ignore[union-attr]


async def test_past_that_a_new_one_is_waited_for() -> None:
    async with gateways(2, policy=STALE) as (one, two):
        await one.call(ask())
        await settle()
        one.wall.now += 16
        infos = [(await scene.call(ask()))[1] for scene in (two, one)]
        assert statuses(infos) == ["MISS", "HIT"]
        assert one.asked == 2


@pytest.mark.parametrize(("after", "given"), [(50, True), (111, False)])
@pytest.mark.parametrize("streaming", [False, True])
async def test_an_old_answer_is_better_than_a_failure(after: float, given: bool, streaming: bool) -> None:
    async with gateways(2, policy=STALE) as (one, two):
        await one.call(ask())
        await settle()
        one.wall.now += after
        one.upstream.script = ([started()], Unavailable("gone"))
        ctx = two.context(streaming=streaming)
        ask_two = two.read if streaming else two.call
        if given:
            _, info = await ask_two(ask(), ctx)
            assert statuses([info]) == ["HIT"]
            assert [warning.code for warning in ctx.warnings] == ["STALE_ANSWER"]
            await settle()
            assert one.store.values  # it is still there for the next one
            _, info = await ask_two(ask(), two.context(streaming=streaming))
            assert statuses([info]) == ["HIT"]
        else:
            with pytest.raises(Unavailable):
                await ask_two(ask(), ctx)


async def test_a_failure_of_the_callers_own_making_is_his() -> None:
    async with gateways(1, policy=STALE) as (one,):
        await one.call(ask())
        one.wall.now += 50
        one.upstream.script = ([started()], InvalidRequest("no"))
        with pytest.raises(InvalidRequest):
            await one.call(ask())


async def test_values_of_other_keys_and_tenants_are_misses_and_counted() -> None:
    old, new = os.urandom(32), os.urandom(32)
    async with gateways(1, keys=[old]) as (one,):
        await one.call(ask())
        await settle()
        [(name, value)] = one.store.values.items()
        rotated = Scene(beside=one, keys=[new, old])
        stranger = Scene(beside=one, keys=[new])
        plain = Scene(beside=one)
        async with rotated.serving(), stranger.serving(), plain.serving():
            assert statuses([(await rotated.call(ask()))[1]]) == ["HIT"]
            for other in (stranger, plain):
                await one.store.put(name, value, 100)
                assert statuses([(await other.call(ask()))[1]]) == ["MISS"]
                assert other.answers.counts.corrupt == 1
            await one.call(ask(), one.context(tenant="t"))
            await settle()
            [theirs] = {other for other in one.store.values if one.answers.keys.tenant("t") in other}
            await one.store.put(theirs, value, 100)
            one.answers.memory.max_bytes = 0
            assert statuses([(await one.call(ask(), one.context(tenant="t")))[1]]) == ["MISS"]
            assert one.answers.counts.corrupt == 1


async def test_an_index_near_is_asked_after_the_store() -> None:
    asked: list[object] = []

    class Index:
        threshold = 0.8

        async def find(self, *question: object) -> list[Any]:
            asked.append(question)
            return []

        async def keep(self, *question: object) -> None:
            asked.append(question)

    async with gateways(1) as (one,):
        wish = Options(mode=Options.MODE_READ_WRITE, min_similarity=0.9)
        await one.call(ask(cache=wish))
        await settle()
        assert not asked  # it has none
        other = Scene(beside=one, near=Index())
        async with other.serving():
            assert statuses([(await other.call(ask(cache=wish)))[1]]) == ["HIT"]
            assert not asked
            await other.call(ask("new", cache=wish))
            await settle()
            assert len(asked) == 2
