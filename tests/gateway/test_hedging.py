"""Two providers raced to the first content, through the real gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway
from tests.gateway.wire import by_model, openai_says
from tests.upstream import Exchange, Upstream, scripted

DELAY = 0.3
WITHIN = 0.1


async def silent(exchange: Exchange) -> None:
    await exchange.stall()


@asynccontextmanager
async def two(tmp_path: Path, **hedging: Any) -> AsyncIterator[tuple[Gateway, Upstream, Upstream]]:
    """A gateway before one provider that says nothing and one that answers at once."""
    async with (
        scripted(by_model({"s": silent})) as slow,
        scripted(by_model({"q": openai_says("here you are")})) as quick,
    ):
        providers = {
            "slow": {"kind": "openai-compatible", "base_url": f"{slow.base_url}/v1"},
            "quick": {"kind": "openai-compatible", "base_url": f"{quick.base_url}/v1"},
        }
        settings = config(providers=providers, hedging={"delay": DELAY, "whole_delay": DELAY, **hedging})
        async with gateway(settings, tmp_path) as server:
            yield server, slow, quick


def request() -> v1.ChatRequest:
    asked = ask("slow/s", "a question of some length")
    asked.routing.fallbacks.add(model="quick/q")
    return asked


async def answer(server: Gateway, streaming: bool) -> tuple[str, v1.RouteInfo]:
    """Text and route."""
    if not streaming:
        response = await server.stub.Chat(request())
        return response.message.parts[0].text, response.route
    text, route = "", v1.RouteInfo()
    async for event in server.stub.StreamChat(v1.StreamChatRequest(request=request())):
        text += event.part_delta.text
        route = event.completed.route
    return text, route


def reason(attempt: v1.Attempt) -> str:
    info = ErrorInfo()
    for detail in attempt.status.details:
        detail.Unpack(info)
    return info.reason


@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_the_second_target_answers_and_the_first_is_hung_up_on(streaming: bool, tmp_path: Path) -> None:
    async with two(tmp_path, enabled=True) as (server, slow, quick):
        begun = time.perf_counter()
        text, route = await answer(server, streaming)
        took = time.perf_counter() - begun
        assert text.replace(" ", "") == "hereyouare"
        assert DELAY <= took < DELAY + 2
        assert await slow.closed_within(WITHIN)
        assert [request.json["model"] for request in slow.requests if request.method == "POST"] == ["s"]
        assert [request.json["model"] for request in quick.requests if request.method == "POST"] == ["q"]
        loser, winner = route.attempts
        assert (loser.provider, reason(loser)) == ("slow", "OUTRUN")
        assert (winner.provider, reason(winner)) == ("quick", "")
        assert loser.usage.source == v1.Usage.SOURCE_ESTIMATED
        assert loser.usage.input_tokens > 0
        assert winner.usage.source == v1.Usage.SOURCE_PROVIDER
        assert route.provider == "quick"


async def test_a_route_learns_how_long_is_too_long(tmp_path: Path) -> None:
    """No second target is asked before a minute is over, until the gateway knows what its first one usually takes."""
    answered = 0

    async def tiring(exchange: Exchange) -> None:
        nonlocal answered
        answered += 1
        await (openai_says("as ever") if answered <= 25 else silent)(exchange)

    async with (
        scripted(by_model({"s": tiring})) as slow,
        scripted(by_model({"q": openai_says("here you are")})) as quick,
    ):
        providers = {
            "slow": {"kind": "openai-compatible", "base_url": f"{slow.base_url}/v1"},
            "quick": {"kind": "openai-compatible", "base_url": f"{quick.base_url}/v1"},
        }
        targets = [{"model": "slow/s"}, {"model": "quick/q"}]
        raced = {"percentile": 95, "delay": 60, "whole_delay": 60}
        routes = {"raced": {"targets": targets, "hedging": raced}, "plain": {"targets": targets}}
        async with gateway(config(providers=providers, routes=routes), tmp_path) as server:
            for _ in range(25):
                response = await server.stub.Chat(ask("raced"))
                assert response.route.provider == "slow" or len(response.route.attempts) == 2
            assert answered == 25
            response = await server.stub.Chat(ask("raced"), timeout=20)
            assert response.route.provider == "quick"
            assert [reason(attempt) for attempt in response.route.attempts] == ["OUTRUN", ""]
            assert await slow.closed_within(WITHIN * 5)
            call = server.stub.Chat(ask("plain"), timeout=0.5)
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_nobody_is_asked_twice_unless_it_is_switched_on_and_within_its_budget(tmp_path: Path) -> None:
    for enabled, budget in ((False, 10), (True, 0)):
        folder = tmp_path / f"{enabled}"
        folder.mkdir()
        async with two(folder, enabled=enabled, budget=budget, budget_share=0) as (server, slow, quick):
            call = server.stub.Chat(request(), timeout=DELAY + 0.5)
            await call.code()
            assert sum(request.method == "POST" for request in slow.requests) == 1
            assert not [request for request in quick.requests if request.method == "POST"]
