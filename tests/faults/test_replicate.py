"""Replicate, whose answers take several calls: what goes wrong in each of them, and that no work is left running."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from tests.faults.faults import CLOCKS
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Script, Upstream, in_turn, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = b"event: output\nid: 1\ndata: well, \n\nevent: output\nid: 2\ndata: well\n\nevent: done\nid: 3\ndata: {}\n\n"
BEGINNING = EVENTS[: EVENTS.index(b"event: output\nid: 2")]


@dataclass
class Plays:
    """What the server does for one model, call by call."""

    base_url: str
    name: str
    make: Script
    listen: Script
    look: Script
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def prediction(self, status: str, **fields: Any) -> dict[str, Any]:
        """The prediction of this model."""
        urls = {"stream": f"{self.base_url}/stream/{self.name}", "get": f"{self.base_url}/v1/predictions/{self.name}"}
        return {"id": self.name, "model": f"acme/{self.name}", "status": status, "urls": urls, "error": None, **fields}


class Server:
    """Replicate, as far as it is needed: a model for each test, which takes a prompt."""

    def __init__(self) -> None:
        self.models: dict[str, Plays] = {}
        self.numbers = itertools.count()
        self.upstream: Upstream | None = None

    async def script(self, exchange: Exchange) -> None:
        """By path: describe a model, make a prediction, stream it, look at it, cancel it."""
        path = exchange.request.path.partition("?")[0]
        plays = next((plays for name, plays in self.models.items() if name in path.split("/")), None)
        if plays is None:
            await exchange.answer(404, {"detail": "not found"})
        elif exchange.request.method == "POST" and path.endswith("/cancel"):
            plays.cancelled.set()
            await exchange.answer(200, plays.prediction("canceled"))
        elif exchange.request.method == "POST":
            await plays.make(exchange)
        elif path.startswith("/stream/"):
            await plays.listen(exchange)
        elif "/predictions/" in path:
            await plays.look(exchange)
        else:
            await exchange.answer(404, {"detail": "not described"})

    def model(self, **scripts: Callable[[Plays], Script]) -> Plays:
        """A new model; what is not given goes well."""
        assert self.upstream is not None
        name = f"zz-{next(self.numbers)}"
        plays = Plays(self.upstream.base_url, name, nothing, nothing, nothing)
        usual: dict[str, Callable[[Plays], Script]] = {"make": begins, "listen": speaks, "look": succeeded}
        for verb, script in {**usual, **scripts}.items():
            setattr(plays, verb, script(plays))
        self.models[name] = plays
        return plays


async def nothing(exchange: Exchange) -> None:
    await exchange.answer(404)


def answers(status: int, /, **fields: Any) -> Callable[[Plays], Script]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, fields)

    return lambda plays: script


def says(status: str, *, code: int = 201, **fields: Any) -> Callable[[Plays], Script]:
    """The prediction in that state."""

    def made(plays: Plays) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(code, plays.prediction(status, **fields))

        return script

    return made


begins = says("starting")
succeeded = says(
    "succeeded", code=200, output=["well, ", "well"], metrics={"input_token_count": 7, "output_token_count": 3}
)


def speaks(plays: Plays) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(EVENTS)

    return script


def breaks(data: bytes, ends: str) -> Callable[[Plays], Script]:
    """A stream that goes so far."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(data)
        await asyncio.sleep(0.05)
        if ends == "stall":
            await exchange.stall()
        else:
            await exchange.hang_up()

    return lambda plays: script


def stalls(plays: Plays) -> Script:
    return lambda exchange: exchange.stall()


def resets(plays: Plays) -> Script:
    return lambda exchange: exchange.reset()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with scripted(server.script) as upstream:
        server.upstream = upstream
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    assert server.upstream is not None
    providers = {"replicate": {"base_url": f"{server.upstream.base_url}/v1", "api_key": "env:CASE_KEY"}}
    settings = config(providers=providers, timeouts=CLOCKS, retry={"base": 0.01, "attempts_per_target": 2})
    async with gateway(settings, tmp_path_factory.mktemp("replicate"), {"CASE_KEY": "key"}) as running:
        yield running


async def failed(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason, and the text that came before."""
    text = ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for event in call:
                text += event.part_delta.text
        else:
            await call
    info = details.ErrorInfo()
    trailers = dict(caught.value.trailing_metadata() or ())
    for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        detail.Unpack(info)
    return caught.value.code(), info.reason, text


def call(running: Gateway, plays: Plays, mode: str, **more: Any) -> Any:
    model = f"replicate/acme/{plays.name}"
    return running.stub.Chat(ask(model), **more) if mode == "unary" else running.stub.StreamChat(stream(model), **more)


async def answered(running: Gateway, plays: Plays, mode: str) -> str:
    """The text of an answer, which must be whole."""
    if mode == "unary":
        response = await call(running, plays, mode)
        return "".join(part.text for part in response.message.parts)
    events = [event async for event in call(running, plays, mode)]
    assert events[-1].HasField("completed")
    return "".join(event.part_delta.text for event in events)


both = pytest.mark.parametrize("mode", ["unary", "stream"])


@both
async def test_all_is_well(running: Gateway, server: Server, mode: str) -> None:
    plays = server.model()
    assert await answered(running, plays, mode) == "well, well"
    assert not plays.cancelled.is_set()


@both
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_CREDENTIALS_REJECTED"),
        (402, grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_QUOTA_EXHAUSTED"),
        (422, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED"),
        (500, grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    ],
)
async def test_no_prediction_is_made(
    running: Gateway, server: Server, mode: str, status: int, code: grpc.StatusCode, reason: str
) -> None:
    plays = server.model(make=answers(status, title="No", detail="no", status=status))
    assert await failed(call(running, plays, mode)) == (code, reason, "")


@both
async def test_a_failure_before_there_is_a_prediction_is_retried(running: Gateway, server: Server, mode: str) -> None:
    plays = server.model(make=lambda plays: in_turn(answers(500, detail="no")(plays), begins(plays)))
    assert await answered(running, plays, mode) == "well, well"


@both
async def test_a_connection_that_breaks_before_there_is_a_prediction(
    running: Gateway, server: Server, mode: str
) -> None:
    plays = server.model(make=resets)
    assert await failed(call(running, plays, mode)) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", "")


async def test_a_prediction_that_fails_says_so(running: Gateway, server: Server) -> None:
    plays = server.model(look=says("failed", code=200, error="CUDA out of memory"))
    code, reason, text = await failed(call(running, plays, "unary"))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "")
    assert reason.startswith("PROVIDER_")


async def test_a_prediction_that_cannot_be_listened_to_is_waited_for(running: Gateway, server: Server) -> None:
    plays = server.model(listen=resets)
    assert await answered(running, plays, "stream") == "well, well"


async def test_a_stream_that_breaks_off_is_waited_for(running: Gateway, server: Server) -> None:
    plays = server.model(listen=breaks(BEGINNING, "hang up"))
    assert await answered(running, plays, "stream") == "well, well"
    assert not plays.cancelled.is_set()


async def test_a_stream_that_breaks_off_and_began_otherwise_is_interrupted(running: Gateway, server: Server) -> None:
    other = says("succeeded", code=200, output="quite another text")
    plays = server.model(listen=breaks(BEGINNING, "hang up"), look=other)
    failure = (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", "well, ")
    assert await failed(call(running, plays, "stream")) == failure


async def test_a_stream_that_breaks_off_and_is_not_heard_of_again(running: Gateway, server: Server) -> None:
    plays = server.model(listen=breaks(BEGINNING, "hang up"), look=says("processing", code=200))
    failure = (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", "well, ")
    assert await failed(call(running, plays, "stream")) == failure
    await asyncio.wait_for(plays.cancelled.wait(), 2)


async def test_a_stream_that_falls_silent_fails_and_its_work_is_stopped(running: Gateway, server: Server) -> None:
    plays = server.model(listen=breaks(BEGINNING, "stall"))
    code, reason, text = await failed(call(running, plays, "stream"))
    assert (code, reason, text) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", "well, ")
    await asyncio.wait_for(plays.cancelled.wait(), 2)


async def test_a_stream_that_never_begins_fails_and_its_work_is_stopped(running: Gateway, server: Server) -> None:
    plays = server.model(listen=stalls)
    code, reason, text = await failed(call(running, plays, "stream"))
    assert (code, reason, text) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT", "")
    await asyncio.wait_for(plays.cancelled.wait(), 2)


@both
async def test_a_caller_whose_time_is_over_leaves_no_work_behind(running: Gateway, server: Server, mode: str) -> None:
    plays = server.model(look=says("processing", code=200), listen=stalls)
    code, _, _ = await failed(call(running, plays, mode, timeout=0.4))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(plays.cancelled.wait(), 2)


async def test_a_caller_who_goes_away_leaves_no_work_behind(running: Gateway, server: Server) -> None:
    plays = server.model(listen=breaks(BEGINNING, "stall"))
    answer = call(running, plays, "stream")
    async for event in answer:
        if event.part_delta.text:
            answer.cancel()
            break
    await asyncio.wait_for(plays.cancelled.wait(), 2)
    assert server.upstream is not None
    asked = {r.connection for r in server.upstream.requests if r.path.endswith(f"/stream/{plays.name}")}
    connections = server.upstream.connections
    assert await server.upstream.until(lambda: all(connections[index].closed for index in asked), 1)


async def test_counts_that_cannot_be_had_are_no_failure(running: Gateway, server: Server) -> None:
    plays = server.model(look=answers(404, detail="gone"))
    events = [event async for event in call(running, plays, "stream")]
    assert events[-1].completed.finish_reason == v1.FINISH_REASON_STOP
    assert events[-1].completed.usage.source != v1.Usage.SOURCE_PROVIDER
