"""Limits of callers as they meet them: statuses, metadata, places that come free, other amounts after a reload."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo

import parley
from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.statuses import detail, reason

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("few", "tokens", "places", "free", "models", "told", "reloaded", "busy")
KEYS = {name: f"key-of-{name}-0123456789" for name in NAMES}
LIMITS: dict[str, list[dict[str, Any]]] = {
    "few": [{"requests": 3, "per": "1h"}],
    "tokens": [{"tokens": 2000, "per": "1h", "window": "bucket"}],
    "places": [{"concurrency": 2}],
    "free": [],
    "models": [{"requests": 1, "per": "1h", "models": ["mock/other"]}],
    "told": [{"requests": 50, "per": "1m"}, {"tokens": 100000, "per": "1m"}, {"concurrency": 10}],
    "busy": [{"requests": 1000, "per": "1m"}, {"concurrency": 20}],
    "reloaded": [{"requests": 1, "per": "1h"}],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    callers = {name: {"key": f"env:{name.upper()}", "limits": LIMITS[name]} for name in NAMES}
    slow = {"reply": "a b c d e f g h", "token_delay": 10}
    settings = config(
        callers=callers,
        providers={"mock": {"models": {"slow": slow, "other": {"reply": "hi"}}}},
        reload={"interval": 0.1},
    )
    environ = {name.upper(): key for name, key in KEYS.items()}
    async with gateway(settings, tmp_path_factory.mktemp("gateway"), environ) as server:
        yield server


def shows(caller: str) -> tuple[tuple[str, str], ...]:
    return (("x-api-key", KEYS[caller]),)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "RATE_LIMITED"
    assert dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "-1"
    return error


async def said_to(running: Gateway, caller: str) -> str:
    """What one call came to: "", or the reason of its refusal."""
    try:
        await running.stub.Chat(ask("mock/echo"), metadata=shows(caller))
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


async def test_a_refusal_says_what_limit_and_for_how_long(running: Gateway) -> None:
    for _ in range(3):
        await running.stub.Chat(ask("mock/echo"), metadata=shows("few"))
    error = await refused(running.stub.Chat(ask("mock/echo"), metadata=shows("few")))
    assert 3500 < detail(error, RetryInfo).retry_delay.seconds <= 3615
    [quota] = detail(error, QuotaFailure).violations
    assert (quota.subject, quota.quota_metric, quota.quota_value) == ("caller:few", "requests", 3)
    assert dict(quota.quota_dimensions) == {"caller": "few", "periodSeconds": "3600"}
    assert detail(error, ErrorInfo).metadata["limitedBy"] == "caller"
    assert "may use 3 requests in 3600 s" in (error.details() or "")
    await running.stub.Chat(ask("mock/echo"), metadata=shows("free"))
    await running.stub.ListModels(v1.ListModelsRequest(), metadata=shows("few"))


async def test_the_sdk_has_a_class_for_it(running: Gateway) -> None:
    async with parley.AsyncClient(running.address, token=KEYS["tokens"]) as client:
        await client.chat("mock/echo", "hello", max_output_tokens=100)
        with pytest.raises(parley.CallerRateLimited) as caught:
            for _ in range(20):
                await client.chat("mock/echo", "hello", max_output_tokens=1999)
        assert caught.value.retryable
        assert caught.value.retry_after is not None
        assert caught.value.details.facts["metric"] == "tokens"
        assert isinstance(caught.value, parley.RateLimited)


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_what_is_left_is_told_ahead_of_the_answer(running: Gateway, streams: bool) -> None:
    async def told(caller: str) -> dict[str, str]:
        if streams:
            call = running.stub.StreamChat(stream("mock/echo"), metadata=shows(caller))
            events = [event async for event in call]
            assert events[-1].HasField("completed")
        else:
            call = running.stub.Chat(ask("mock/echo"), metadata=shows(caller))
            await call
        initial = dict(await call.initial_metadata())
        return {key: str(value) for key, value in initial.items() if key.startswith("x-ratelimit")}

    before, after = await told("told"), await told("told")
    assert before.keys() == {
        f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
    }
    assert before["x-ratelimit-limit-requests"] == "50"
    left = [int(one["x-ratelimit-remaining-requests"]) for one in (before, after)]
    assert left[1] == left[0] - 1
    assert 0 < float(after["x-ratelimit-reset-requests"].removesuffix("s")) <= 60.3
    assert await told("free") == {}


async def test_places_come_free_when_streams_end_however_they_do(running: Gateway) -> None:
    calls = []
    for _ in range(2):
        call = running.stub.StreamChat(stream("mock/slow"), metadata=shows("places"))
        assert (await call.read()).HasField("started")
        calls.append(call)
    error = await refused(running.stub.Chat(ask("mock/echo"), metadata=shows("places")))
    assert detail(error, QuotaFailure).violations[0].quota_metric == "concurrency"
    assert detail(error, RetryInfo).retry_delay.seconds == 1
    calls[0].cancel()
    said = [await said_to(running, "places")]
    while said[-1] and len(said) < 100:
        await asyncio.sleep(0.02)
        said.append(await said_to(running, "places"))
    assert not said[-1], "the place of a cancelled stream did not come free"
    calls[1].cancel()


async def test_who_goes_away_while_he_is_told_is_no_bug(running: Gateway) -> None:
    dice = random.Random(3)
    for number in range(300):
        request = ask("mock/echo", "x" * 100)
        call = running.stub.Chat(request, metadata=shows("busy"))
        if number % 2:
            call = running.stub.StreamChat(stream("mock/echo"), metadata=shows("busy"))
        await asyncio.sleep(dice.uniform(0, 0.004))
        call.cancel()
    call = running.stub.Chat(ask("mock/echo"), metadata=shows("busy"))
    await call
    for _ in range(100):
        if await said_to(running, "busy") == "":
            break
        await asyncio.sleep(0.02)
    left = [await said_to(running, "busy") for _ in range(3)]
    assert left == ["", "", ""], "their places are free again"
    assert [line for line in running.log if line["event"] == "bug" or line.get("level") == "error"] == []


async def test_limits_of_a_model_are_for_that_model(running: Gateway) -> None:
    await running.stub.Chat(ask("mock/other"), metadata=shows("models"))
    error = await refused(running.stub.StreamChat(stream("mock/other"), metadata=shows("models")).read())
    assert detail(error, QuotaFailure).violations[0].quota_dimensions["models"] == "mock/other"
    for _ in range(3):
        await running.stub.Chat(ask("mock/echo"), metadata=shows("models"))


async def test_what_is_malformed_costs_nothing(running: Gateway) -> None:
    for _ in range(30):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.Chat(v1.ChatRequest(model="mock/echo"), metadata=shows("told"))
        assert reason(caught.value) == "INVALID_REQUEST"
    call = running.stub.Chat(ask("mock/echo"), metadata=shows("told"))
    await call
    assert int(str(dict(await call.initial_metadata())["x-ratelimit-remaining-requests"])) > 40


async def test_a_reload_that_allows_more_counts_what_was_used(running: Gateway) -> None:
    await running.stub.Chat(ask("mock/echo"), metadata=shows("reloaded"))
    await refused(running.stub.Chat(ask("mock/echo"), metadata=shows("reloaded")))
    path = running.folder / "parley.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["callers"]["reloaded"]["limits"][0]["requests"] = 3
    path.write_text(yaml.safe_dump(settings))
    said: list[str] = []
    while "" not in said and len(said) < 400:
        said.append(await said_to(running, "reloaded"))
        await asyncio.sleep(0.02)
    said += [await said_to(running, "reloaded") for _ in range(5)]
    assert said.count("") == 2
    assert set(said) == {"", "RATE_LIMITED"}
