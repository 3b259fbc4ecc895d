"""Idempotency keys and joined calls over real sockets: what callers get, and how often the provider is asked."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from parley import v1
from parley.fold import fold
from parley.status import from_rpc
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import by_model, openai_answer, openai_chunk, openai_fails, openai_says, openai_stream, sse
from tests.upstream import Exchange, Script, Upstream, in_turn, scripted

KEY = (("idempotency-key", "k-1"),)


async def slowly(exchange: Exchange) -> None:
    """Says two words, half a second apart."""
    await exchange.head(200, {"content-type": "text/event-stream"})
    await exchange.chunk(sse(openai_chunk({"role": "assistant"}), openai_chunk({"content": "one "})))
    await asyncio.sleep(0.5)
    await exchange.chunk(openai_stream("two"))
    await exchange.end()


async def endless(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "text/event-stream"})
    await exchange.chunk(sse(openai_chunk({"role": "assistant"}), openai_chunk({"content": "one "})))
    await exchange.stall()


class Scene:
    def __init__(self, server: Gateway, upstream: Upstream) -> None:
        self.server = server
        self.upstream = upstream
        self.stub = server.stub

    @property
    def asked(self) -> int:
        return sum(1 for request in self.upstream.requests if request.method == "POST")

    async def settled(self) -> bool:
        return await self.upstream.closed_within(0.5)


@asynccontextmanager
async def scene(
    tmp_path: Path, play: Script, *, module: str = "parley_server", **sections: Any
) -> AsyncIterator[Scene]:
    async with scripted(by_model({"m": play})) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        async with gateway(config(providers=providers, **sections), tmp_path, module=module) as server:
            yield Scene(server, upstream)


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def codes(answer: Any) -> list[str]:
    return [warning.code for warning in answer.warnings]


async def events(call: Any) -> list[v1.StreamChatResponse]:
    return [event async for event in call]


async def test_a_key_makes_a_retry_safe(tmp_path: Path) -> None:
    async with scene(tmp_path, openai_says("hello there")) as there:
        first = await there.stub.Chat(ask("up/m", idempotency_key="k-1"))
        again = await there.stub.Chat(ask("up/m"), metadata=KEY)
        streamed = await events(there.stub.StreamChat(stream("up/m", idempotency_key="k-1"), metadata=KEY))
        assert there.asked == 1
        assert text(first) == text(again) == text(fold(streamed)) == "hello there"
        assert len({first.id, again.id, streamed[0].started.response_id}) == 3
        assert [codes(answer) for answer in (first, again, streamed[-1].completed)] == [
            [],
            ["IDEMPOTENT_REPLAY"],
            ["IDEMPOTENT_REPLAY"],
        ]
        assert first.id in again.warnings[0].message
        assert first.usage.source == v1.Usage.SOURCE_PROVIDER
        assert again.usage.source == v1.Usage.SOURCE_CACHE
        assert [event.sequence for event in streamed] == list(range(1, len(streamed) + 1))


async def test_a_key_for_another_request_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path, openai_says("hello")) as there:
        await there.stub.Chat(ask("up/m"), metadata=KEY)
        calls = [
            there.stub.Chat(ask("up/m", "other"), metadata=KEY),
            events(there.stub.StreamChat(stream("up/m", "other"), metadata=KEY)),
        ]
        for call, path in zip(calls, ("idempotency_key", "request.idempotency_key"), strict=True):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = from_rpc(caught.value, "")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error.reason == "IDEMPOTENCY_KEY_REUSED"
            assert [violation.field for violation in error.violations] == [path]
        assert there.asked == 1


@pytest.mark.parametrize(
    ("field", "metadata"),
    [("a", "b"), ("x" * 256, ""), ("tab\t", ""), ("", "x" * 256)],
    ids=["differ", "long", "odd", "long_there"],
)
async def test_keys_that_are_none(field: str, metadata: str, tmp_path: Path) -> None:
    async with scene(tmp_path, openai_says("hello")) as there:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await there.stub.Chat(
                ask("up/m", idempotency_key=field), metadata=(("idempotency-key", metadata),) if metadata else None
            )
        error = from_rpc(caught.value, "")
        assert error.reason == "INVALID_REQUEST"
        assert [violation.field for violation in error.violations] == ["idempotency_key"]
        assert there.asked == 0


async def test_a_hundred_callers_with_one_key_make_one_call(tmp_path: Path) -> None:
    async with scene(tmp_path, slowly) as there:
        calls = [events(there.stub.StreamChat(stream("up/m"), metadata=KEY)) for _ in range(100)]
        answers = await asyncio.gather(*calls)
        assert {text(fold(answer)) for answer in answers} == {"one two"}
        assert there.asked == 1
        assert sum(codes(answer[-1].completed) == [] for answer in answers) == 1
        assert await there.settled() or there.upstream.open_connections == 1  # it may be kept for the next call


async def test_those_who_go_do_not_disturb_those_who_stay(tmp_path: Path) -> None:
    async with scene(tmp_path, slowly) as there:
        first = there.stub.StreamChat(stream("up/m"), metadata=KEY)
        await anext(aiter(first))
        second = there.stub.StreamChat(stream("up/m"), metadata=KEY)
        begun = aiter(second)
        await anext(begun)
        first.cancel()
        rest = [event async for event in begun]
        assert rest[-1].HasField("completed")
        assert there.asked == 1


async def test_the_last_one_who_goes_closes_the_upstream(tmp_path: Path) -> None:
    async with scene(tmp_path, in_turn(endless, openai_says("anew"))) as there:
        calls = [there.stub.StreamChat(stream("up/m"), metadata=KEY) for _ in range(3)]
        for call in calls:
            await anext(aiter(call))
        for call in calls[:2]:
            call.cancel()
        await asyncio.sleep(0.2)
        assert there.upstream.open_connections == 1
        calls[2].cancel()
        assert await there.settled()
        assert text(await there.stub.Chat(ask("up/m"), metadata=KEY)) == "anew"
        assert there.asked == 2


async def test_a_failed_call_may_be_tried_again(tmp_path: Path) -> None:
    play = in_turn(openai_fails(400, "no"), openai_says("yes"))
    async with scene(tmp_path, play) as there:
        with pytest.raises(grpc.aio.AioRpcError):
            await there.stub.Chat(ask("up/m"), metadata=KEY)
        assert text(await there.stub.Chat(ask("up/m"), metadata=KEY)) == "yes"


async def test_equal_requests_are_joined_where_that_is_wanted(tmp_path: Path) -> None:
    async with scene(tmp_path, slowly, join={"enabled": True}) as there:
        sure = v1.SamplingOptions(temperature=0)
        answers = await asyncio.gather(
            *(
                events(there.stub.StreamChat(stream("up/m", sampling=sure, metadata={"caller": str(n)})))
                for n in range(5)
            )
        )
        assert {text(fold(answer)) for answer in answers} == {"one two"}
        assert there.asked == 1
        await asyncio.gather(*(events(there.stub.StreamChat(stream("up/m"))) for _ in range(2)))
        assert there.asked == 3


async def test_a_drained_gateway_leaves_no_shared_call_behind(tmp_path: Path) -> None:
    async with scene(tmp_path, endless, server={"address": "127.0.0.1:0", "drain": 0.2}) as there:
        calls = [there.stub.StreamChat(stream("up/m"), metadata=KEY) for _ in range(2)]
        readers = [aiter(call) for call in calls]
        for reader in readers:
            await anext(reader)
        there.server.terminate()
        for reader in readers:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in reader:
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await there.server.exit_code() == 0
        assert await there.settled()
        assert not [line for line in there.server.log if line.get("level") == "error"], there.server.log


async def test_a_reload_forgets_no_key_and_cuts_no_call(tmp_path: Path) -> None:
    async with scene(tmp_path, in_turn(openai_says("first"), slowly)) as there:
        await there.stub.Chat(ask("up/m", idempotency_key="done"))
        running = there.stub.StreamChat(stream("up/m", idempotency_key="runs"))
        begun = aiter(running)
        await anext(begun)
        path = there.server.folder / "parley.yaml"
        settings = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**settings, "idempotency": {"window": 500}}))
        there.server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while not any(line.get("event") == "config_reloaded" for line in there.server.log):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        attached = there.stub.Chat(ask("up/m", idempotency_key="runs"))
        replayed = await there.stub.Chat(ask("up/m", idempotency_key="done"))
        assert (text(replayed), text(await attached)) == ("first", "one two")
        rest = [event async for event in begun]
        assert rest[-1].HasField("completed")
        assert there.asked == 2


async def test_a_crowd_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    under_way: dict[str, int] = {}
    most = 0

    async def play(exchange: Exchange) -> None:
        nonlocal most
        asked = exchange.request.json["messages"][0]["content"]
        under_way[asked] = under_way.get(asked, 0) + 1
        most = max(most, under_way[asked])
        try:
            if not exchange.request.json.get("stream"):
                await exchange.stall(0.15)
                await exchange.answer(200, openai_answer("one two three end"))
                return
            await exchange.head(200, {"content-type": "text/event-stream"})
            for word in ("one ", "two ", "three "):
                if exchange.gone:
                    return
                await exchange.chunk(sse(openai_chunk({"content": word})))
                await exchange.stall(0.05)
            await exchange.chunk(openai_stream("end"))
            await exchange.end()
        finally:
            under_way[asked] -= 1

    chance = random.Random(7)
    async with scene(tmp_path, play, module="tests.gateway.inspected", idempotency={"window": 0.2}) as there:

        async def come(key: str, wait: float, patience: float, streaming: bool) -> str:
            await asyncio.sleep(wait)
            request = ask("up/m", key, idempotency_key=key)
            if streaming:
                call = there.stub.StreamChat(v1.StreamChatRequest(request=request))
                answer = asyncio.ensure_future(events(call))
            else:
                call = there.stub.Chat(request)
                answer = asyncio.ensure_future(call)
            done, _ = await asyncio.wait((answer,), timeout=patience)
            if not done:
                call.cancel()
                await asyncio.wait((answer,))
                return ""
            result: Any = answer.result()
            return text(fold(result) if streaming else result)

        crowd = [
            come(
                f"k{chance.randrange(8)}",
                chance.uniform(0, 3),
                chance.choice((0.02, 0.1, 0.2, 9)),
                chance.random() < 0.5,
            )
            for _ in range(300)
        ]
        answers = await asyncio.gather(*crowd)
        assert set(answers) <= {"", "one two three end"}
        assert answers.count("one two three end") > 50
        async with asyncio.timeout(5):
            while (gauges := (await inspect(there.server))["gauges"])["calls"] or gauges["shared_calls"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert gauges["open_upstream_streams"] == 0
        assert most <= 2  # a hang-up takes a moment to arrive at the provider
        assert there.asked < 150
    assert not [line for line in there.server.log if line.get("level") == "error"], there.server.log
