"""Calls through a gateway whose cache is in Redis, while that is in trouble: none fails, and none waits for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway
from tests.stores.proxy import Proxy
from tests.stores.servers import VALKEY, Server
from tests.stores.servers import ask as order

LONGEST = 2.0  # seconds that a call may take before the breaker opens: 0.75, and what a loaded machine adds
ADDED = 0.005
BACK = 2.0
BEAT = 0.5  # the admin port is told of changes twice a second
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

Do = Callable[[], Awaitable[object]]


@dataclass
class Callers:
    """Four callers who ask for something new each time; every other call passes the cache by, to compare with."""

    stub: Any
    mark: str = ""
    enough: bool = False

    async def ask_for(self, seconds: float) -> tuple[list[float], list[float]]:
        """How long the calls of `seconds`, or until `enough`, took with the cache and without.

        One that fails fails the test.
        """
        self.enough = False
        until = time.perf_counter() + seconds
        with_cache: list[float] = []
        without: list[float] = []

        async def one(caller: int) -> None:
            while (begun := time.perf_counter()) < until and not self.enough:
                for taken, mode in (
                    (with_cache, v1.ResponseCacheOptions.MODE_READ_WRITE),
                    (without, v1.ResponseCacheOptions.MODE_BYPASS),
                ):
                    text = f"{self.mark} {caller} {begun} {len(taken)}"
                    request = ask("mock/echo", text, response_cache=v1.ResponseCacheOptions(mode=mode))
                    sent = time.perf_counter()
                    answer = await self.stub.Chat(request, timeout=30)
                    taken.append(time.perf_counter() - sent)
                    assert answer.message.parts[0].text == text
                await asyncio.sleep(0.005)

        await asyncio.gather(*(one(caller) for caller in range(4)))
        return with_cache, without


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


@dataclass
class Scene:
    server: Server
    proxy: Proxy
    gateway: Gateway
    health: Any

    async def status(self, service: str) -> int:
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return int(answer.status)

    async def becomes(self, service: str, status: int, within: float) -> None:
        latest = time.perf_counter() + within
        while await self.status(service) != status:
            assert time.perf_counter() < latest, f"{service} is not {status} after {within} s"
            await asyncio.sleep(0.02)

    def trouble(self, name: str) -> tuple[Do, Do]:
        """How it begins, and how it ends."""
        server, proxy = self.server, self.proxy

        async def delay(seconds: float) -> None:
            proxy.delay = seconds

        async def swallow(really: bool) -> None:
            proxy.swallow = really

        def command(*words: str) -> Do:
            return lambda: asyncio.to_thread(order, server.port, *words)

        match name:
            case "killed":
                return lambda: asyncio.to_thread(server.kill), lambda: asyncio.to_thread(server.start)
            case "stopped":
                return lambda: asyncio.to_thread(server.stop), lambda: asyncio.to_thread(server.start)
            case "hung":
                return (
                    lambda: asyncio.to_thread(server.signal, SIGSTOP),
                    lambda: asyncio.to_thread(server.signal, SIGCONT),
                )
            case "slow":
                return lambda: delay(0.2), lambda: delay(0.0)
            case "cut_off":
                return lambda: swallow(True), lambda: swallow(False)
            case "read_only":
                return command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")
            case _:
                return command("CONFIG", "SET", "maxmemory", "1"), command("CONFIG", "SET", "maxmemory", "0")


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    server = await asyncio.to_thread(Server(VALKEY).start)
    try:
        async with Proxy(server.port) as proxy:
            settings = config(redis={"url": f"redis://127.0.0.1:{proxy.port}"})
            async with (
                gateway(settings, folder) as running,
                grpc.aio.insecure_channel(f"127.0.0.1:{running.admin_port}") as admin,
            ):
                yield Scene(server, proxy, running, health_pb2_grpc.HealthStub(admin))
    finally:
        server.close()


TROUBLES = ("killed", "stopped", "hung", "slow", "cut_off", "read_only", "full")


@pytest.mark.timeout(180)
async def test_a_cache_in_trouble_fails_no_call(tmp_path: Path) -> None:
    async with scene(tmp_path) as there:
        callers = Callers(there.gateway.stub)
        await callers.ask_for(1)
        for name in TROUBLES:
            begin, end = there.trouble(name)
            callers.mark = name
            assert await there.status("stores.cache") == SERVING
            await begin()
            before = asyncio.create_task(callers.ask_for(5))
            await there.becomes("stores.cache", NOT_SERVING, 4)
            assert await there.status("stores") == NOT_SERVING
            assert await there.status("readiness") == SERVING
            assert await there.status("") == SERVING
            callers.enough = True
            longest = max(max(taken) for taken in await before)
            assert longest < LONGEST, name
            with_cache, without = await callers.ask_for(1)
            added = median(with_cache) - median(without)
            assert added < ADDED + median(without) / 2, f"{name}: the latter, since machines are slow together"

            await end()
            await asyncio.to_thread(order, there.server.port, "FLUSHALL")
            back = time.perf_counter()
            while len(await asyncio.to_thread(order, there.server.port, "KEYS", "parley:cache:*")) < 10:
                await callers.ask_for(0.05)
                assert time.perf_counter() - back < BACK + 0.05, f"{name}: answers are not kept again"
            recovered = time.perf_counter() - back
            await there.becomes("stores.cache", SERVING, BACK + BEAT)
            print(f"{name}: {longest * 1e3:.0f} ms at most, then {added * 1e3:+.2f} ms, back after {recovered:.2f} s")
    told = [line for line in there.gateway.log if line.get("purpose") == "cache"]
    assert [line["event"] for line in told] == ["store_down", "store_up"] * len(TROUBLES)
    assert {line["on_failure"] for line in told if line["event"] == "store_down"} == {"open"}
