"""What is asked of the gateway: each kind of call, and the ways in which it may end."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from parley import v1
from tests.benchmarks import prompt

ROUTE = "either"
"""A name for two models of the mock upstream."""
FALLEN_BACK_TO = "steady/mock-u400"
OK = frozenset({"OK"})
WRONG = "WRONG ANSWER"

_LONGEST = 60.0  # seconds for one call
_OPEN = "UNAVAILABLE PROVIDER_CIRCUIT_OPEN"
_FAILED = frozenset({"UNAVAILABLE PROVIDER_OVERLOADED", _OPEN})
_CUT = "UNAVAILABLE STREAM_INTERRUPTED"
_TIMEOUT = "UNAVAILABLE PROVIDER_TIMEOUT"
_LATE = frozenset({"DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED DEADLINE_EXCEEDED"})
_EMBEDDED = 3


@dataclass
class Caller:
    """Who calls: on a channel as usual, and on one with the small window of a phone."""

    stub: Any
    narrow: Any
    outcomes: dict[str, collections.Counter[str]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    """By kind: how many calls ended how."""


Call = Callable[[Caller], Awaitable[str]]


@dataclass(frozen=True)
class Kind:
    """`workers` make such calls, each `pause` seconds after the one before has ended, more or less."""

    name: str
    call: Call
    workers: int
    pause: float
    expected: frozenset[str] = OK
    """How they may end: `OK`, or the name of a status code and the reason, if there is one."""


async def work(kind: Kind, caller: Caller, until: float) -> None:
    """Call until it is `until` on the event loop's clock."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(kind.pause * random.random())
    while loop.time() < until:
        try:
            async with asyncio.timeout(_LONGEST):
                outcome = await kind.call(caller)
        except grpc.aio.AioRpcError as error:
            outcome = _ended(error)
        except TimeoutError:
            outcome = f"NOTHING WITHIN {_LONGEST:g} s"
        caller.outcomes[kind.name][outcome] += 1
        await asyncio.sleep(kind.pause * random.uniform(0.5, 1.5))


def _ended(error: grpc.aio.AioRpcError) -> str:
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            any(detail.Unpack(info) for detail in Status.FromString(value).details)  # type: ignore[arg-type]
    return f"{error.code().name} {info.reason}".strip()


def _checked(text: str, length: int) -> str:
    return "OK" if text == prompt.answer(length) else WRONG


async def _text(events: AsyncIterator[Any]) -> str:
    return "".join([event.part_delta.text async for event in events])


def _asked(model: str, **options: Any) -> v1.StreamChatRequest:
    return v1.StreamChatRequest(request=prompt.request(model), options=v1.StreamOptions(**options))


# ------------------------------------------------------------------------------------------------------ that end well


def chat(model: str, length: int, **fields: Any) -> Call:
    """A whole answer."""

    async def call(caller: Caller) -> str:
        request = prompt.request(model)
        request.MergeFrom(v1.ChatRequest(**fields))
        response = await caller.stub.Chat(request)
        return _checked("".join(part.text for part in response.message.parts), length)

    return call


def stream(model: str, length: int) -> Call:
    """A stream, read as it comes."""

    async def call(caller: Caller) -> str:
        return _checked(await _text(caller.stub.StreamChat(_asked(model))), length)

    return call


async def embed(caller: Caller) -> str:
    """Some vectors."""
    inputs = [v1.EmbedInput(text=f"text {random.random()}") for _ in range(_EMBEDDED)]
    response = await caller.stub.Embed(v1.EmbedRequest(model="shaky/embed", inputs=inputs, dimensions=64))
    return "OK" if len(response.embeddings) == _EMBEDDED else WRONG


def slowly(model: str, length: int, pause: float) -> Call:
    """A stream whose reader takes its time after every message."""

    async def call(caller: Caller) -> str:
        fragments = []
        async for event in caller.narrow.StreamChat(_asked(model)):
            fragments.append(event.part_delta.text)
            await asyncio.sleep(pause)
        return _checked("".join(fragments), length)

    return call


# -------------------------------------------------------------------------------------------------- that are given up


def left(model: str) -> Call:
    """A stream that its reader leaves, at any moment or after some text."""

    async def call(caller: Caller) -> str:
        running = caller.stub.StreamChat(_asked(model))
        if random.random() < 0.3:
            await asyncio.sleep(0.05 * random.random())
        else:
            wanted = random.randrange(1, 20)
            async for event in running:
                wanted -= bool(event.part_delta.text)
                if not wanted:
                    break
        running.cancel()
        code: str = (await running.code()).name
        return code

    return call


def left_alone(model: str) -> Call:
    """A whole answer that nobody waits for."""

    async def call(caller: Caller) -> str:
        running = caller.stub.Chat(prompt.request(model))
        await asyncio.sleep(0.05 * random.random())
        running.cancel()
        code: str = (await running.code()).name
        return code

    return call


def hurried(model: str, seconds: float, *, streamed: bool) -> Call:
    """A call that has less time than it takes."""

    async def call(caller: Caller) -> str:
        if streamed:
            await _text(caller.stub.StreamChat(_asked(model), timeout=seconds))
        else:
            await caller.stub.Chat(prompt.request(model), timeout=seconds)
        return "OK"

    return call


# --------------------------------------------------------------------------------------------------- that are resumed


def resumed(model: str, length: int) -> Call:
    """A resumable stream that is left again and again, and taken up each time."""

    async def call(caller: Caller) -> str:
        request, response_id, last, fragments, done = _asked(model, resumable=True), "", 0, [], False
        while not done:
            running = caller.stub.StreamChat(request)
            wanted = random.randrange(5, 40)
            async for event in running:
                response_id = event.started.response_id or response_id
                last = event.sequence or last
                fragments.append(event.part_delta.text)
                done = event.HasField("completed")
                wanted -= 1
                if wanted <= 0 and not done:
                    break
            running.cancel()
            where = v1.ResumeFrom(response_id=response_id, after_sequence=last)
            request = v1.StreamChatRequest(resume=where)
        return _checked("".join(fragments), length)

    return call


def forsaken(model: str) -> Call:
    """A resumable stream that nobody takes up; every other one is cancelled by its ID."""

    async def call(caller: Caller) -> str:
        running = caller.stub.StreamChat(_asked(model, resumable=True))
        event = await anext(aiter(running))
        running.cancel()
        if random.random() < 0.5:
            await caller.stub.CancelChat(v1.CancelChatRequest(response_id=event.started.response_id))
        return "OK"

    return call


# ---------------------------------------------------------------------------------------------------------------- all


KINDS = (
    Kind("Chat", chat("steady/mock-u400", 400), 6, 0.05),
    Kind("Chat by a route that reloads change", chat(ROUTE, 400), 2, 0.1),
    Kind("Chat that falls back", chat("shaky/down", 400, routing={"fallbacks": [{"model": FALLEN_BACK_TO}]}), 2, 0.2),
    Kind("StreamChat", stream("steady/mock-c100-s20-k4-p5", 2000), 8, 0.05),
    Kind("Embed", embed, 2, 0.1),
    Kind("slow reader", slowly("steady/mock-c1500-s200-k4", 300_000, 0.02), 3, 0.5),
    Kind("stream left by its reader", left("steady/mock-c1000-s20-k1-p5"), 6, 0.1, frozenset({"CANCELLED"})),
    Kind("Chat left by its caller", left_alone("steady/mock-u400-d1000"), 3, 0.1, frozenset({"CANCELLED"})),
    Kind("Chat past its deadline", hurried("steady/mock-u400-d5000", 0.2, streamed=False), 2, 0.1, _LATE),
    Kind("stream past its deadline", hurried("steady/mock-c1000-s20-k1-p5", 0.3, streamed=True), 3, 0.1, _LATE),
    Kind("resumed stream", resumed("steady/mock-c200-s20-k4-p10", 4000), 4, 0.1),
    Kind("resumable stream left alone", forsaken("steady/mock-c200-s20-k4-p10"), 2, 0.3),
    Kind("Chat that fails", chat("shaky/fails", 0), 2, 0.2, _FAILED),
    Kind("Chat that fails now and then", chat("shaky/flaky", 400), 2, 0.2, OK | _FAILED),
    Kind("stream that is cut", stream("shaky/torn", 0), 2, 0.2, frozenset({_CUT, _OPEN})),
    Kind("stream that stalls", stream("shaky/stalls", 0), 2, 0.2, frozenset({_CUT, _OPEN})),
    Kind("stream that does not begin", stream("shaky/silent", 0), 2, 0.2, frozenset({_TIMEOUT, _OPEN})),
    Kind("Chat that stalls", hurried("shaky/mute", 0.5, streamed=False), 2, 0.2, _LATE | {_OPEN}),
    Kind("nonsense", stream("shaky/nonsense", 0), 1, 0.2, frozenset({"INTERNAL PROVIDER_PROTOCOL_ERROR", _OPEN})),
)
