"""Every cell of the table, through real gateways, all at once; then looked at one by one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from tests.chaos.table import POLICIES, Cell, Mode, cells
from tests.contract.cases.openai_chat import Compatible
from tests.contract.said import Call, Said
from tests.faults.plays import beginning, end
from tests.gateway.inspected import inspect
from tests.gateway.process import Gateway, ask, config, gateway
from tests.upstream import Exchange, Script, Upstream, in_turn, scripted

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

CELLS = list(cells())
CASE = Compatible()
CLOCKS = {"first_content": 1.0, "idle": 0.8, "total": 20.0}
WHOLE = 1.0  # seconds for a whole answer, where the fault is that it does not come
DELAY = 0.25  # until the other target is asked as well
SLOW = 0.6
STORM = 1.0  # seconds that the storm asks to wait
_AT_ONCE = 40
_MOST = 30.0
GATEWAYS: dict[str, dict[str, Any]] = {
    "plain": {"breaker": {"enabled": False}},
    "breaker": {"breaker": {"failures": 1, "cool": 60, "max_wait": 0}},
    "hedging": {
        "breaker": {"enabled": False},
        "hedging": {"enabled": True, "delay": DELAY, "whole_delay": DELAY, "budget": 1000},
    },
}


def said(mode: Mode, who: str) -> Said:
    """What a target says: text, or a tool call."""
    if mode == "tools":
        return Said(calls=(Call(f"call_{who}", "look_up", f'{{"asked":"{who} and much more"}}'),))
    return Said(text=f"this is what {who} says")


def plain(answer: Said) -> str:
    """The text, or the arguments."""
    return answer.text + "".join(call.arguments for call in answer.calls)


# ------------------------------------------------------------------------------------------------- what the target does


def well(answer: Said) -> Script:
    """Answers."""
    return lambda exchange: CASE.answer(exchange, answer)


def slow(answer: Said) -> Script:
    """Answers after a while."""

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(SLOW)
        await CASE.answer(exchange, answer)

    return script


def refuses(status: int, **headers: str) -> Script:
    """Refuses."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.answer(status, CASE.refusal(status, "not now"), named)


def broken_answer(answer: Said, fault: str) -> Script:
    """A whole answer that comes to half, or is none."""
    body = CASE.whole(answer)

    async def script(exchange: Exchange) -> None:
        match fault:
            case "malformed":
                await exchange.answer(200, body[: len(body) // 2], {"content-type": "application/json"})
            case "in-band":
                await exchange.answer(200, CASE.broken()[0])
            case _:
                await exchange.head(200, {"content-type": "application/json"}, length=len(body))
                await exchange.raw(body[: len(body) // 2])
                await end(exchange, "hang up" if fault == "cut" else "stall")

    return script


def broken_stream(answer: Said, begun: bool, then: bytes, ends: str) -> Script:
    """A stream that breaks before or behind its first content."""
    start = beginning(CASE, answer)[begun]

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": CASE.content_type})
        await exchange.chunk(start)
        await asyncio.sleep(0.05)  # so that it is a read of its own
        await exchange.chunk(then)
        await end(exchange, ends)

    return script


def plays(cell: Cell) -> Sequence[Script]:
    """What the main target does with one request after another; the last script stays."""
    answer = said(cell.mode, "main")
    match cell.fault:
        case "well":
            return [well(answer)]
        case "slow":
            return [slow(answer)]
        case "storm":
            return [refuses(429, retry_after=str(STORM))]
        case "flapping":
            return [refuses(503), well(answer), refuses(503), well(answer)]
    if cell.mode == "unary":
        return [broken_answer(answer, cell.fault)]
    then, ends = {
        "cut": (b"", "hang up"),
        "stall": (b"", "stall"),
        "malformed": (CASE.garbage(), "end"),
        "in-band": (CASE.write(CASE.broken()[0]), "end"),
    }[cell.fault]
    return [broken_stream(answer, cell.begun, then, ends)]


# ------------------------------------------------------------------------------------------------------- what is asked


@dataclass
class Outcome:
    """What came of a cell."""

    code: grpc.StatusCode
    reason: str = ""
    attempts: int = 0
    text: str = ""
    main: int = 0
    other: int = 0


@dataclass
class Played:
    """All outcomes, and what the gateways held at the end."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    """By model: how many reached the provider."""


def request_of(cell: Cell, name: str) -> v1.ChatRequest:
    """The request under the policy of the cell."""
    request = ask(f"up/{name}-main")
    routing = request.routing
    match cell.policy:
        case "once":
            routing.max_attempts = 1
        case "fallback" | "hedging" | "restart" | "continue":
            routing.max_attempts = 3
            routing.fallbacks.add(model=f"up/{name}-other")
    match cell.policy:
        case "restart":
            routing.mid_stream_fallback = v1.RoutingOptions.MID_STREAM_FALLBACK_RESTART
        case "continue":
            routing.mid_stream_fallback = v1.RoutingOptions.MID_STREAM_FALLBACK_CONTINUE
    if cell.mode == "unary" and cell.fault == "stall":
        routing.attempt_timeout.FromTimedelta(timedelta(seconds=WHOLE))
    return request


async def call(server: Gateway, cell: Cell, name: str) -> Outcome:
    """Ask once."""
    request = request_of(cell, name)
    texts: dict[int, str] = {}
    try:
        if cell.mode == "unary":
            response = await server.stub.Chat(request)
            texts = {index: _text(part) for index, part in enumerate(response.message.parts)}
            attempts = len(response.route.attempts)
        else:
            async for event in server.stub.StreamChat(v1.StreamChatRequest(request=request)):
                attempts = len(event.completed.route.attempts)
                _hear(texts, event)
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        reason = _reason(trailers.get("grpc-status-details-bin", b""))
        return Outcome(error.code(), reason, int(trailers.get("x-parley-attempts", -1)), "".join(texts.values()))
    return Outcome(grpc.StatusCode.OK, "", attempts, "".join(texts.values()))


def _hear(texts: dict[int, str], event: v1.StreamChatResponse) -> None:
    """Keep what a reader has: by part, without what has become void."""
    match event.WhichOneof("event"):
        case "part_started":
            texts[event.part_started.part_index] = _text(event.part_started.part)
        case "part_delta":
            delta = event.part_delta
            texts[delta.part_index] = texts.get(delta.part_index, "") + delta.text + delta.arguments_json
        case "fallback_started":
            for index in [one for one in texts if one < event.fallback_started.first_valid_part_index]:
                del texts[index]


def _reason(status: bytes) -> str:
    info = details.ErrorInfo()
    for detail in Status.FromString(status).details:
        if detail.Unpack(info):
            return info.reason
    return ""


def _text(part: v1.Part) -> str:
    return part.text + part.tool_call.arguments_json


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    found = Played()
    async with AsyncExitStack() as stack:
        scripts: dict[str, Script] = {}
        upstream = await stack.enter_async_context(scripted(_by_model(scripts)))
        providers = {"up": CASE.provider(upstream.base_url)}

        async def start(name: str, settings: dict[str, Any]) -> Gateway:
            whole = config(
                providers=providers,
                timeouts=CLOCKS,
                retry={"base": 0.01, "attempts_per_target": 3, "budget": 1000},
                **settings,
            )
            folder = tmp_path_factory.mktemp(name)
            return await stack.enter_async_context(
                gateway(whole, folder, CASE.environ, module="tests.gateway.inspected")
            )

        servers = {name: await start(name, settings) for name, settings in GATEWAYS.items()}
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int, cell: Cell) -> Outcome:
            name = f"zz-{number}"
            scripts[f"{name}-main"] = in_turn(*plays(cell))
            scripts[f"{name}-other"] = well(said(cell.mode, "other"))
            server = servers.get(cell.policy, servers["plain"])
            async with free, asyncio.timeout(_MOST):
                outcome = await call(server, cell, name)
                if cell.policy == "breaker":
                    outcome = await call(server, cell, name)
            outcome.main, outcome.other = (_asked(upstream, f"{name}-{who}") for who in ("main", "other"))
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = {str(cell): group.create_task(one(number, cell)) for number, cell in enumerate(CELLS)}
        found.outcomes = {cell: task.result() for cell, task in tasks.items()}
        for name, server in servers.items():
            found.held[name] = await _at_rest(server)
            assert not [line for line in server.log if line.get("level") == "error"], server.log[-5:]
        for model in scripts:
            found.requests[model] = _asked(upstream, model)
        yield found


async def _at_rest(server: Gateway) -> dict[str, Any]:
    for _ in range(50):
        held = await inspect(server)
        if not held["calls"] and not held["open"]:
            break
        await asyncio.sleep(0.1)
    return held


def _by_model(scripts: dict[str, Script]) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer(200, {"object": "list", "data": []}, {"connection": "close"})
            await exchange.hang_up()
        else:
            await scripts[exchange.request.json["model"]](exchange)

    return script


def _asked(upstream: Upstream, model: str) -> int:
    wanted = re.compile(rb'"model": ?"' + model.encode() + b'"')
    return sum(1 for request in upstream.requests if wanted.search(request.body))


# ---------------------------------------------------------------------------------------------------- what is looked at


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_cell(played: Played, cell: Cell) -> None:
    outcome = played.outcomes[str(cell)]
    assert (outcome.code, outcome.reason) == (cell.code, cell.reason)
    assert (outcome.attempts, outcome.main, outcome.other) == (cell.attempts, cell.main, cell.other)
    whole, other = plain(said(cell.mode, "main")), plain(said(cell.mode, "other"))
    expected: dict[str, Callable[[str], bool]] = {
        "-": lambda text: not text,
        "main": lambda text: text == whole,
        "other": lambda text: text == other,
        "part": lambda text: whole.startswith(text) and 0 < len(text) < len(whole),
        "both": lambda text: text.endswith(other) and whole.startswith(text.removesuffix(other)) and text != other,
    }
    assert expected[cell.text](outcome.text), outcome.text


async def test_every_request_was_settled_exactly_once(played: Played) -> None:
    settled: dict[str, int] = {}
    for held in played.held.values():
        for what, count in held["settled"].items():
            model = what.split(" ")[0]
            settled[model] = settled.get(model, 0) + count
    assert settled == {model: count for model, count in played.requests.items() if count}


async def test_nothing_is_left_open(played: Played) -> None:
    assert {name: (held["calls"], held["open"]) for name, held in played.held.items()} == dict.fromkeys(
        GATEWAYS, (0, 0)
    )


async def test_every_policy_has_its_column() -> None:
    assert {cell.policy for cell in CELLS} == set(POLICIES)
    assert len({str(cell) for cell in CELLS}) == len(CELLS)
