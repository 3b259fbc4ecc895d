"""The cache of answers, through real gateways: four processes that share a Redis-compatible server, and one alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.admin import v1 as admin
from parley.admin.v1.cache_service_pb2_grpc import CacheServiceStub
from parley.fold import fold
from parley.status import from_rpc
from tests.gateway.process import Gateway, ask, config, gateway
from tests.gateway.wire import by_model, openai_answer, openai_says
from tests.stores.servers import VALKEY, Server
from tests.stores.servers import ask as redis
from tests.upstream import Exchange, Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

Options = v1.ResponseCacheOptions
READ_WRITE = Options(mode=Options.MODE_READ_WRITE)
STATUS = v1.CacheInfo.Status.Name
KEYS = {"CACHE_KEY_NEW": "ab" * 32, "CACHE_KEY_OLD": "q" * 43 + "="}
TENANTS = {
    "blue": {"keys": ["env:KEY_BLUE"], "tenant": "blue"},
    "red": {"keys": ["env:KEY_RED"], "tenant": "red"},
}
CALLERS = {"KEY_BLUE": "blue-0123456789abcdef0123456789abcdef", "KEY_RED": "red-0123456789abcdef0123456789abcdef"}


async def slowly(exchange: Exchange) -> None:
    """Answers after half a second."""
    await asyncio.sleep(0.5)
    await exchange.answer(200, openai_answer("at last"))


@dataclass
class Replicas:
    """Gateways that share a store and an upstream."""

    gateways: list[Gateway]
    upstream: Upstream
    redis: Server

    def asked(self, text: str) -> int:
        """How often the upstream was asked this."""
        posts = (request for request in self.upstream.requests if request.method == "POST")
        return sum(text in str(request.json.get("messages", request.json.get("input"))) for request in posts)

    async def call(self, at: int, text: str, model: str = "up/m", **fields: Any) -> v1.ChatResponse:
        response: v1.ChatResponse = await self.gateways[at].stub.Chat(
            ask(model, text, response_cache=READ_WRITE, **fields)
        )
        return response


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    redis = Server(VALKEY).start()
    plays = {"m": openai_says("hello there"), "slow": slowly}
    try:
        async with scripted(by_model(plays)) as upstream, AsyncExitStack() as stack:
            settings = config(
                providers={"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}},
                cache={"keys": ["env:CACHE_KEY_NEW", "env:CACHE_KEY_OLD"]},
                redis={"url": redis.url, "timeout": 5, "connect_timeout": 5, "slow": 5},  # this machine may be busy
            )
            folders = [tmp_path_factory.mktemp(f"gateway-{number}") for number in range(4)]
            gateways = [await stack.enter_async_context(gateway(settings, folder, KEYS)) for folder in folders]
            there = Replicas(gateways, upstream, redis)
            for at in range(4):
                await there.call(at, f"warm up {at}")
            yield there
    finally:
        redis.close()


def text_of(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def status(response: Any) -> str:
    return STATUS(response.cache.status).removeprefix("STATUS_")


async def test_a_hundred_equal_requests_at_four_gateways_are_one_call(replicas: Replicas) -> None:
    calls = [replicas.call(number % 4, "all at once", "up/slow") for number in range(100)]
    answers = await asyncio.gather(*calls)
    assert replicas.asked("all at once") == 1
    assert {text_of(answer) for answer in answers} == {"at last"}
    found = [status(answer) for answer in answers]
    assert found.count("MISS") == 1
    assert sum(answer.usage.source == v1.Usage.SOURCE_PROVIDER for answer in answers) == 1
    assert len({answer.id for answer in answers}) == 100


async def test_what_is_streamed_here_is_given_whole_there_and_streamed_again(replicas: Replicas) -> None:
    request = ask("up/m", "stream and whole", response_cache=READ_WRITE)
    call = replicas.gateways[0].stub.StreamChat(v1.StreamChatRequest(request=request))
    streamed = [event async for event in call]
    assert STATUS(streamed[0].started.cache.status) == "STATUS_MISS"
    await asyncio.sleep(0.2)
    whole = await replicas.call(1, "stream and whole")
    call = replicas.gateways[2].stub.StreamChat(v1.StreamChatRequest(request=request))
    again = [event async for event in call]
    assert replicas.asked("stream and whole") == 1
    assert fold(streamed).message == whole.message == fold(again).message
    assert STATUS(again[0].started.cache.status) == "STATUS_HIT"
    assert again[-1].completed.cache == again[0].started.cache
    assert again[-1].completed.usage.source == v1.Usage.SOURCE_CACHE
    assert whole.cache.key == again[0].started.cache.key == streamed[-1].completed.cache.key
    assert [event.sequence for event in again] == list(range(1, len(again) + 1))


async def test_nothing_in_the_store_can_be_read_without_the_key(replicas: Replicas) -> None:
    await replicas.call(0, "a secret that nobody may see")
    await asyncio.sleep(0.2)
    names = [line for line in redis(replicas.redis.port, "KEYS", "*").split() if "cache" in line and "/" in line]
    assert names
    for name in names:
        value = redis(replicas.redis.port, "GET", name)
        assert "$" in value
        assert not any(word in name + value for word in ("secret", "hello", "there", "openai", "up/m"))


async def test_a_purge_is_seen_by_all_within_a_second(replicas: Replicas) -> None:
    for at in range(4):
        await replicas.call(at, "to be purged")
        await asyncio.sleep(0.1)
    assert replicas.asked("to be purged") == 1
    kept = await replicas.call(0, "to be kept")
    key = (await replicas.call(3, "to be purged")).cache.key
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replicas.gateways[2].admin_port}") as channel:
        service: Any = CacheServiceStub(channel)
        purged = await service.PurgeCache(admin.PurgeCacheRequest(key=key))
    begun = time.monotonic()
    assert purged.purged_entries == 1
    left = set(range(4))
    while left and time.monotonic() - begun < 1:
        cached = ask("up/m", "to be purged", response_cache=Options(mode=Options.MODE_ONLY_IF_CACHED))
        for at in set(left):
            try:
                await replicas.gateways[at].stub.Chat(cached)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND  # noqa: PT017  # until it is
                left.discard(at)
    assert not left
    assert (await replicas.call(0, "to be kept")).cache.key == kept.cache.key
    assert replicas.asked("to be kept") == 1


async def test_a_store_that_goes_away_and_comes_back_costs_no_call(replicas: Replicas) -> None:
    await replicas.call(0, "before the outage")
    await asyncio.sleep(0.1)
    replicas.redis.kill()
    took = []
    for number in range(20):
        begun = time.monotonic()
        assert text_of(await replicas.call(number % 4, f"during the outage {number}")) == "hello there"
        took.append(time.monotonic() - begun)
    assert status(await replicas.call(0, "before the outage")) == "HIT"
    replicas.redis.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        await replicas.call(0, f"back {time.monotonic()}")
        text = f"shared again {time.monotonic()}"
        await replicas.call(0, text)
        await asyncio.sleep(0.1)
        if status(await replicas.call(1, text)) == "HIT":
            break
    else:
        pytest.fail("the store is not used again")


async def test_tenants_share_nothing_and_metadata_says_what_to_do(tmp_path: Path) -> None:
    settings = config(callers=TENANTS, cache={"mode": "read_write", "max_temperature": 2})
    async with gateway(settings, tmp_path, CALLERS) as server:

        async def call(who: str, mode: str = "") -> tuple[v1.ChatResponse, dict[str, Any]]:
            metadata = [("authorization", f"Bearer {CALLERS[f'KEY_{who.upper()}']}")]
            if mode:
                metadata.append(("x-parley-cache", mode))
            call = server.stub.Chat(ask("mock/echo", "hello"), metadata=metadata)
            response = await call
            return response, dict(await call.initial_metadata())

        seen = [status((await call(who))[0]) for who in ("blue", "red", "blue", "red")]
        assert seen == ["MISS", "MISS", "HIT", "HIT"]
        blue, red = (await call("blue"))[0], (await call("red"))[0]
        assert blue.cache.key != red.cache.key
        told = [await call("blue", mode) for mode in ("bypass", "refresh", "only-if-cached", "read-write", "read-only")]
        outcomes = ["BYPASS", "MISS", "HIT", "HIT", "HIT"]
        assert [status(response) for response, _ in told] == outcomes
        assert [initial["x-parley-cache"] for _, initial in told] == [outcome.lower() for outcome in outcomes]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("blue", "sometimes")
        assert "'sometimes' is none of bypass, read-write, read-only, refresh, only-if-cached" in str(
            from_rpc(refused.value, "").violations
        )
        assert "x-parley-cache" not in (await call("blue"))[1]  # nobody asked: it is in the message
        metadata = [("authorization", f"Bearer {CALLERS['KEY_BLUE']}"), ("x-parley-cache", "read-write")]
        stream = server.stub.StreamChat(v1.StreamChatRequest(request=ask("mock/echo", "hello")), metadata=metadata)
        assert dict(await stream.initial_metadata())["x-parley-cache"] == "hit"
        events = [event async for event in stream]
        assert events[0].started.cache.status == v1.CacheInfo.STATUS_HIT

        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}") as channel:
            service: Any = CacheServiceStub(channel)
            stats = await service.GetCacheStats(admin.GetCacheStatsRequest())
            assert (stats.memory_hits, stats.misses, stats.writes, stats.entries) == (9, 3, 3, 2)
            assert 0 < stats.bytes < stats.max_bytes == 64 * 1024 * 1024
            assert stats.saved_input_tokens > 0
            for request, reason in [
                (admin.PurgeCacheRequest(), "say what is to be purged"),
                (admin.PurgeCacheRequest(all=True, model="m"), "all: leave it out"),
                (admin.PurgeCacheRequest(key="abc"), "key: is not one"),
            ]:
                with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused:
                    await service.PurgeCache(request)
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert (await service.PurgeCache(admin.PurgeCacheRequest(tenant="red"))).purged_entries == 1
            assert [status((await call(who))[0]) for who in ("blue", "red")] == ["HIT", "MISS"]
            old = admin.PurgeCacheRequest()
            old.min_age.FromSeconds(3600)
            assert (await service.PurgeCache(old)).purged_entries == 0
            assert (await service.PurgeCache(admin.PurgeCacheRequest(model="mock/echo"))).purged_entries == 2
