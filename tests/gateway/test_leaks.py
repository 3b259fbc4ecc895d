"""Callers who go away and calls that fail leave nothing behind: no connection, no task, no file, no memory.

Streams are abandoned in every phase: at any moment, before the head, before the content, between two events, in full
flow. Calls fail in every way: refused, cut, torn off in the midst, nonsense, rate limited, while the circuit is open,
and in races of two targets, lost, won and abandoned. Their numbers are PARLEY_CANCELLATIONS and PARLEY_FAILURES, 500
each unless set; 5,000 take some ten seconds:

    PARLEY_CANCELLATIONS=5000 PARLEY_FAILURES=5000 pytest tests/gateway/test_leaks.py
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import EVENT_STREAM, by_model, openai_chunk, openai_fails, openai_says, sse
from tests.upstream import Exchange, Script, Upstream, scripted

CANCELLATIONS = int(os.environ.get("PARLEY_CANCELLATIONS", "500"))
FAILURES = int(os.environ.get("PARLEY_FAILURES", "500"))
CANCELLED_UNARY = 300
AT_ONCE = 20
WARM_UP = 200
GROWTH = 8 * 1024  # kB that the process may have grown by once it is warm: what allocators round up to

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60 + (CANCELLATIONS + FAILURES) / 10)]
PHASES = ("hasty", "silent", "headed", "begun", "flowing")


def announced(arrived: dict[str, asyncio.Event], script: Script) -> Script:
    """`script`, once those who wait for the request know that it is there."""

    async def announce(exchange: Exchange) -> None:
        text = exchange.request.json["messages"][0]["content"]
        if text in arrived:
            arrived[text].set()
        await script(exchange)

    return announce


async def silent(exchange: Exchange) -> None:
    await exchange.stall()


async def headed(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.stall()


async def begun(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "well"})))
    await exchange.stall()


async def flowing(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    for _ in range(100_000):
        if exchange.gone:
            return
        await exchange.chunk(sse(openai_chunk({"content": "x" * 500})))
        await asyncio.sleep(0.002)
    raise AssertionError("nobody stopped the flow")


@dataclass(frozen=True)
class Held:
    """What the gateway holds; memory in kB."""

    calls: int
    open: int
    tasks: list[str]
    files: int
    memory: int


def of_process(pid: int) -> tuple[int, int]:
    """Open files, and resident memory in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{pid}/fd")), int(memory.split()[1])


@dataclass
class Scene:
    """A gateway that can be looked into, in front of a provider that counts its connections."""

    server: Gateway
    upstream: Upstream
    arrived: dict[str, asyncio.Event]
    """By prompt: whether the provider has it."""

    async def held(self) -> Held:
        told = await inspect(self.server, collect=True)
        files, memory = of_process(self.server.pid)
        return Held(told["calls"], told["open"], told["tasks"], files, memory)

    async def settled(self, before: Held | None = None, kept: int = 0) -> Held:
        """What it holds once all that was abandoned is gone: no more tasks and files than `before`.

        `kept`: idle connections that may stay, to be used again.
        """
        upstream = self.upstream
        closed = await upstream.until(lambda: upstream.open_connections <= kept, 10)
        assert closed, f"{upstream.open_connections} connections stay open"
        for _ in range(100):
            held = await self.held()
            grown = before is not None and (len(held.tasks) > len(before.tasks) or held.files > before.files + kept)
            if not (held.calls or held.open or grown):
                return held
            await asyncio.sleep(0.05)
        raise AssertionError(f"it still holds {held}; before: {before}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    arrived: dict[str, asyncio.Event] = {}
    stalling = {"hasty": silent, "silent": silent, "headed": headed, "begun": begun, "flowing": flowing}
    plays = {name: announced(arrived, script) for name, script in stalling.items()}
    async with scripted(by_model({**plays, "says": openai_says("still here")})) as upstream:
        providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}}
        folder = tmp_path_factory.mktemp("gateway")
        async with gateway(config(providers=providers), folder, module="tests.gateway.inspected") as server:
            yield Scene(server, upstream, arrived)
            assert not [line for line in server.log if line.get("level") in ("error", "critical")], server.log[-20:]


async def abandon_stream(scene: Scene, phase: str, prompt: str) -> None:
    call = scene.server.stub.StreamChat(stream(f"up/{phase}", prompt))
    waiting = asyncio.ensure_future(anext(aiter(call)))
    if phase in ("begun", "flowing"):
        await waiting
    await reached(scene, phase, prompt)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await call.code() is grpc.StatusCode.CANCELLED


async def abandon_unary(scene: Scene, phase: str, prompt: str) -> None:
    call = scene.server.stub.Chat(ask(f"up/{phase}", prompt))
    await reached(scene, phase, prompt)
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def reached(scene: Scene, phase: str, prompt: str) -> None:
    """The provider has the request; the hasty wait for nothing but a moment."""
    if phase == "hasty":
        await asyncio.sleep(0.02 * random.random())
    else:
        async with asyncio.timeout(10):
            await scene.arrived[prompt].wait()


async def abandon(scene: Scene, count: int, one: Callable[[Scene, str, str], Awaitable[None]], *phases: str) -> None:
    """Abandon `count` calls, a few at a time, the phases in turn."""
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            prompt = f"question {number}"
            scene.arrived[prompt] = asyncio.Event()
            await one(scene, phases[number % len(phases)], prompt)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    scene.arrived.clear()


async def test_abandoned_streams_leave_nothing_behind(scene: Scene) -> None:
    await abandon(scene, WARM_UP, abandon_stream, *PHASES)
    warm = await scene.settled()
    await abandon(scene, CANCELLATIONS, abandon_stream, *PHASES)
    after = await scene.settled(warm)
    print(f"{CANCELLATIONS} streams: {warm.memory} kB, then {after.memory} kB; tasks: {len(after.tasks)}")
    assert after.memory - warm.memory < GROWTH
    assert (await scene.server.stub.Chat(ask("up/says"))).message.parts[0].text == "still here"


async def test_abandoned_unary_calls_leave_nothing_behind(scene: Scene) -> None:
    await abandon(scene, WARM_UP // 2, abandon_unary, "hasty", "silent")
    warm = await scene.settled()
    await abandon(scene, CANCELLED_UNARY, abandon_unary, "hasty", "silent")
    after = await scene.settled(warm)
    print(f"{CANCELLED_UNARY} unary calls: {warm.memory} kB, then {after.memory} kB")
    assert after.memory - warm.memory < GROWTH
    assert (await scene.server.stub.Chat(ask("up/says"))).message.parts[0].text == "still here"


async def test_calls_that_end_well_share_few_connections(scene: Scene) -> None:
    opened = len(scene.upstream.connections)

    async def caller() -> None:
        for _ in range(10):
            await scene.server.stub.Chat(ask("up/says"))
            async for _ in scene.server.stub.StreamChat(stream("up/says")):
                pass

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    assert len(scene.upstream.connections) - opened <= AT_ONCE
    assert scene.upstream.open_connections <= AT_ONCE


# ------------------------------------------------------------------------------------------------------ calls that fail


async def cut(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.hang_up()


async def torn(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "well"})))
    await exchange.reset()


async def nonsense(exchange: Exchange) -> None:
    await exchange.answer(200, b"data: {nonsense\n\n", EVENT_STREAM)


WAYS: dict[str, Script] = {
    "dead": openai_fails(503, "not now"),
    "cut": cut,
    "torn": torn,
    "nonsense": nonsense,
    "limited": openai_fails(429, "too many", {"retry-after": "0.01"}),
    "silent": silent,
    "begun": begun,
}
RACES = ("overtaken", "lost", "left")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ill(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Providers that fail, behind everything that is there against it."""
    async with scripted(by_model({**WAYS, "says": openai_says("still here")})) as upstream:
        settings = config(
            providers={"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1"}},
            retry={"base": 0.001, "budget": 10_000},
            breaker={"failures": 20, "fewest": 1000, "cool": 0.02, "cap": 0.05, "max_wait": 0.01},
            bulkhead={"concurrency": 8},
            hedging={"enabled": True, "delay": 0.02, "whole_delay": 0.02, "budget": 10_000},
        )
        folder = tmp_path_factory.mktemp("ill")
        async with gateway(settings, folder, module="tests.gateway.inspected") as server:
            yield Scene(server, upstream, {})
            assert not [line for line in server.log if line.get("level") in ("error", "critical")], server.log[-20:]


async def fail(scene: Scene, way: str, prompt: str) -> None:
    """A call that fails that way, whole or streamed; or a race that the other target wins, nobody, or nobody awaits."""
    main = {"overtaken": "silent", "lost": "cut", "left": "silent"}.get(way, way)
    request = stream(f"up/{main}", prompt)
    if way in RACES:
        request.request.routing.fallbacks.add(model={"overtaken": "up/says", "lost": "up/dead"}.get(way, "up/begun"))
    if len(prompt) % 2 or way == "torn":
        call = scene.server.stub.StreamChat(request)
        reading: asyncio.Future[object] = asyncio.ensure_future(_read(call))
    else:
        call = scene.server.stub.Chat(request.request)
        reading = asyncio.ensure_future(call)
    if way == "left":
        await asyncio.sleep(0.04 * random.random())
        call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    code = await call.code()
    assert (code is grpc.StatusCode.OK) is (way == "overtaken"), (way, code)


async def _read(call: grpc.aio.UnaryStreamCall[object, object]) -> None:
    async for _ in call:
        pass


async def test_failed_calls_leave_nothing_behind(ill: Scene) -> None:
    ways = (*(way for way in WAYS if way not in ("silent", "begun")), *RACES)
    await abandon(ill, WARM_UP, fail, *ways)
    warm = await ill.settled(kept=AT_ONCE)
    await abandon(ill, FAILURES, fail, *ways)
    after = await ill.settled(warm, kept=AT_ONCE)
    print(f"{FAILURES} failed calls: {warm.memory} kB, then {after.memory} kB; tasks: {len(after.tasks)}")
    assert after.memory - warm.memory < GROWTH
    settled = (await inspect(ill.server))["settled"]
    arrived = sum(1 for request in ill.upstream.requests if request.method == "POST")
    assert sum(settled.values()) >= arrived  # what was abandoned before it got there is settled as well
    assert (await ill.server.stub.Chat(ask("up/says"))).message.parts[0].text == "still here"
