"""The driver of conversations with several steps, against a real upstream on a real socket."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    AttemptTimeout,
    DeadlineExceeded,
    GatewayError,
    ModelNotFound,
    ProtocolError,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Batch, Reply
from parley_server.core.secret import Secret
from parley_server.core.target import Target
from parley_server.dialects.base import Framing, HttpCall
from parley_server.dialects.framing.sse import NamedSSE
from parley_server.dialects.parts import PartWriter
from parley_server.dialects.steps import Ask, AskAll, Heard, Listen, Pause, Step, Steps
from parley_server.providers import stepped
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider
from parley_server.providers.endpoint import Wire
from parley_server.providers.stepped import SteppedChatEndpoint, chat_endpoint, converse_models
from parley_server.transports.http import HttpTransport
from tests.fakes import chat, context
from tests.upstream import Exchange, Script, Upstream, scripted

SOON = 2.0  # seconds within which something must be seen; a bound, not a wait
CANCEL = HttpCall("/cancel", headers={})
WORK = HttpCall("/work", headers={})
STREAM = HttpCall("/stream", method="GET", headers={})


class Parts:
    """Takes every event for text, until one is called `done`."""

    def __init__(self) -> None:
        self.over = False
        self._writer = PartWriter()
        self._writer.started("m-1")
        self._writer.open("text", v1.Part(text=""))

    def feed(self, frames: Sequence[tuple[str, bytes]]) -> Batch:
        for name, data in frames:
            if name == "done":
                self.over = True
                self._writer.close_all()
            else:
                self._writer.append("text", "text", data.decode())
        return self._writer.take()

    def rest(self, message: v1.Message) -> Batch | None:
        whole = message.parts[0].text
        if not whole.startswith("a"):
            return None
        self._writer.append("text", "text", whole[1:])
        self._writer.close_all()
        return self._writer.take()

    def finish(self) -> Batch:
        if not self.over:
            raise StreamInterrupted("cut")
        return []


@dataclass
class Steered:
    """A dialect whose steps a test writes down."""

    steps: Any
    framing: type[Framing] = NamedSSE
    seen: list[Any] = field(default_factory=list)

    def converse(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> Steps[v1.ChatResponse]:
        return self.steps(self.seen)  # type: ignore[no-any-return]

    def decoder(self, target: Target) -> Parts:
        return Parts()

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        return ModelNotFound(f"status {status}") if status == 404 else Unavailable(f"status {status}")


def answer(text: str = "whole") -> v1.ChatResponse:
    return v1.ChatResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)]),
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="succeeded",
        warnings=[v1.Warning(code="NOTE")],
    )


@dataclass
class Scene:
    upstream: Upstream
    transport: HttpTransport
    provider: Provider
    slept: list[float] = field(default_factory=list)

    def wire(self) -> Wire:
        return Wire(self.provider, Target("lab", "m"), self.transport, connect_timeout=5)

    async def ask(
        self, steps: Any, *, streaming: bool = False, deadline: float | None = None, idle: float = math.inf
    ) -> Reply[v1.ChatResponse]:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        self.dialect = Steered(steps)
        endpoint = SteppedChatEndpoint(self.wire(), self.dialect, sleep)
        ctx = context(streaming=streaming, deadline=deadline)
        ctx.idle = idle
        ctx.outgoing["traceparent"] = "00-1-2-01"
        return await endpoint(chat("lab/m"), ctx)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.upstream.requests]


@asynccontextmanager
async def scene(script: Script, **card: Any) -> AsyncIterator[Scene]:
    transport = HttpTransport()
    async with scripted(script) as upstream:
        card.setdefault("auth", Bearer(Secret("k")))
        yield Scene(upstream, transport, Provider("lab", upstream.base_url, **card))
        await transport.aclose()
        assert transport.open == 0


async def plain(exchange: Exchange) -> None:
    """Says what it was asked; streams two words; never ends /slow."""
    match exchange.request.path:
        case "/stream":
            await exchange.stream(b"data: a\n\n", b"event: output\ndata:  b\n\nevent: done\ndata: {}\n\n")
        case "/cut":
            await exchange.stream(b"data: a\n\n")
        case "/open":
            await exchange.head(200, {"content-type": "text/event-stream"})
            await exchange.chunk(b"data: a\n\n")
            await exchange.stall()
        case "/slow":
            await exchange.stall()
        case "/missing":
            await exchange.answer(404, {"detail": "no"})
        case path:
            await exchange.answer(200, {"path": path}, {"x-request-id": f"id-of-{path[1:]}"})


async def test_steps_are_done_in_turn() -> None:
    def steps(seen: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        heard: Heard = yield Ask(WORK)
        seen.append((heard.status, json.loads(heard.body)))
        seen.append((yield Pause(0.5, undo=CANCEL)))
        heard = yield Ask(HttpCall("/end", method="GET", headers={}), undo=CANCEL)
        return answer()

    async with scene(plain) as place:
        async with await place.ask(steps) as reply:
            response = await reply.response()
        assert place.asked == ["POST /work", "GET /end"]
        assert place.dialect.seen == [(200, {"path": "/work"}), None]
        assert place.slept == [0.5]
        assert response.message.parts[0].text == "whole"
        assert (response.route.provider, response.route.model) == ("lab", "m")
        assert response.route.provider_request_id == "id-of-work"
        headers = place.upstream.requests[0].headers
        assert (headers["authorization"], headers["traceparent"]) == ("Bearer k", "00-1-2-01")


def listening(call: HttpCall = STREAM) -> Any:
    def steps(seen: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Ask(WORK)
        try:
            seen.append((yield Listen(call, undo=CANCEL)))
        except GatewayError as error:
            seen.append(error)
            return answer()
        yield Ask(HttpCall("/counts", method="GET", headers={}), undo=CANCEL)
        ended = answer("")
        ended.usage.output_tokens = 2
        return ended

    return steps


async def test_a_stream_is_heard_and_ended_by_what_follows() -> None:
    async with scene(plain) as place:
        async with await place.ask(listening(), streaming=True) as reply:
            events = [event for batch in [batch async for batch in reply] for event in batch]
        assert place.asked == ["POST /work", "GET /stream", "GET /counts"]
        response = fold(events)
        assert events[0].started.provider == "lab"
        assert response.message.parts[0].text == "a b"
        assert response.usage.output_tokens == 2
        assert response.native_finish_reason == "succeeded"
        assert [warning.code for warning in response.warnings] == ["NOTE"]
        assert response.route.provider_request_id == "id-of-work"


async def test_what_cannot_be_listened_to_is_thrown_in() -> None:
    missing = HttpCall("/missing", method="GET", headers={})
    async with scene(plain) as place:
        async with await place.ask(listening(missing), streaming=True) as reply:
            response = await reply.response()
        assert response.message.parts[0].text == "whole"
        assert isinstance(place.dialect.seen[0], ModelNotFound)
        assert place.asked == ["POST /work", "GET /missing"]


def breaking_off(whole: str) -> Any:
    def steps(seen: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        try:
            yield Listen(HttpCall("/cut", method="GET", headers={}), undo=CANCEL)
        except StreamInterrupted as error:
            seen.append(error)
        yield Ask(HttpCall("/whole", method="GET", headers={}), undo=CANCEL)
        return answer(whole)

    return steps


@pytest.mark.parametrize(("whole", "parts"), [("a and b", ["a", " and b"]), ("a", ["a"])])
async def test_a_stream_that_breaks_off_is_made_whole_by_what_follows(whole: str, parts: list[str]) -> None:
    async with scene(plain) as place:
        async with await place.ask(breaking_off(whole), streaming=True) as reply:
            found = [event for batch in [batch async for batch in reply] for event in batch]
        assert [event.part_delta.text for event in found if event.HasField("part_delta")] == parts
        assert fold(found).message.parts == [v1.Part(text=whole)]
        assert fold(found).native_finish_reason == "succeeded"
        assert place.asked == ["GET /cut", "GET /whole"]  # the work is over: nothing is left to be stopped


async def test_a_stream_that_breaks_off_and_began_otherwise_is_interrupted() -> None:
    async with scene(plain) as place:
        async with await place.ask(breaking_off("b"), streaming=True) as reply:
            with pytest.raises(StreamInterrupted) as caught:
                await reply.response()
        assert place.dialect.seen == [caught.value]
        assert place.asked == ["GET /cut", "GET /whole"]


@pytest.mark.parametrize("idle", [0.05, 60.0])
async def test_behind_a_stream_there_is_not_much_time(monkeypatch: pytest.MonkeyPatch, idle: float) -> None:
    def steps(seen: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Listen(STREAM)
        try:
            yield Ask(HttpCall("/slow", method="GET", headers={}), undo=CANCEL)
        except AttemptTimeout as error:
            seen.append(error)
        return answer("")

    monkeypatch.setattr(stepped, "_ENDING_TIME", 0.05 if idle > 1 else 60.0)
    async with scene(plain) as place:
        async with await place.ask(steps, streaming=True, idle=idle) as reply:
            response = await reply.response()
        assert response.message.parts[0].text == "a b"
        assert response.native_finish_reason == "succeeded"
        assert len(place.dialect.seen) == 1
        assert place.asked == ["GET /stream", "GET /slow"]


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    def steps(seen: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        try:
            yield Ask(HttpCall("/slow", headers={}), within=0.05)
        except AttemptTimeout as error:
            seen.append(error)
        yield Ask(WORK, within=60.0)
        return answer()

    async with scene(plain) as place:
        async with await place.ask(steps) as reply:
            await reply.response()
        assert [error.facts["provider"] for error in place.dialect.seen] == ["lab"]
        assert place.asked == ["POST /slow", "POST /work"]


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_a_stream_that_is_left_is_closed_and_its_work_stopped(how: str) -> None:
    call = HttpCall("/open", method="GET", headers={})
    async with scene(plain) as place:

        async def read() -> None:
            async with await place.ask(listening(call), streaming=True) as reply:
                async for _ in reply:
                    if how == "closed":
                        return

        reading = asyncio.create_task(read())
        await place.upstream.requested(2)
        if how == "cancelled":
            await asyncio.sleep(0.02)
            reading.cancel()
        [ended] = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError if how == "cancelled" else type(None))
        assert place.asked[2:] == ["POST /cancel"]
        assert await place.upstream.until(lambda: place.upstream.open_connections <= 1, SOON)  # one is kept


async def test_work_under_way_is_stopped_when_the_call_is_cancelled() -> None:
    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Ask(WORK)
        yield Ask(HttpCall("/slow", method="GET", headers={}), undo=CANCEL)
        raise AssertionError

    async with scene(plain) as place:
        asking = asyncio.create_task(place.ask(steps))
        await place.upstream.requested(2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert place.asked == ["POST /work", "GET /slow", "POST /cancel"]


async def test_a_call_that_begins_work_is_heard_out() -> None:
    """The answer comes after the cancellation, and only it says how to stop."""
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/begin":
            await go_on.wait()
        await exchange.answer(200, {"id": 7})

    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        heard: Heard = yield Ask(HttpCall("/begin", headers={}), hear_out=SOON)
        number = json.loads(heard.body)["id"]
        yield Pause(9, undo=HttpCall(f"/cancel/{number}", headers={}))
        raise AssertionError

    async with scene(script) as place:
        asking = asyncio.create_task(place.ask(steps))
        await place.upstream.requested(1)
        asking.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert place.asked == ["POST /begin", "POST /cancel/7"]


async def test_a_call_that_begins_work_is_not_heard_out_for_ever() -> None:
    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Ask(HttpCall("/slow", headers={}), hear_out=0.01)
        raise AssertionError

    async with scene(plain) as place:
        asking = asyncio.create_task(place.ask(steps))
        await place.upstream.requested(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await place.upstream.closed_within(SOON)
        assert place.asked == ["POST /slow"]


@pytest.mark.parametrize(
    ("failure", "stopped"),
    [(None, True), (Unavailable("the prediction failed"), False), (ProtocolError("no prediction"), True)],
    ids=["of the wire", "of the work", "of the protocol"],
)
async def test_a_failure_stops_the_work_unless_it_is_its_end(failure: GatewayError | None, stopped: bool) -> None:
    path = "/missing" if failure is None else "/poll"

    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Ask(WORK)
        yield Ask(HttpCall(path, method="GET", headers={}), undo=CANCEL)
        raise failure or AssertionError

    async with scene(plain) as place:
        with pytest.raises(GatewayError) as caught:
            await place.ask(steps)
        assert caught.value.provider_error is not None
        assert caught.value.provider_error.provider == "lab"
        assert place.asked == ["POST /work", f"GET {path}", *(["POST /cancel"] if stopped else [])]


async def test_a_bug_stops_the_work() -> None:
    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Ask(WORK, undo=CANCEL)
        raise ZeroDivisionError

    async with scene(plain) as place:
        with pytest.raises(ZeroDivisionError):
            await place.ask(steps)
        assert place.asked == ["POST /work", "POST /cancel"]


async def test_a_cancel_call_that_fails_or_hangs_is_no_second_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley_server.providers.stepped._UNDO_TIME", 0.02)
    for path in ("/missing", "/slow"):

        def steps(_: list[Any], path: str = path) -> Generator[Step, Any, v1.ChatResponse]:
            yield Pause(1, undo=HttpCall(path, headers={}))
            raise ZeroDivisionError

        async with scene(plain) as place:
            with pytest.raises(ZeroDivisionError):
                await place.ask(steps)
            assert place.asked == [f"POST {path}"]


async def test_pauses_end_at_the_deadline() -> None:
    def steps(_: list[Any]) -> Generator[Step, Any, v1.ChatResponse]:
        yield Pause(1.0, undo=CANCEL)
        yield Pause(60.0, undo=CANCEL)
        raise AssertionError

    async with scene(plain) as place:
        with pytest.raises(DeadlineExceeded):
            await place.ask(steps, deadline=30)
        assert place.slept[0] == 1.0
        assert 29 < place.slept[1] <= 30
        assert place.asked == ["POST /cancel"]


async def test_several_calls_go_out_a_few_at_a_time() -> None:
    now, most = 0, 0

    async def script(exchange: Exchange) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0.01)
        now -= 1
        await plain(exchange)

    class Listing:
        def converse(self, provider: str) -> Steps[list[v1.Model]]:
            paths = [f"/{number}" for number in range(6)]
            paths[3] = "/missing"
            came: list[Any] = yield AskAll(tuple(HttpCall(path, headers={}) for path in paths), at_once=2)
            return [v1.Model(id=str(getattr(one, "body", type(one).__name__))) for one in came]

        error = Steered(None).error

    async with scene(script) as place:
        models = await converse_models(place.wire(), Listing())
        assert [model.id for model in models] == [
            "ModelNotFound" if number == 3 else str(json.dumps({"path": f"/{number}"}).encode()) for number in range(6)
        ]
        assert most == 2


# ----------------------------------------------------------------------------------------------- hosts the key goes to


@pytest.mark.parametrize(
    "url",
    [
        "https://stream.lab.example/v1/1",
        "https://own.example/x?y=1",
        "http://127.0.0.1:7001/v1/predictions/1",
    ],
)
def test_own_hosts(url: str) -> None:
    provider = Provider("lab", "http://127.0.0.1:7001/v1", hosts=(".lab.example", "own.example"))
    assert provider.url(url, Target("lab", "m")) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/1",
        "http://stream.lab.example/v1/1",
        "https://evillab.example/1",
        "https://lab.example.evil.example/1",
        "https://stream.lab.example@evil.example/1",
        "https://evil.example\\@stream.lab.example/1",
        "https://stream.lab.example:8443/1",
        "https://evil.example/\\stream.lab.example",
        "http://127.0.0.1:7002/v1",
        "http://127.0.0.1:7001@evil.example/v1",
        "https://stream.lab.example/a\nb",
        "https://",
        "https://[/",
    ],
)
def test_hosts_of_others_are_not_asked(url: str) -> None:
    provider = Provider("lab", "http://127.0.0.1:7001/v1", hosts=(".lab.example", "own.example"))
    with pytest.raises(ProtocolError):
        provider.url(url, Target("lab", "m"))


def test_the_driver_fits_the_dialect() -> None:
    wire: Any = None
    assert isinstance(chat_endpoint(Provider("lab", "http://x", chat=Steered(None)), wire), SteppedChatEndpoint)
    with pytest.raises(TypeError):
        Provider("lab", "http://x", chat=Steered(None)).choose_chat(chat(), Target("lab", "m"))
