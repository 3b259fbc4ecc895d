"""Answers to questions in other words, through whole gateways: alone, over one store, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
import yaml
import zstandard

from parley import v1
from parley.admin import v1 as admin
from parley.admin.v1.cache_service_pb2_grpc import CacheServiceStub
from parley.fold import fold
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.replicas import replicas
from tests.gateway.wire import by_model, openai_answer, openai_stream
from tests.upstream import Exchange, Upstream, scripted

WISH = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_WRITE, min_similarity=0.8)
QUESTION = "How do I turn on notifications for my two phones?"
PARAPHRASE = "What is the best way to enable notifications for my 2 phones?"
NEAR_MISS = "How do I turn off notifications for my two phones?"


async def numbered(exchange: Exchange) -> None:
    """Tells which question it answers. Embeds nothing."""
    if exchange.request.path.endswith("embeddings"):
        await exchange.answer(404, {"error": {"message": "does not embed"}})
        return
    text = f"answer to: {exchange.request.json['messages'][-1]['content']}"
    if exchange.request.json.get("stream"):
        await exchange.stream(openai_stream(*text.split(" ")))
    else:
        await exchange.answer(200, openai_answer(text))


async def embeds(exchange: Exchange) -> None:
    """Vectors by the first word that it knows."""
    inputs = exchange.request.json["input"]
    data = [
        {"object": "embedding", "index": index, "embedding": [1.0, 0.1 * len(text) % 0.2, 0.0]}
        for index, text in enumerate([inputs] if isinstance(inputs, str) else inputs)
    ]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    await exchange.answer(200, {"object": "list", "model": "e", "data": data, "usage": usage})


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def status(info: v1.CacheInfo) -> str:
    return v1.CacheInfo.Status.Name(info.status).removeprefix("STATUS_")


async def chat(server: Gateway, asked: str, wish: v1.ResponseCacheOptions = WISH, **fields: Any) -> v1.ChatResponse:
    response: v1.ChatResponse = await server.stub.Chat(ask("up/m", asked, response_cache=wish, **fields))
    return response


async def until_known(server: Gateway, questions: int = 1) -> None:
    """Wait until the gateway has so many questions in its index."""
    async with asyncio.timeout(10):
        while (await inspect(server))["gauges"]["similar_questions"] < questions:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(tmp_path: Path, semantic: Mapping[str, Any], **cache: Any) -> AsyncIterator[tuple[Gateway, Upstream]]:
    async with scripted(by_model({"m": numbered, "e": embeds})) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        settings = config(
            providers=providers, cache={"semantic": {"enabled": True, "timeout": 20, **semantic}, **cache}
        )
        async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
            yield server, upstream


def asked_for(upstream: Upstream, path: str = "chat/completions") -> int:
    return sum(request.path.endswith(path) for request in upstream.requests)


async def test_a_question_in_other_words_gets_the_answer_and_one_with_another_meaning_its_own(tmp_path: Path) -> None:
    async with scene(tmp_path, {}) as (server, upstream):
        first = await chat(server, QUESTION)
        await until_known(server)
        near, other = await chat(server, PARAPHRASE), await chat(server, NEAR_MISS)
        again = await chat(server, QUESTION)
        assert [status(answer.cache) for answer in (first, near, other, again)] == [
            "MISS",
            "SEMANTIC_HIT",
            "MISS",
            "HIT",
        ]
        assert text(near) == text(first) == f"answer to: {QUESTION}"
        assert text(other) == f"answer to: {NEAR_MISS}"
        assert 0.8 <= near.cache.similarity < 1
        assert near.cache.HasField("age_seconds")
        assert near.cache.key == again.cache.key
        assert near.usage.source == v1.Usage.SOURCE_CACHE
        assert near.id != first.id
        assert asked_for(upstream) == 2

        events = [event async for event in server.stub.StreamChat(stream("up/m", PARAPHRASE, response_cache=WISH))]
        assert text(fold(events)) == f"answer to: {QUESTION}"
        assert status(events[0].started.cache) == status(events[-1].completed.cache) == "SEMANTIC_HIT"
        assert events[0].started.cache.similarity == pytest.approx(near.cache.similarity)

        exact_only = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_WRITE)
        assert status((await chat(server, PARAPHRASE, exact_only)).cache) == "MISS"
        elsewhere = v1.ResponseCacheOptions()
        elsewhere.CopyFrom(WISH)
        elsewhere.namespace = "other"
        assert status((await chat(server, PARAPHRASE, elsewhere)).cache) == "MISS"
        assert status((await chat(server, PARAPHRASE, sampling=v1.SamplingOptions(seed=1))).cache) == "MISS"
        high = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_ONLY, min_similarity=0.9999)
        assert status((await chat(server, "How could I turn on notifications for my 2 phones?", high)).cache) == "MISS"
    assert not [line for line in server.log if line.get("level") in ("error", "warning")]


async def test_similar_questions_are_answered_unasked_where_a_policy_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path, {"embedder": "ngrams"}, mode="read_write", similar=True) as (server, upstream):
        steady = {"sampling": v1.SamplingOptions(temperature=0)}
        for question, expected in ((QUESTION, "MISS"), (QUESTION.replace("How do I", "How can I"), "SEMANTIC_HIT")):
            response = await server.stub.Chat(ask("up/m", question, **steady))
            assert status(response.cache) == expected
            await until_known(server)
        assert asked_for(upstream) == 1
        warm = await server.stub.Chat(ask("up/m", PARAPHRASE))  # no temperature: not cached, so no near hit either
        assert status(warm.cache) == "BYPASS"


async def test_one_of_the_gateways_models_may_compare(tmp_path: Path) -> None:
    async with scene(tmp_path, {"embedder": "up/e"}) as (server, upstream):
        await chat(server, QUESTION)
        await until_known(server)
        near = await chat(server, PARAPHRASE)
        assert status(near.cache) == "SEMANTIC_HIT"
        assert not near.route.attempts
        assert (asked_for(upstream), asked_for(upstream, "embeddings")) == (1, 2)


async def test_a_model_that_cannot_compare_costs_no_call(tmp_path: Path) -> None:
    async with scene(tmp_path, {"embedder": "up/m", "words": False}) as (server, upstream):
        for question in (QUESTION, PARAPHRASE):
            assert text(await chat(server, question)) == f"answer to: {question}"
        async with asyncio.timeout(10):
            while (await inspect(server))["gauges"]["similar_not_embedded"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert asked_for(upstream) == 2
        assert (await inspect(server))["gauges"]["similar_questions"] == 0


async def test_a_reload_begins_it_changes_what_compares_and_ends_it(tmp_path: Path) -> None:
    near = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_WRITE, min_similarity=0.3)
    async with scene(tmp_path, {"enabled": False}) as (server, _):
        path = server.folder / "parley.yaml"
        settings = yaml.safe_load(path.read_text())

        async def reload(**semantic: Any) -> None:
            seen = len(server.log)
            path.write_text(yaml.safe_dump({**settings, "cache": {"semantic": {"timeout": 20, **semantic}}}))
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(10):
                while not any(line.get("event") == "config_reloaded" for line in server.log[seen:]):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        off = await chat(server, QUESTION, near)
        assert [warning.field for warning in off.warnings] == ["response_cache.min_similarity"]
        await reload(enabled=True, embedder="ngrams")
        assert status((await chat(server, "Where is the manual of my two phones?", near)).cache) == "MISS"
        await until_known(server)
        assert status((await chat(server, "Where is the manual of my 2 phones?", near)).cache) == "SEMANTIC_HIT"
        await reload(enabled=True, embedder="minilm")
        assert status((await chat(server, "Where's the manual of my 2 phones?", near)).cache) == "MISS"
        await until_known(server, 2)
        assert status((await chat(server, "where is the manual of my 2 phones", near)).cache) == "SEMANTIC_HIT"
        await reload(enabled=False)
        assert (await chat(server, "Where is the manual of my phones?", near)).warnings


async def test_gateways_share_questions_and_a_restart_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ab" * 32)
    cache = {"semantic": {"enabled": True, "timeout": 20}, "keys": [f"file:{tmp_path / 'key'}"]}
    async with replicas({"m": numbered}, tmp_path, 2, cache=cache) as there:
        first = await chat(there.one, QUESTION)
        assert status((await chat(there.other, NEAR_MISS)).cache) == "MISS"
        near = await when_cached(there.other, PARAPHRASE)
        assert status(near.cache) == "SEMANTIC_HIT"
        assert text(near) == text(first)
        await until_known(there.one, 1)
        there.one.terminate()
        assert await there.one.exit_code() == 0
        late = await there.more(cache=cache)
        assert status((await chat(late, PARAPHRASE)).cache) == "SEMANTIC_HIT"
        assert status((await chat(late, NEAR_MISS)).cache) == "HIT"
        assert there.asked == 2
        assert len(stored(there.server.port)) > 2000
        assert b"notifications" not in uncompressed(there.server.port)


async def test_a_restart_keeps_questions_in_a_file(tmp_path: Path) -> None:
    storage = {"path": str(tmp_path / "parley.db")}
    async with scripted(by_model({"m": numbered})) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        cache = {"semantic": {"enabled": True, "timeout": 20}}
        settings = config(providers=providers, storage=storage, cache=cache)
        async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
            await chat(server, QUESTION)
            await until_known(server)
        async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
            assert (await inspect(server))["gauges"]["similar_questions"] == 0
            assert status((await chat(server, PARAPHRASE)).cache) == "SEMANTIC_HIT"
        assert asked_for(upstream) == 1


async def test_what_is_purged_is_no_near_hit_and_its_questions_are_gone(tmp_path: Path) -> None:
    cache = {"semantic": {"enabled": True, "timeout": 20, "embedder": "ngrams"}}
    async with replicas({"m": numbered}, tmp_path, 2, cache=cache) as there:
        for question in (QUESTION, QUESTION.replace("two", "three")):
            await chat(there.one, question)
        await until_known(there.one, 2)
        near = await when_cached(there.other, PARAPHRASE, 0.3)
        assert status(near.cache) == "SEMANTIC_HIT"
        assert b"notifications" in uncompressed(there.server.port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{there.one.admin_port}") as channel:
            await CacheServiceStub(channel).PurgeCache(admin.PurgeCacheRequest(tenant=""))
        async with asyncio.timeout(10):
            while (await inspect(there.other))["gauges"]["similar_questions"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await inspect(there.one))["gauges"]["similar_questions"] == 0
        assert b"notifications" not in uncompressed(there.server.port)
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            wish = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_ONLY_IF_CACHED, min_similarity=0.3)
            await chat(there.other, PARAPHRASE, wish)
        assert there.asked == 2


async def test_without_its_store_a_gateway_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    cache = {"semantic": {"enabled": True, "timeout": 20, "embedder": "ngrams"}}
    async with replicas({"m": numbered}, tmp_path, 1, cache=cache) as there:
        await chat(there.one, QUESTION)
        await until_known(there.one)
        await asyncio.to_thread(there.server.kill)
        near = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_WRITE, min_similarity=0.3)
        for question in ("What is new?", "How much is 3 + 4?", PARAPHRASE):
            response = await chat(there.one, question, near)
            assert status(response.cache) == ("SEMANTIC_HIT" if question == PARAPHRASE else "MISS")


async def when_cached(server: Gateway, asked: str, least: float = 0.8) -> v1.ChatResponse:
    """The answer as soon as there is one without a provider."""
    wish = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_ONLY_IF_CACHED, min_similarity=least)
    async with asyncio.timeout(10):
        while True:
            try:
                return await chat(server, asked, wish)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0.02)


def stored(port: int) -> bytes:
    """All that a server keeps."""
    client = redis.Redis(port=port)
    found = []
    for key in client.scan_iter():
        found.append(key)
        if client.type(key) == b"hash":
            found += [piece for field in client.hgetall(key).items() for piece in field]
        elif client.type(key) == b"string":
            found.append(client.get(key))
    client.close()
    return b"\n".join(found)


def uncompressed(port: int) -> bytes:
    """The same, signed values opened."""
    found = []
    for value in stored(port).split(b"\x28\xb5\x2f\xfd"):  # how zstd frames begin
        with contextlib.suppress(zstandard.ZstdError):
            found.append(zstandard.ZstdDecompressor().decompressobj().decompress(b"\x28\xb5\x2f\xfd" + value))
    return b"\n".join(found)
