"""Every fault with every call of every dialect, through the real gateway: all are played at once, then looked at."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
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
from parley_server.providers.kinds import known
from tests.contract.case import Case, Mode, Step
from tests.contract.cases import cases
from tests.faults.faults import ANY, ATTEMPTS, CLOCKS, FAULTS, GONE, MEANT, MODES, UNREACHABLE, Fault, faced
from tests.faults.plays import SAID
from tests.gateway.process import Gateway, ask, config, gateway
from tests.upstream import Exchange, Request, Script, Upstream, in_turn, refusing, scripted, unreachable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

CASES = [case for case in cases() if case.over_sockets and case.provider("http://127.0.0.1")["kind"] in known()]
_AT_ONCE = 24
_MOST = 40.0  # seconds for one call, whatever its clocks
_HANG_UP = 15.0  # seconds within which a connection must be closed, with all cells played at once


@dataclass
class Outcome:
    """What came of one fault."""

    code: grpc.StatusCode
    seconds: float
    text: str = ""
    trailers: dict[str, Any] = field(default_factory=dict)
    attempts: int | None = None
    """As the answer tells them; None: it failed."""
    asked: int = 0
    """Requests that met the fault, or came after it."""
    left_open: int = 0
    """Connections of this call that were not closed in time."""

    def detail(self, kind: type[Any]) -> Any:
        """The detail of that kind; empty if there is none."""
        found = kind()
        for detail in Status.FromString(self.trailers.get("grpc-status-details-bin", b"")).details:
            if detail.Unpack(found):
                break
        return found


@dataclass(frozen=True)
class Cell:
    """A fault at one of the calls that a turn takes."""

    case: Case
    mode: Mode
    step: Step
    fault: Fault

    def __str__(self) -> str:
        place = f" at {self.step.name} of {self.mode}" if self.step.name else ""
        return f"{self.case}-{self.fault}{place}"


def _cells() -> list[Cell]:
    """All faults that all wires can have. A server that cannot be reached is one for all its calls."""
    return [
        Cell(case, mode, step, faced(fault, step))
        for case in CASES
        for mode in MODES
        for step in case.steps(mode)
        for fault in FAULTS
        if fault.mode == step.mode and not fault.needless & case.lacks and (step.bearing == "vital" or not fault.at)
    ]


CELLS = _cells()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Outcome]]:
    async with AsyncExitStack() as stack:
        plays: list[dict[str, Script]] = [{} for _ in CASES]
        upstreams = [await stack.enter_async_context(scripted(_by_model(scripts))) for scripts in plays]
        elsewhere = {GONE: stack.enter_context(refusing()), UNREACHABLE: stack.enter_context(unreachable())}
        providers: dict[str, Any] = {"mock": {}}
        environ: dict[str, str] = {}
        for number, (case, upstream) in enumerate(zip(CASES, upstreams, strict=True)):
            environ |= case.environ
            providers[f"case-{number}"] = case.provider(upstream.base_url)
            providers |= {f"case-{number}-{name}": case.provider(url) for name, url in elsewhere.items()}
        settings = config(providers=providers, timeouts=CLOCKS, retry={"base": 0.01, "attempts_per_target": ATTEMPTS})
        server = await stack.enter_async_context(gateway(settings, tmp_path_factory.mktemp("faults"), environ))
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(index: int, cell: Cell) -> Outcome:
            number, fault = CASES.index(cell.case), cell.fault
            model = f"zz-{index}-{cell.case.model}"
            if scripts := fault.play(cell.case):
                plays[number][_model(model)] = _at_step(cell, in_turn(*scripts))
            provider = f"case-{number}" + (f"-{fault.at}" if fault.at else "")
            async with free, asyncio.timeout(_MOST):
                outcome = await _call(server, cell, f"{provider}/{model}")
            if not fault.at:
                outcome.asked = len(_met(upstreams[number], cell, _model(model)))
            if fault.closes and not fault.at:
                outcome.left_open = await _left_open(upstreams[number], cell, _model(model))
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, cell)) for index, cell in enumerate(CELLS)]
        yield [task.result() for task in tasks]
        assert not [line for line in server.log if line.get("level") == "error"], server.log[-5:]


def _by_model(plays: dict[str, Script]) -> Script:
    """The script of the model that the request names, wherever it does; other requests, listings say, find nothing."""

    async def script(exchange: Exchange) -> None:
        play = plays.get(_model(exchange.request.path, exchange.request.body))
        if play is None:
            await exchange.answer(404, b"", {"connection": "close"})
            await exchange.hang_up()
        else:
            await play(exchange)

    return script


def _at_step(cell: Cell, script: Script) -> Script:
    """The script for one of the calls; the others go well."""

    async def play(exchange: Exchange) -> None:
        if cell.case.step(exchange.request) == cell.step.name:
            await script(exchange)
        else:
            await cell.case.answer(exchange, SAID)

    return play


def _model(path: str, body: bytes = b"") -> str:
    found = re.search(rb"zz-[0-9]+-[A-Za-z0-9._-]*[A-Za-z0-9]", path.encode() + b" " + body)
    return found[0].decode() if found else ""


def _met(upstream: Upstream, cell: Cell, model: str) -> list[Request]:
    """The requests for this model that are the call in question."""
    here = [r for r in upstream.requests if _model(r.path, r.body) == model]
    return [request for request in here if cell.case.step(request) == cell.step.name]


async def _left_open(upstream: Upstream, cell: Cell, model: str) -> int:
    """How many connections that this call was made on are still open after a while."""

    def still() -> int:
        asked = {request.connection for request in _met(upstream, cell, model)}
        return sum(1 for index in asked if upstream.connections[index].closed is None)

    await upstream.until(lambda: not still(), _HANG_UP)
    return still()


async def _call(server: Gateway, cell: Cell, model: str) -> Outcome:
    fault, request = cell.fault, ask(model)
    if fault.attempt_timeout is not None:
        request.routing.attempt_timeout.FromTimedelta(timedelta(seconds=fault.attempt_timeout))
    started = time.perf_counter()
    texts: list[str] = []

    def outcome(code: grpc.StatusCode, **more: Any) -> Outcome:
        return Outcome(code, time.perf_counter() - started, "".join(texts), **more)

    try:
        if cell.mode == "unary":
            response = await server.stub.Chat(request, timeout=fault.deadline)
            texts += [part.text for part in response.message.parts]
            return outcome(grpc.StatusCode.OK, attempts=len(response.route.attempts))
        stream = server.stub.StreamChat(v1.StreamChatRequest(request=request), timeout=fault.deadline)
        completed = v1.ResponseCompleted()
        async for event in stream:
            texts.append(event.part_delta.text)
            if event.HasField("completed"):
                completed = event.completed
            if fault.cancelled and event.part_delta.text:
                stream.cancel()
    except grpc.aio.AioRpcError as error:
        return outcome(error.code(), trailers=dict(error.trailing_metadata() or ()))
    except asyncio.CancelledError:
        if not fault.cancelled:
            raise
        return outcome(grpc.StatusCode.CANCELLED)
    return outcome(grpc.StatusCode.OK, attempts=len(completed.route.attempts))


@pytest.mark.parametrize("index", range(len(CELLS)), ids=[str(cell) for cell in CELLS])
async def test_fault(outcomes: list[Outcome], index: int) -> None:
    case, fault, outcome = CELLS[index].case, CELLS[index].fault, outcomes[index]
    info = outcome.detail(details.ErrorInfo)
    reasons = {case.broken()[1].reason} if MEANT in fault.reasons else fault.reasons or {""}
    assert outcome.code is fault.code
    assert info.reason in reasons
    least, most = fault.between
    assert least <= outcome.seconds <= most
    assert outcome.asked > 0 or fault.at or fault.deadline is not None  # which may have passed before
    assert outcome.left_open == 0
    if fault.code is grpc.StatusCode.OK:
        assert outcome.text == SAID.text
        assert fault.attempts in (outcome.attempts, ANY)
        return
    assert bool(outcome.text) is fault.partial
    assert SAID.text.startswith(outcome.text)
    if fault.cancelled or fault.deadline is not None:
        return  # by then the status is the caller's own
    assert int(outcome.trailers["x-parley-attempts"]) == fault.attempts
    assert info.metadata["provider"].startswith("case-")
    said = outcome.detail(v1.ProviderError)
    assert said.provider == info.metadata["provider"]
    assert said.http_status == (fault.status or said.http_status)
    assert "<" not in said.message
    seconds = outcome.detail(details.RetryInfo).retry_delay.ToTimedelta().total_seconds()
    if fault.retry_after is not None:
        assert seconds == fault.retry_after
    if fault.partial:
        failure = outcome.detail(v1.ResponseFailure)
        assert failure.last_sequence > 0


async def test_names_tell_the_faults_apart() -> None:
    names: Sequence[str] = [str(cell) for cell in CELLS]
    assert len(set(names)) == len(names)
