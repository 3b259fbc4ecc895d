"""Several keys, limits and retries of one provider, through a gateway that runs and sockets that are real."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import openai_chunk, openai_fails, openai_says, sse
from tests.upstream import Exchange, Script, Upstream, scripted

KEYS = {"KEY_A": "sk-aaaaaaaaaaaaaaaaaaaaaaaa", "KEY_B": "sk-bbbbbbbbbbbbbbbbbbbbbbbb"}
A, B = (f"Bearer {key}" for key in KEYS.values())
FINE = openai_says("all is well")


def by_key(a: Script, b: Script) -> Script:
    """A provider that treats two keys differently; its listing is empty for either."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer(200, {"data": []}, {"connection": "close"})
            await exchange.hang_up()
        else:
            await {A: a, B: b}[exchange.request.headers["authorization"]](exchange)

    return script


def asked(upstream: Upstream) -> list[str]:
    """With which keys models were asked, in order."""
    names = {A: "a", B: "b"}
    return [names[request.headers["authorization"]] for request in upstream.requests if request.method == "POST"]


async def serving(held: AsyncExitStack, folder: Path, script: Script, **settings: Any) -> tuple[Gateway, Upstream]:
    """A gateway with one provider, which follows the script."""
    upstream = await held.enter_async_context(scripted(script))
    provider = {
        "kind": "openai-compatible",
        "base_url": f"{upstream.base_url}/v1",
        "api_keys": ["env:KEY_A", "env:KEY_B"],
        **settings,
    }
    served = await held.enter_async_context(gateway(config(providers={"acme": provider}), folder, KEYS))
    return served, upstream


async def say(server: Gateway, model: str = "acme/m") -> str:
    answer: v1.ChatResponse = await server.stub.Chat(ask(model), timeout=10)
    return answer.message.parts[0].text


async def test_a_dead_key_is_invisible_to_callers_and_told_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as held:
        dead = openai_fails(401, "Incorrect API key provided", code="invalid_api_key")
        server, upstream = await serving(held, tmp_path, by_key(dead, FINE))
        for _ in range(5):
            assert await say(server) == "all is well"
        events = [event async for event in server.stub.StreamChat(stream("acme/m"), timeout=10)]
        assert events[-1].completed.finish_reason == v1.FINISH_REASON_STOP
        assert len(events[-1].completed.route.attempts) == 1
        assert Counter(asked(upstream)) == {"a": 1, "b": 6}
        alarms = [line for line in server.log if "fingerprint" in str(line)]
        assert len(alarms) == 1
        assert not any(key in str(server.log) for key in KEYS.values())


def openai_fails_inside(*words: str, **error: Any) -> Script:
    """Answers 200, and has an error for an answer; a stream says some words before."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.json.get("stream"):
            chunks = [openai_chunk({"role": "assistant"}), *(openai_chunk({"content": word}) for word in words)]
            await exchange.stream(sse(*chunks), sse({"error": error}), pause=0.1)
        else:
            await exchange.answer(200, {"error": error})

    return script


INSIDE: dict[str, Mapping[str, Any]] = {
    "limited": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"},
    "dead": {"message": "Incorrect API key provided", "code": "invalid_api_key", "type": "invalid_request_error"},
    "poor": {"message": "You exceeded your current quota", "code": "insufficient_quota"},
    "forbidden": {"message": "no access to the model", "code": 403},
}


async def test_errors_within_a_200_say_of_a_key_what_a_status_would(tmp_path: Path) -> None:
    """Before the first content nobody notices; the key is set aside, for the model or for all, and shown no more."""
    async with AsyncExitStack() as held:
        upstreams: dict[str, Upstream] = {}
        providers: dict[str, Any] = {}
        for case, error in INSIDE.items():
            for how in ("whole", "stream"):
                script = by_key(openai_fails_inside(**error), FINE)
                upstream = upstreams[f"{case}-{how}"] = await held.enter_async_context(scripted(script))
                keys = {"api_keys": ["env:KEY_A", "env:KEY_B"]}
                url = f"{upstream.base_url}/v1"
                providers[f"{case}-{how}"] = {"kind": "openai-compatible", "base_url": url, **keys}
        server = await held.enter_async_context(gateway(config(providers=providers), tmp_path, KEYS))
        for name, upstream in upstreams.items():
            for _ in range(4):
                if name.endswith("whole"):
                    answer = await server.stub.Chat(ask(f"{name}/m"), timeout=10)
                    assert answer.message.parts[0].text == "all is well"
                    assert len(answer.route.attempts) == 1
                else:
                    events = [event async for event in server.stub.StreamChat(stream(f"{name}/m"), timeout=10)]
                    assert len(events[-1].completed.route.attempts) == 1
            assert Counter(asked(upstream)) == {"a": 1, "b": 4}, name
            assert await say(server, f"{name}/another") == "all is well"
            expected = {"a": 2, "b": 5} if name.startswith(("limited", "forbidden")) else {"a": 1, "b": 5}
            assert Counter(asked(upstream)) == expected, name
        alarms = [str(line) for line in server.log if "fingerprint" in str(line)]
        assert len(alarms) == 4  # of dead and poor, each whole and as a stream
        assert not any(key in str(server.log) for key in KEYS.values())


async def test_an_error_behind_the_first_content_is_told_and_the_key_is_set_aside(tmp_path: Path) -> None:
    async with AsyncExitStack() as held:
        cut = openai_fails_inside("half", "an", **INSIDE["limited"])
        server, upstream = await serving(held, tmp_path, by_key(cut, FINE))
        said = ""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async for event in server.stub.StreamChat(stream("acme/m"), timeout=10):
                said += event.part_delta.text
        assert (failed.value.code(), said) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "halfan")
        for _ in range(4):
            assert await say(server) == "all is well"
        assert asked(upstream) == ["a", "b", "b", "b", "b"]


async def test_with_the_only_key_limited_within_a_stream_the_call_is_tried_again_in_time(tmp_path: Path) -> None:
    times = 0

    async def once(exchange: Exchange) -> None:
        nonlocal times
        times += 1
        await (openai_fails_inside(**INSIDE["limited"]) if times == 1 else FINE)(exchange)

    async with AsyncExitStack() as held:
        server, upstream = await serving(held, tmp_path, by_key(once, FINE), api_keys=["env:KEY_A"])
        events = [event async for event in server.stub.StreamChat(stream("acme/m"), timeout=10)]
        assert [attempt.status.code for attempt in events[-1].completed.route.attempts] == [8, 0]
        assert asked(upstream) == ["a", "a"]


async def test_a_limited_key_rests_until_its_time(tmp_path: Path) -> None:
    limited = openai_fails(429, "slow down", {"retry-after": "2"}, code="rate_limit_exceeded")
    times: list[float] = []

    async def a(exchange: Exchange) -> None:
        times.append(time.monotonic())
        await (limited if len(times) == 1 else FINE)(exchange)

    async with AsyncExitStack() as held:
        server, upstream = await serving(held, tmp_path, by_key(a, FINE))
        for _ in range(6):
            assert await say(server) == "all is well"
        assert Counter(asked(upstream)) == {"a": 1, "b": 6}
        while len(times) == 1:
            assert await say(server) == "all is well"
            await asyncio.sleep(0.1)
        assert times[1] - times[0] >= 1.99


async def test_with_both_keys_limited_the_caller_waits_for_the_first_one_back(tmp_path: Path) -> None:
    limited = openai_fails(429, "slow down", {"retry-after": "30"}, code="rate_limit_exceeded")
    shortly = openai_fails(429, "slow down", {"retry-after": "1"}, code="rate_limit_exceeded")
    tried: list[float] = []

    async def b(exchange: Exchange) -> None:
        tried.append(time.monotonic())
        await (shortly if len(tried) == 1 else FINE)(exchange)

    async with AsyncExitStack() as held:
        server, upstream = await serving(held, tmp_path, by_key(limited, b))
        answer = await server.stub.Chat(ask("acme/m"), timeout=10)
        assert answer.message.parts[0].text == "all is well"
        assert sorted(asked(upstream)) == ["a", "b", "b"]
        assert tried[1] - tried[0] >= 0.99
        assert len(answer.route.attempts) == 2


async def test_an_account_without_money_is_passed_over(tmp_path: Path) -> None:
    poor = openai_fails(429, "You exceeded your current quota", code="insufficient_quota", type="insufficient_quota")
    async with AsyncExitStack() as held:
        server, upstream = await serving(held, tmp_path, by_key(poor, FINE))
        for _ in range(3):
            assert await say(server) == "all is well"
        assert Counter(asked(upstream)) == {"a": 1, "b": 3}


async def test_with_all_keys_dead_the_provider_is_asked_once_with_each(tmp_path: Path) -> None:
    dead = openai_fails(401, "Incorrect API key provided", code="invalid_api_key")
    async with AsyncExitStack() as held:
        server, upstream = await serving(held, tmp_path, by_key(dead, dead))
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await say(server)
            assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert Counter(asked(upstream)) == {"a": 1, "b": 1}


async def test_a_storm_beyond_the_limit_is_not_passed_on(tmp_path: Path) -> None:
    """Ten times what the two keys allow: not one 429 comes from upstream, and what is allowed is used."""
    counts: Counter[str] = Counter()
    refusals = 0

    async def strict(exchange: Exchange) -> None:
        nonlocal refusals
        key = exchange.request.headers["authorization"]
        counts[key] += 1
        if counts[key] > 20:
            refusals += 1
            await openai_fails(429, "slow down")(exchange)
        else:
            await FINE(exchange)

    async with AsyncExitStack() as held:
        limits = {"requests_per_minute": 20, "max_wait": 0}
        server, _ = await serving(held, tmp_path, by_key(strict, strict), limits=limits)
        outcomes = await asyncio.gather(*(say(server) for _ in range(400)), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(outcomes) - len(failures) == 40
        assert {failure.code() for failure in failures} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert refusals == 0
        assert set(counts.values()) == {20}


async def test_a_fresh_gateway_heeds_what_the_provider_says_is_left(tmp_path: Path) -> None:
    left = 5

    async def told(exchange: Exchange) -> None:
        nonlocal left
        left -= 1
        headers = {"x-ratelimit-remaining-requests": str(max(left, 0)), "x-ratelimit-reset-requests": "55s"}
        if left < 0:
            await openai_fails(429, "slow down", headers)(exchange)
        else:
            body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
            await exchange.answer(200, body, headers)

    async with AsyncExitStack() as held:
        limits = {"requests_per_minute": 100, "max_wait": 0}
        server, _ = await serving(held, tmp_path, by_key(told, told), limits=limits, api_keys=["env:KEY_A"])
        outcomes: list[Any] = []
        for _ in range(8):
            outcomes += await asyncio.gather(say(server), return_exceptions=True)
        assert [isinstance(outcome, str) for outcome in outcomes] == [True] * 5 + [False] * 3
        assert left == 0


@pytest.mark.parametrize(
    ("status", "settings", "made"),
    [
        (425, {}, 3),
        (409, {}, 1),
        (409, {"statuses": [409]}, 3),
        (503, {}, 3),
        (503, {"attempts_per_target": 2}, 2),
        (503, {"classes": ["rate_limited"]}, 1),
        (400, {}, 1),
        (422, {}, 1),
    ],
)
async def test_retries_are_as_a_provider_is_set_up(
    tmp_path: Path, status: int, settings: Mapping[str, Any], made: int
) -> None:
    async with AsyncExitStack() as held:
        fails = openai_fails(status, "no")
        own = {"retry": settings} if settings else {}
        server, upstream = await serving(held, tmp_path, by_key(fails, fails), **own)
        with pytest.raises(grpc.aio.AioRpcError):
            await say(server)
        assert len(asked(upstream)) == made
