"""Resumable streams with several gateways over one Redis: clients may come back to any of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.fold import fold
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, stream
from tests.gateway.replicas import Replicas, replicas
from tests.gateway.statuses import detail, reason
from tests.gateway.wire import EVENT_STREAM, openai_chunk, openai_stream, sse
from tests.upstream import Exchange

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
WORDS = [f"word{n} " for n in range(12)]
GO = asyncio.Event()
RESUMABLE = v1.StreamOptions(resumable=True)


async def slowly(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    for word in WORDS:
        await exchange.chunk(sse(openai_chunk({"content": word})))
        await asyncio.sleep(0.005)
    await exchange.chunk(openai_stream())
    await exchange.end()


async def endless(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    for number in range(5000):
        await exchange.chunk(sse(openai_chunk({"content": f"{number} "})))
        await asyncio.sleep(0.02)


async def stalls(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "one "})))
    await exchange.stall()


async def torrent(exchange: Exchange) -> None:
    """Far more than is kept of a stream, once it is told to go on."""
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "first"})))
    await GO.wait()
    for number in range(600):
        await exchange.chunk(sse(openai_chunk({"content": f"{number} ".ljust(40_000, "x")})))
    await exchange.chunk(openai_stream())
    await exchange.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    plays = {"slowly": slowly, "endless": endless, "stalls": stalls, "torrent": torrent}
    folder = tmp_path_factory.mktemp("replicas")
    resume = {"max_bytes": 4 * 1024 * 1024}
    async with replicas(plays, folder, resume=resume, breaker={"enabled": False}) as found:
        yield found
        for server in found.gateways:
            assert not [line for line in server.log if line.get("level") in ("error", "critical")], server.log[-20:]


def begin(server: Gateway, model: str, **kwargs: Any) -> Any:
    return server.stub.StreamChat(stream(f"up/{model}", options=RESUMABLE), **kwargs)


def resume(server: Gateway, response_id: str, after: int = 0, **kwargs: Any) -> Any:
    where = v1.ResumeFrom(response_id=response_id, after_sequence=after)
    return server.stub.StreamChat(v1.StreamChatRequest(resume=where), **kwargs)


async def get(server: Gateway, response_id: str) -> v1.GetChatResponse:
    answer: v1.GetChatResponse = await server.stub.GetChat(v1.GetChatRequest(response_id=response_id))
    return answer


async def read(call: Any) -> list[v1.StreamChatResponse]:
    got: list[v1.StreamChatResponse] = []
    while (event := await call.read()) is not grpc.aio.EOF:
        got += [event] if event.sequence else []
    return got


async def until(call: Any, sequence: int) -> list[v1.StreamChatResponse]:
    """The events up to that sequence; the call goes on."""
    got: list[v1.StreamChatResponse] = []
    while not got or got[-1].sequence < sequence:
        got.append(await call.read())
    return got


async def ended(call: Any, got: list[v1.StreamChatResponse]) -> grpc.aio.AioRpcError:
    """How a call fails; what comes before that is added to `got`."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while (event := await call.read()) is not grpc.aio.EOF:
            got += [event] if event.sequence else []
    return caught.value


def text(events: list[v1.StreamChatResponse]) -> str:
    return "".join(event.part_delta.text for event in events)


def numbered(events: list[v1.StreamChatResponse]) -> bool:
    return [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_a_stream_goes_on_elsewhere_after_any_event(there: Replicas) -> None:
    """While it runs, and again when it is over: no gap, no duplicate, the same end."""
    whole = await read(begin(there.one, "slowly"))
    assert text(whole) == "".join(WORDS)
    for cut in range(1, len(whole)):
        call = begin(there.one, "slowly")
        got = await until(call, cut)
        call.cancel()
        response_id, last = got[0].started.response_id, got[-1].sequence
        got += await read(resume(there.other, response_id, last))
        assert numbered(got), cut
        assert got[-1].HasField("completed")
        assert text(got) == "".join(WORDS), cut
        assert await read(resume(there.other, response_id, last)) == got[last:]
        kept = await get(there.other, response_id)
        assert kept.state == v1.GetChatResponse.STATE_SUCCEEDED
        assert kept.response == fold(got)


async def test_it_may_go_from_one_to_the_other_and_back(there: Replicas) -> None:
    got: list[v1.StreamChatResponse] = []
    call = begin(there.one, "slowly")
    for turn in range(1, 14):
        got += await until(call, len(got) + 1)
        call.cancel()
        server = there.gateways[turn % 2]
        call = resume(server, got[0].started.response_id, len(got))
    got += await read(call)
    assert numbered(got)
    assert text(got) == "".join(WORDS)


async def test_who_follows_elsewhere_is_a_moment_behind(there: Replicas) -> None:
    call = begin(there.one, "endless")
    [started] = await until(call, 1)
    response_id = started.started.response_id
    others = [resume(there.other, response_id) for _ in range(3)]
    behind = []
    for _ in range(40):
        mine = await call.read()
        for other in others:
            await until(other, mine.sequence)
        behind.append(time.monotonic())
    steps = sorted(later - earlier for earlier, later in pairwise(behind))
    assert steps[len(steps) // 2] < 0.2, steps
    running = await get(there.other, response_id)
    assert running.state == v1.GetChatResponse.STATE_RUNNING
    assert text([started]) + running.response.message.parts[0].text
    await there.other.stub.CancelChat(v1.CancelChatRequest(response_id=response_id))
    for one in (call, *others):
        got: list[v1.StreamChatResponse] = []
        error = await ended(one, got)
        assert (error.code(), reason(error)) == (grpc.StatusCode.CANCELLED, "RESPONSE_CANCELLED")


async def test_cancel_chat_elsewhere_closes_the_providers_connection(there: Replicas) -> None:
    call = begin(there.one, "stalls")
    got = await until(call, 3)
    response_id = got[0].started.response_id
    connection = there.upstream.connections[there.upstream.requests[-1].connection]
    begun = time.monotonic()
    asked = v1.CancelChatRequest(response_id=response_id)
    cancelled, again = await asyncio.gather(there.other.stub.CancelChat(asked), there.other.stub.CancelChat(asked))
    assert await there.upstream.until(lambda: connection.closed is not None, 1), "it answers when it has stopped"
    assert time.monotonic() - begun < 2
    assert cancelled == again
    assert cancelled.usage.output_tokens > 0
    assert reason(await ended(call, got)) == "RESPONSE_CANCELLED"
    for server in there.gateways:
        kept = await get(server, response_id)
        assert kept.state == v1.GetChatResponse.STATE_CANCELLED
        assert kept.response.usage == cancelled.usage
        assert await server.stub.CancelChat(asked) == cancelled


async def test_nobody_knows_what_was_never_there(there: Replicas) -> None:
    unknown = "resp_01j00000000000000000000000"
    asked = v1.CancelChatRequest(response_id=unknown)
    for call in (read(resume(there.other, unknown)), get(there.other, unknown), there.other.stub.CancelChat(asked)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.NOT_FOUND, "RESPONSE_NOT_FOUND")


async def test_a_sequence_beyond_the_end_is_refused_elsewhere_too(there: Replicas) -> None:
    whole = await read(begin(there.one, "slowly"))
    call = resume(there.other, whole[0].started.response_id, len(whole) + 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")


async def test_a_reader_elsewhere_who_is_slow_slows_the_provider(there: Replicas) -> None:
    """A single one: 24 MB pass through buffers of 4, and nothing is lost."""
    call = begin(there.one, "torrent")
    got = await until(call, 1)
    other = resume(there.other, got[0].started.response_id, 1)
    got += await until(other, 3)
    call.cancel()
    GO.set()
    for _ in range(60):
        event = await other.read()
        got.append(event)
        await asyncio.sleep(0.01)
    got += await read(other)
    assert numbered(got)
    assert got[-1].HasField("completed")
    assert len(text(got)) == len("first") + 600 * 40_000


async def test_the_owner_is_killed(there: Replicas) -> None:
    owner = await there.more()
    call = begin(owner, "endless")
    got = await until(call, 10)
    response_id = got[0].started.response_id
    follower = resume(there.one, response_id)
    mine = await until(follower, 10)
    owner.kill()
    killed = time.monotonic()
    failed = await ended(follower, mine)
    waited = time.monotonic() - killed
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(failed) == "STREAM_INTERRUPTED"
    failure = detail(failed, v1.ResponseFailure)
    assert (failure.response_id, failure.last_sequence, failure.resumable) == (response_id, mine[-1].sequence, False)
    assert numbered(mine)
    assert waited < 9, waited
    for after in (0, 5, mine[-1].sequence, mine[-1].sequence + 3):  # the last: sent, but not copied before it died
        again: list[v1.StreamChatResponse] = []
        error = await ended(resume(there.other, response_id, after), again)
        assert reason(error) == "STREAM_INTERRUPTED"
        assert [event.sequence for event in again] == list(range(after + 1, mine[-1].sequence + 1))
    kept = await get(there.other, response_id)
    assert kept.state == v1.GetChatResponse.STATE_FAILED
    assert kept.response.message.parts[0].text == text(mine)
    await there.other.stub.CancelChat(v1.CancelChatRequest(response_id=response_id))


async def test_a_drain_hands_the_stream_over(there: Replicas) -> None:
    leaving = await there.more(server={"address": "127.0.0.1:0", "drain": 0.4})
    call = begin(leaving, "endless")
    got = await until(call, 5)
    response_id = got[0].started.response_id
    follower = resume(there.one, response_id)
    mine = await until(follower, 5)
    leaving.terminate()
    error = await ended(call, got)
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    failure = detail(error, v1.ResponseFailure)
    assert (failure.response_id, failure.last_sequence, failure.resumable) == (response_id, got[-1].sequence, True)
    rest = await ended(follower, mine)
    assert reason(rest) == "STREAM_INTERRUPTED"
    assert "shut down" in str(rest.details())
    assert await leaving.exit_code() == 0
    last = detail(rest, v1.ResponseFailure).last_sequence
    assert last == mine[-1].sequence >= got[-1].sequence
    again = await ended(resume(there.other, response_id, len(got)), got)
    assert reason(again) == "STREAM_INTERRUPTED"
    assert got == mine
    kept = await get(there.other, response_id)
    assert kept.state == v1.GetChatResponse.STATE_FAILED
    assert kept.response.message.parts[0].text == text(mine)
    assert kept.response.usage.output_tokens > 0


async def test_abandoned_followers_leave_nothing_behind(there: Replicas) -> None:
    call = begin(there.one, "stalls")
    got = await until(call, 3)
    response_id = got[0].started.response_id

    async def abandoned(before: int | None) -> int:
        others = [resume(there.other, response_id) for _ in range(20)]
        for other in others:
            await until(other, 3)
        for other in others:
            other.cancel()
        async with asyncio.timeout(10):
            while True:
                held = await inspect(there.other)
                if not held["calls"] and (before is None or len(held["tasks"]) <= before + 4):
                    return len(held["tasks"])
                await asyncio.sleep(0.05)

    before = await abandoned(None)  # some connections to the server are open then, at most 4 more will be
    await abandoned(before)
    await there.one.stub.CancelChat(v1.CancelChatRequest(response_id=response_id))
    assert reason(await ended(call, got)) == "RESPONSE_CANCELLED"


async def test_the_server_hangs_in_the_middle(there: Replicas) -> None:
    """Nobody who generates or follows here notices."""
    call = begin(there.one, "endless")
    got = await until(call, 5)
    response_id = got[0].started.response_id
    there.server.signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        got += await until(call, len(got) + 80)
        assert time.monotonic() - begun < 6, "1.6 s of text, and no wait for the store in between"
        assert text(await read(begin(there.one, "slowly"))) == "".join(WORDS)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(there.other, response_id)
        assert reason(caught.value) == "STATE_UNAVAILABLE"
    finally:
        there.server.signal(signal.SIGCONT)
    state = await found_again(there.other, response_id)
    assert state.state == v1.GetChatResponse.STATE_RUNNING
    await there.other.stub.CancelChat(v1.CancelChatRequest(response_id=response_id))
    assert reason(await ended(call, got)) == "RESPONSE_CANCELLED"
    assert numbered(got)


async def found_again(server: Gateway, response_id: str) -> v1.GetChatResponse:
    async with asyncio.timeout(5):
        for _ in range(1000):
            with suppress(grpc.aio.AioRpcError):
                return await get(server, response_id)
            await asyncio.sleep(0.05)
    raise AssertionError


async def test_the_server_is_killed_in_the_middle(there: Replicas) -> None:
    """The stream goes on, here it can be resumed, and when the server is back it can be resumed elsewhere again."""
    call = begin(there.one, "endless")
    got = await until(call, 5)
    response_id = got[0].started.response_id
    follower = resume(there.other, response_id)
    mine = await until(follower, 5)
    await asyncio.to_thread(there.server.kill)
    try:
        error = await ended(follower, mine)
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "STATE_UNAVAILABLE")
        assert detail(error, v1.ResponseFailure).resumable
        got += await until(call, len(got) + 50)
        assert numbered(got)
        here = resume(there.one, response_id, 3)
        assert await until(here, len(got)) == got[3:]
        here.cancel()
        fresh = begin(there.one, "slowly")
        assert text(await read(fresh)) == "".join(WORDS)
        for asked in (get(there.other, response_id), read(resume(there.other, response_id, 5))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asked
            assert reason(caught.value) == "STATE_UNAVAILABLE"
    finally:
        await asyncio.to_thread(there.server.start)
    state = await found_again(there.other, response_id)
    assert state.state == v1.GetChatResponse.STATE_RUNNING
    again = resume(there.other, response_id)
    assert numbered(await until(again, len(got)))
    await there.other.stub.CancelChat(v1.CancelChatRequest(response_id=response_id))
    for one in (call, again):
        assert reason(await ended(one, got)) == "RESPONSE_CANCELLED"
