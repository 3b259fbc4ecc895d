"""Resumable streams through the whole gateway: connections break, answers do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from parley import v1
from parley.fold import fold
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.statuses import detail, reason, status
from tests.gateway.wire import EVENT_STREAM, by_model, openai_chunk, openai_says, openai_stream, sse
from tests.upstream import ConnectionLog, Exchange, Upstream, scripted

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
WORDS = [f"word{n} " for n in range(12)]
RESUMABLE = v1.StreamOptions(resumable=True)
ABANDONED = 200


class Scene:
    """A gateway in front of a scripted provider, whose answers go on when they are told to."""

    def __init__(self, server: Gateway, upstream: Upstream, go: asyncio.Event) -> None:
        self.server = server
        self.upstream = upstream
        self.go = go

    def begin(self, model: str, **kwargs: Any) -> Any:
        return self.server.stub.StreamChat(stream(f"up/{model}", options=RESUMABLE), **kwargs)

    def resume(self, response_id: str, after: int, **kwargs: Any) -> Any:
        where = v1.ResumeFrom(response_id=response_id, after_sequence=after)
        return self.server.stub.StreamChat(v1.StreamChatRequest(resume=where), **kwargs)

    def latest(self) -> ConnectionLog:
        """The connection of the last request; others may be kept for the next one."""
        return self.upstream.connections[self.upstream.requests[-1].connection]

    async def closed(self, connection: ConnectionLog, within: float) -> bool:
        return await self.upstream.until(lambda: connection.closed is not None, within)

    async def get(self, response_id: str) -> v1.GetChatResponse:
        answer: v1.GetChatResponse = await self.server.stub.GetChat(v1.GetChatRequest(response_id=response_id))
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    go = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        for word in WORDS:
            await exchange.chunk(sse(openai_chunk({"content": word})))
            await asyncio.sleep(0.002)
        await exchange.chunk(openai_stream())
        await exchange.end()

    async def half(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(sse(openai_chunk({"content": "one "})))
        await go.wait()
        await exchange.chunk(openai_stream("two"))
        await exchange.end()

    async def stalls(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(sse(openai_chunk({"content": "one "})))
        await exchange.stall()

    async def breaks(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(sse(openai_chunk({"content": "one "})))
        await asyncio.sleep(0.01)
        await exchange.reset()

    plays = {"slowly": slowly, "half": half, "stalls": stalls, "breaks": breaks, "says": openai_says("a b c")}
    async with scripted(by_model(plays)) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        folder = tmp_path_factory.mktemp("gateway")
        settings = config(providers=providers, breaker={"enabled": False})
        async with gateway(settings, folder, module="tests.gateway.inspected") as server:
            yield Scene(server, upstream, go)
            assert not [line for line in server.log if line.get("level") in ("error", "critical")], server.log[-20:]


async def read(call: Any) -> list[v1.StreamChatResponse]:
    return [event async for event in call if event.sequence]


async def first(call: Any) -> str:
    """The response ID, from the first event."""
    event = await anext(aiter(call))
    assert event.started.response_id
    return str(event.started.response_id)


async def cancel(scene: Scene, response_id: str) -> v1.CancelChatResponse:
    asked = v1.CancelChatRequest(response_id=response_id)
    answer: v1.CancelChatResponse = await scene.server.stub.CancelChat(asked)
    return answer


def text(events: list[v1.StreamChatResponse]) -> str:
    return "".join(event.part_delta.text for event in events)


async def test_a_connection_may_break_after_any_event(scene: Scene) -> None:
    whole = await read(scene.begin("slowly"))
    assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
    assert whole[0].started.HasField("resume_expire_time")
    for cut in range(1, len(whole)):
        call = scene.begin("slowly")
        got: list[v1.StreamChatResponse] = []
        async for event in call:
            got.append(event)
            if event.sequence == cut:
                break
        call.cancel()
        got += await read(scene.resume(got[0].started.response_id, got[-1].sequence))
        assert [event.sequence for event in got] == list(range(1, len(got) + 1)), cut
        assert got[-1].HasField("completed")
        assert text(got) == "".join(WORDS), cut
        kept = await scene.get(got[0].started.response_id)
        assert kept.state == v1.GetChatResponse.STATE_SUCCEEDED
        assert kept.response == fold(got)


async def test_two_follow_one_stream(scene: Scene) -> None:
    scene.go.clear()
    one = scene.begin("half")
    response_id = await first(one)
    other = scene.resume(response_id, 0)
    begun = await first(other)
    assert begun == response_id
    running = await scene.get(response_id)
    assert running.state == v1.GetChatResponse.STATE_RUNNING
    assert running.response.message.parts[0].text == "one "
    scene.go.set()
    ones, others = await asyncio.gather(read(one), read(other))
    assert ones == others
    assert text(ones) == "one two"


async def test_what_is_complete_can_be_had_again(scene: Scene) -> None:
    whole = await read(scene.begin("says"))
    response_id = whole[0].started.response_id
    assert await read(scene.resume(response_id, 0)) == whole
    assert await read(scene.resume(response_id, 3)) == whole[3:]
    assert await read(scene.resume(response_id, len(whole))) == []
    with pytest.raises(grpc.aio.AioRpcError) as beyond:
        await read(scene.resume(response_id, len(whole) + 1))
    assert beyond.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert reason(beyond.value) == "SEQUENCE_OUT_OF_RANGE"


async def test_nobody_knows_a_stream_that_was_not_resumable(scene: Scene) -> None:
    events = await read(scene.server.stub.StreamChat(stream("up/says")))
    assert not events[0].started.HasField("resume_expire_time")
    for response_id in (events[0].started.response_id, "resp_nonsense", "ünknown"):
        for asked in (read(scene.resume(response_id, 0)), scene.get(response_id), cancel(scene, response_id)):
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await asked
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            assert reason(unknown.value) == "RESPONSE_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v1.StreamChatRequest(), "request"),
        (v1.StreamChatRequest(resume=v1.ResumeFrom()), "resume.response_id"),
        (v1.StreamChatRequest(resume=v1.ResumeFrom(response_id="x" * 129)), "resume.response_id"),
        (v1.StreamChatRequest(resume=v1.ResumeFrom(response_id="x", after_sequence=-1)), "resume.after_sequence"),
        (
            v1.StreamChatRequest(resume=v1.ResumeFrom(response_id="x"), options=v1.StreamOptions(usage_updates=True)),
            "options.usage_updates",
        ),
    ],
)
async def test_nonsense_is_refused(scene: Scene, request_: v1.StreamChatRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await read(scene.server.stub.StreamChat(request_))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(refused.value, error_details_pb2.BadRequest).field_violations[0].field == field


async def test_cancel_chat_closes_the_providers_connection_at_once(scene: Scene) -> None:
    delays = []
    for _ in range(3):
        call = scene.begin("stalls")
        response_id = await first(call)
        call.cancel()
        connection = scene.latest()
        start = time.monotonic()
        await cancel(scene, response_id)
        assert await scene.closed(connection, 5)
        delays.append(time.monotonic() - start)
    assert min(delays) < 0.1, delays


async def test_cancel_chat_stops_the_provider_and_tells_all_who_follow(scene: Scene) -> None:
    call = scene.begin("stalls")
    response_id = await first(call)
    cancelled = await cancel(scene, response_id)
    assert cancelled.usage.source in (v1.Usage.SOURCE_PARTIAL, v1.Usage.SOURCE_ESTIMATED)
    assert cancelled.usage.output_tokens > 0
    for follower, after in ((call, 1), (scene.resume(response_id, 2), 2)):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for event in follower:
                after = event.sequence
        assert ended.value.code() is grpc.StatusCode.CANCELLED
        assert reason(ended.value) == "RESPONSE_CANCELLED"
        failure = detail(ended.value, v1.ResponseFailure)
        assert (failure.response_id, failure.last_sequence, failure.attempts) == (response_id, after, 1)
    kept = await scene.get(response_id)
    assert kept.state == v1.GetChatResponse.STATE_CANCELLED
    assert kept.response.message.parts[0].text == "one "
    assert kept.response.usage == cancelled.usage
    assert await cancel(scene, response_id) == cancelled


async def test_a_failure_is_told_again(scene: Scene) -> None:
    statuses = []
    call = scene.begin("breaks")
    response_id = ""
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            async for event in call:
                response_id = event.started.response_id or response_id
        statuses.append(status(broken.value))
        assert dict(broken.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "-1"
        assert reason(broken.value) == "STREAM_INTERRUPTED"
        call = scene.resume(response_id, 0)
    call.cancel()
    assert statuses[0] == statuses[1] == statuses[2]
    assert (await scene.get(response_id)).state == v1.GetChatResponse.STATE_FAILED


async def test_the_callers_deadline_bounds_the_generation(scene: Scene) -> None:
    call = scene.begin("stalls", timeout=1.0)
    response_id = await first(call)
    call.cancel()
    connection = scene.latest()
    assert not await scene.closed(connection, 0.2), "it goes on without its client"
    assert await scene.closed(connection, 3)
    with pytest.raises(grpc.aio.AioRpcError) as over:
        await read(scene.resume(response_id, 0))
    assert over.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(over.value) == "DEADLINE_EXCEEDED"


async def test_unary_calls_are_not_found_either(scene: Scene) -> None:
    answer = await scene.server.stub.Chat(ask("up/says"))
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await scene.get(answer.id)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_window_closes_and_memory_is_bounded(tmp_path: Path) -> None:
    four_megabytes = 4 * 1024 * 1024
    resume = {"window": 1, "max_bytes": four_megabytes, "total_bytes": four_megabytes}
    async with (
        scripted(by_model({"long": openai_says(" ".join(["x" * 16_000] * 400))})) as upstream,
        gateway(
            config(
                providers={"mock": {}, "up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}},
                resume=resume,
            ),
            tmp_path,
        ) as server,
    ):
        scene = Scene(server, upstream, asyncio.Event())
        whole = await read(scene.begin("long"))
        assert len(text(whole)) == 400 * 16_000
        long_id = whole[0].started.response_id
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await read(scene.resume(long_id, 10))
        short = await read(server.stub.StreamChat(stream("mock/echo", options=RESUMABLE)))
        short_id = short[0].started.response_id
        assert await read(scene.resume(short_id, 1)) == short[1:]
        await asyncio.sleep(1.1)
        for asked in (read(scene.resume(short_id, 1)), scene.get(short_id), scene.get(long_id)):
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await asked
            for error in (late.value, lost.value):
                assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
                assert reason(error) == "RESUME_WINDOW_EXPIRED"
                assert detail(error, error_details_pb2.ResourceInfo).resource_type == "response"


async def test_abandoned_streams_leave_nothing_behind(scene: Scene) -> None:
    """They are generated to their ends, kept, and hold no call, task or connection from then on."""
    await read(scene.begin("says"))
    before = await settled(scene, 0)

    async def abandon(number: int) -> str:
        call = scene.begin(("slowly", "says", "breaks", "stalls")[number % 4], timeout=20)
        response_id = await first(call)
        call.cancel()
        return response_id

    ids: list[str] = []
    for start in range(0, ABANDONED, 20):
        ids += await asyncio.gather(*(abandon(number) for number in range(start, start + 20)))
    running = await settled(scene, ABANDONED // 4)
    assert running["open"] == ABANDONED // 4, "those that stall are waited for"
    await asyncio.gather(*(cancel(scene, one) for one in ids[3::4]))
    after = await settled(scene, 0)
    assert after["open"] == 0
    assert len(after["tasks"]) <= len(before["tasks"]), after
    states = [(await scene.get(one)).state for one in ids[:4]]
    done, failed, cancelled = (
        v1.GetChatResponse.STATE_SUCCEEDED,
        v1.GetChatResponse.STATE_FAILED,
        v1.GetChatResponse.STATE_CANCELLED,
    )
    assert states == [done, done, failed, cancelled]


async def settled(scene: Scene, calls: int) -> dict[str, Any]:
    """What the gateway holds once it has only so many calls under way."""
    for _ in range(200):
        held = await inspect(scene.server)
        if held["calls"] == calls and held["open"] == calls:
            return held
        await asyncio.sleep(0.05)
    raise AssertionError(held)


ENDLESS = {"endless": {"reply": "on and on ", "endless": True, "token_delay": 0.02}}
SLOW = {"slow": {"reply": "one two three four", "token_delay": 0.3}}


async def test_a_draining_gateway_lets_abandoned_answers_finish(tmp_path: Path) -> None:
    settings = config(providers={"mock": {"models": SLOW}}, server={"drain": 10})
    async with gateway(settings, tmp_path) as server:
        call = server.stub.StreamChat(stream("mock/slow", options=RESUMABLE))
        await first(call)
        follower = server.stub.StreamChat(stream("mock/slow", options=RESUMABLE))
        begun = await first(follower)
        call.cancel()
        server.terminate()
        assert [event async for event in follower][-1].HasField("completed")
        assert begun
        assert await server.exit_code() == 0
        assert server.log[-1]["event"] == "stopped"
        assert server.log[-1]["cut_off"] == 0


async def test_what_the_drain_cuts_off_says_how_far_it_came(tmp_path: Path) -> None:
    async with gateway(config(providers={"mock": {"models": ENDLESS}}, server={"drain": 0.4}), tmp_path) as server:
        abandoned = server.stub.StreamChat(stream("mock/endless", options=RESUMABLE))
        await first(abandoned)
        abandoned.cancel()
        call = server.stub.StreamChat(stream("mock/endless", options=RESUMABLE))
        response_id = await first(call)
        server.terminate()
        last = 0
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for event in call:
                last = event.sequence
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(ended.value) == "SHUTTING_DOWN"
        failure = detail(ended.value, v1.ResponseFailure)
        assert (failure.response_id, failure.last_sequence, failure.resumable) == (response_id, last, False)
        assert await server.exit_code() == 0
