"""Several gateways keep one limit as one gateway would: measured over real processes and a real server."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from parley import v1
from tests.gateway.process import Gateway, ask
from tests.gateway.replicas import Replicas, replicas
from tests.gateway.statuses import reason
from tests.gateway.wire import openai_answer, openai_says
from tests.upstream import Exchange

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]
GATEWAYS = 4
ATTEMPTS = 5000
LIMIT, PER = 100, 10.0
SLICE = PER / 250
"""How late a window may forget."""
JITTER = 0.15
"""Seconds that an answer of one gateway may take longer to be seen than that of another, on a loaded machine."""
TOKENS, TOKENS_PER, RESERVED, HOG = 20_000, 4.0, 300, 2500
ALLOWED = 120
KEYS = {name: f"key-of-{name}-0123456789" for name in ("requests", "tokens", "free")}

spent: list[tuple[float, int]] = []
"""When the provider answered `bill`, and what for."""
dice = random.Random(5)


async def bill(exchange: Exchange) -> None:
    text = exchange.request.json["messages"][0]["content"]
    used = HOG if "hog" in text else dice.randint(30, RESERVED)
    spent.append((time.monotonic(), used))
    await asyncio.sleep(dice.uniform(0.01, 0.15))
    usage = {"prompt_tokens": 20, "completion_tokens": used - 20, "total_tokens": used}
    await exchange.answer(200, {**openai_answer("hi"), "usage": usage})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    limits = {
        "requests": [{"requests": LIMIT, "per": PER}],
        "tokens": [{"tokens": TOKENS, "per": TOKENS_PER}],
        "free": [],
    }
    callers = {
        name: {"key": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}", "limits": limits[name]}
        for name, key in KEYS.items()
    }
    plays = {"m": openai_says("hi"), "bill": bill, "narrow": openai_says("hi")}
    narrow = {"max_wait": 0, "models": {"narrow": {"requests_per_minute": ALLOWED}}}
    folder = tmp_path_factory.mktemp("gateways")
    async with replicas(plays, folder, GATEWAYS, {"limits": narrow}, callers=callers) as running:
        yield running


async def attempt(
    server: Gateway, caller: str = "", model: str = "m", text: str = "hi", most: int | None = None
) -> str:
    """What one call came to: "", or the reason of its refusal."""
    request = ask(f"up/{model}", text, sampling=v1.SamplingOptions(max_output_tokens=most))
    try:
        await server.stub.Chat(request, metadata=(("x-api-key", KEYS[caller]),) if caller else ())
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


async def test_5000_attempts_at_four_gateways_are_let_in_as_one_limit_says(there: Replicas) -> None:
    admitted: list[float] = []
    reasons: set[str] = set()
    busy = asyncio.Semaphore(24)
    before = there.asked

    async def one(number: int) -> None:
        async with busy:
            said = await attempt(there.gateways[number % GATEWAYS], "requests")
        if said:
            reasons.add(said)
        else:
            admitted.append(time.monotonic())

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(ATTEMPTS):
            group.create_task(one(number))
            await asyncio.sleep(max(0.0, begun + number * 2.4 * PER / ATTEMPTS - time.monotonic()))
    lasted = time.monotonic() - begun
    assert reasons == {"RATE_LIMITED"}
    assert there.asked - before == len(admitted)
    admitted.sort()
    windows = int(lasted // (PER + SLICE))
    assert windows >= 2
    for window in range(windows):
        start = admitted[0] + window * (PER + SLICE) - JITTER
        inside = sum(start <= at < start + PER for at in admitted)
        assert abs(inside - LIMIT) <= 1, (window, inside)
    for start in admitted:
        assert sum(start <= at < start + PER - JITTER for at in admitted) <= LIMIT + 1


async def test_tokens_of_four_gateways_go_over_by_no_more_than_one_call_was_mistaken(there: Replicas) -> None:
    end = time.monotonic() + 2.5 * TOKENS_PER
    reasons: set[str] = set()

    async def caller(number: int) -> None:
        while time.monotonic() < end:
            text = ("x" * 400) if number else "hog"  # 100 tokens, and 200 of output; the hog is mistaken by far
            most = RESERVED - 100 if number else 10
            reasons.add(await attempt(there.gateways[number % GATEWAYS], "tokens", "bill", text, most))
            await asyncio.sleep(0.02 if number else TOKENS_PER / 3)

    await asyncio.gather(*(caller(number) for number in range(16)))
    assert reasons == {"", "RATE_LIMITED"}
    most = max(sum(used for other, used in spent if at <= other < at + TOKENS_PER - JITTER) for at, _ in spent)
    assert 0.8 * TOKENS <= most <= TOKENS + HOG, "all of it is used, and no more than one mistake on top"


async def test_four_gateways_ask_a_provider_no_more_than_it_allows_one(there: Replicas) -> None:
    busy = asyncio.Semaphore(24)
    before = there.asked

    async def one(number: int) -> str:
        async with busy:
            return await attempt(there.gateways[number % GATEWAYS], "free", "narrow")

    said = await asyncio.gather(*(one(number) for number in range(400)))
    assert there.asked - before == said.count("") == ALLOWED
    assert set(said) == {"", "PROVIDER_RATE_LIMITED"}


async def test_without_the_server_each_goes_on_with_its_share_or_nobody_does(tmp_path: Path) -> None:
    limits = {"each_caller": [{"requests": 40, "per": 60}]}
    redis = {"replicas": 2, "timeout": 0.2, "connect_timeout": 0.2}
    async with replicas({"m": openai_says("hi")}, tmp_path, 2, limits=limits, redis=redis) as there:
        strict = await there.more(redis={**there.settings["redis"], "on_failure": {"limits": "closed"}})
        assert not await attempt(there.one)
        there.server.signal(signal.SIGSTOP)
        for server in (there.one, there.other):
            said = [await attempt(server) for _ in range(50)]
            assert said.count("") == 20
            assert set(said) == {"", "RATE_LIMITED"}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await strict.stub.Chat(ask("up/m"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(caught.value) == "STATE_UNAVAILABLE"
        down = [line for line in there.one.log if line["event"] == "store_down" and line["purpose"] == "limits"]
        assert [line["on_failure"] for line in down] == ["local"]
        there.server.signal(signal.SIGCONT)
        tries = [await attempt(strict)]
        while tries[-1] and len(tries) < 200:
            await asyncio.sleep(0.05)
            tries.append(await attempt(strict))
        assert not tries[-1], "the server is back, and limits are not"
