"""Several gateways over one Redis, or one file: an idempotency key counts for all, a circuit that opens warns all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.fold import fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.replicas import Replicas, replicas
from tests.gateway.statuses import reason
from tests.gateway.wire import EVENT_STREAM, by_model, openai_answer, openai_chunk, openai_stream, sse
from tests.upstream import Exchange, scripted

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
CALLERS = 100


async def slowly(exchange: Exchange) -> None:
    """Takes half a second, whether it streams or not."""
    if not exchange.request.json.get("stream"):
        await asyncio.sleep(0.5)
        await exchange.answer(200, openai_answer("one two"))
        return
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "one "})))
    await asyncio.sleep(0.5)
    await exchange.chunk(openai_stream("two"))
    await exchange.end()


async def once(exchange: Exchange) -> None:
    """The first call is never answered."""
    if FIRST.is_set():
        await exchange.answer(200, openai_answer("one two"))
        return
    FIRST.set()
    await exchange.stall()


async def moody(exchange: Exchange) -> None:
    """Fails, until it is well again."""
    if WELL.is_set():
        await exchange.answer(200, openai_answer("well"))
    else:
        await exchange.answer(500, {"error": {"message": "ill"}})


FIRST, WELL = asyncio.Event(), asyncio.Event()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    plays = {"slowly": slowly, "once": once, "moody": moody, "moody2": moody}
    retry = {"attempts_per_target": 1, "max_attempts": 1}
    async with replicas(plays, tmp_path_factory.mktemp("replicas"), retry=retry, breaker={"max_wait": 0}) as found:
        yield found


def text(answer: v1.ChatResponse) -> str:
    return "".join(part.text for part in answer.message.parts)


async def chat(server: Gateway, key: str, model: str = "slowly", says: str = "hello", **kwargs: Any) -> v1.ChatResponse:
    answer: v1.ChatResponse = await server.stub.Chat(ask(f"up/{model}", says, idempotency_key=key), **kwargs)
    return answer


async def streamed(server: Gateway, key: str) -> v1.ChatResponse:
    return fold([event async for event in server.stub.StreamChat(stream("up/slowly", idempotency_key=key))])


async def test_many_callers_of_two_gateways_make_one_call(there: Replicas) -> None:
    before = there.asked
    calls = [(chat, streamed)[number // 2 % 2](there.gateways[number % 2], "many") for number in range(CALLERS)]
    answers = await asyncio.gather(*calls)
    assert there.asked == before + 1
    assert {text(answer) for answer in answers} == {"one two"}
    paid = [answer for answer in answers if answer.usage.source != v1.Usage.SOURCE_CACHE]
    assert len(paid) == 1
    assert sum(answer.warnings[0].code == "IDEMPOTENT_REPLAY" for answer in answers if answer.warnings) == CALLERS - 1


async def test_another_request_with_the_key_is_refused_elsewhere(there: Replicas) -> None:
    first = asyncio.create_task(chat(there.one, "other body"))
    await asyncio.sleep(0.2)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await chat(there.other, "other body", says="something else")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(refused.value) == "IDEMPOTENCY_KEY_REUSED"
        await first


async def test_who_waits_elsewhere_waits_no_longer_than_it_wants(there: Replicas) -> None:
    first = asyncio.create_task(chat(there.one, "deadline"))
    await asyncio.sleep(0.1)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await chat(there.other, "deadline", timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert text(await first) == "one two"


async def failing(server: Gateway, model: str, count: int) -> list[str]:
    """The reasons of so many calls that fail."""
    reasons = []
    for _ in range(count):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await server.stub.Chat(ask(f"up/{model}"))
        reasons.append(reason(failed.value))
    return reasons


async def test_a_circuit_that_opens_here_opens_sooner_elsewhere(there: Replicas) -> None:
    ill, left_alone = "PROVIDER_UNAVAILABLE", "PROVIDER_CIRCUIT_OPEN"
    for model in ("moody", "moody2"):
        assert await failing(there.one, model, 6) == [ill] * 5 + [left_alone]
        for _ in range(500):
            if any(line.get("target") == f"up/{model}" for line in there.other.log):
                break
            await asyncio.sleep(0.01)
    before = there.asked
    assert await failing(there.other, "moody", 2) == [ill, left_alone]
    assert there.asked == before + 1
    WELL.set()
    answers = await asyncio.gather(*(there.other.stub.Chat(ask("up/moody2")) for _ in range(20)))
    assert {text(answer) for answer in answers} == {"well"}, "hearsay shuts nobody out"
    WELL.clear()
    assert await failing(there.other, "moody2", 4) == [ill] * 4, "and is forgotten when all is well"


async def test_the_gateway_that_makes_the_call_is_killed(there: Replicas) -> None:
    owner = await there.more()
    before = there.asked
    first = asyncio.create_task(chat(owner, "killed", "once"))
    assert await there.upstream.until(lambda: there.asked == before + 1, 5)
    waiting = asyncio.create_task(chat(there.one, "killed", "once"))
    await asyncio.sleep(0.3)
    assert there.asked == before + 1
    owner.kill()
    killed = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError):
        await first
    assert text(await waiting) == "one two"
    assert time.monotonic() - killed < 9
    assert there.asked == before + 2
    again = await chat(there.other, "killed", "once")
    assert again.warnings[0].code == "IDEMPOTENT_REPLAY"


async def test_without_the_server_no_call_with_a_key_is_made(there: Replicas) -> None:
    answer = await chat(there.one, "before")
    before = there.asked
    await asyncio.to_thread(there.server.kill)
    try:
        for server in there.gateways[:2]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await chat(server, "meanwhile")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason(refused.value) == "STATE_UNAVAILABLE"
            trailers = dict(refused.value.trailing_metadata() or ())
            assert trailers["grpc-retry-pushback-ms"] == "1000"
        assert there.asked == before, "nothing was sent to the provider"
        assert text(await there.one.stub.Chat(ask("up/slowly"))) == "one two", "calls without a key go on"
        again = await chat(there.one, "before")
        assert again.warnings[0].code == "IDEMPOTENT_REPLAY", "what is known here is known"
        assert text(again) == text(answer)
    finally:
        await asyncio.to_thread(there.server.start)
    async with asyncio.timeout(5):
        while True:
            try:
                await chat(there.other, "meanwhile")
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


async def test_a_restart_over_a_file_forgets_nothing(tmp_path: Path) -> None:
    """Keys and resumable streams, for one gateway after another; both sealed."""
    async with scripted(by_model({"slowly": slowly})) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        key = "00" * 31 + "01"
        settings = config(
            providers=providers, storage={"path": str(tmp_path / "state.db")}, cache={"keys": ["env:SEAL"]}
        )
        async with gateway(settings, tmp_path, {"SEAL": key}) as first:
            answer = await chat(first, "k")
            request = stream("up/slowly", options=v1.StreamOptions(resumable=True))
            events = [event async for event in first.stub.StreamChat(request)]
            running = first.stub.StreamChat(stream("up/slowly", options=v1.StreamOptions(resumable=True)))
            cut_off = (await running.read()).started.response_id
            await asyncio.sleep(0.3)  # copies are a moment behind
            first.kill()
        response_id = events[0].started.response_id
        files = await asyncio.to_thread(lambda: list(tmp_path.glob("state.db*")))
        data = b"".join([await asyncio.to_thread(path.read_bytes) for path in files])
        assert response_id.encode() in data
        assert b"one two" not in data
        async with gateway(settings, tmp_path, {"SEAL": key}) as second:
            again = await chat(second, "k")
            assert (text(again), again.warnings[0].code) == (text(answer), "IDEMPOTENT_REPLAY")
            resumed = second.stub.StreamChat(v1.StreamChatRequest(resume=v1.ResumeFrom(response_id=response_id)))
            assert [event async for event in resumed] == events
            for _ in range(20):  # the one before counts as being there for another moment
                kept = await second.stub.GetChat(v1.GetChatRequest(response_id=cut_off))
                if kept.state != v1.GetChatResponse.STATE_RUNNING:
                    break
                await asyncio.sleep(0.5)
            assert kept.state == v1.GetChatResponse.STATE_FAILED
            assert kept.response.message.parts[0].text == "one "
        assert sum(request.method == "POST" for request in upstream.requests) == 3
