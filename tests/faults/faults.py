"""What can go wrong, and how the call must end then: the status and reason of the error model, within the clocks."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from grpc import StatusCode

from tests.contract.case import Case
from tests.contract.said import Lack, Said
from tests.upstream import Exchange, Script

CLOCKS = {"connect": 0.6, "first_content": 0.6, "idle": 0.5, "total": 4.0}
ATTEMPTS = 2
"""At one target."""
ANY = -1
"""So many attempts: a kept connection that breaks is no attempt, and whether one was kept is chance."""
SAID = Said(text="well, well: 👩‍🚀 is here")
HTML = b"<html><head><title>Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
MEANT = "(what it means)"
"""The reason of the class that the case gives for its broken event."""
GONE, UNREACHABLE = "gone", "unreachable"
"""Faults of addresses instead of scripts: nobody listens there, or nobody accepts."""

Play = Callable[[Case], Sequence[Script]]
"""What the upstream does with the first request, the second, and so on; the last one stays."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. An answer is expected if `code` is OK."""

    name: str
    mode: Literal["unary", "stream"]
    play: Play
    code: StatusCode
    reasons: frozenset[str] = frozenset()
    attempts: int = ATTEMPTS
    partial: bool = False
    """Text has come before the call fails."""
    closes: bool = True
    """The gateway hangs up, or the upstream does: no connection is left open."""
    between: tuple[float, float] = (0.0, 8.0)
    """Seconds that the call may take."""
    needless: frozenset[Lack] = frozenset()
    """A wire with one of these lacks cannot have this fault."""
    attempt_timeout: float | None = None
    deadline: float | None = None
    cancelled: bool = False
    """The caller goes away after the first text."""
    retry_after: float | None = None
    """What RetryInfo says, in seconds."""
    at: Literal["", "gone", "unreachable"] = ""
    status: int | None = None
    """What `ProviderError.http_status` says."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.mode})"


# -------------------------------------------------------------------------------------------------------- what is sent


def beginning(case: Case, said: Said = SAID) -> tuple[bytes, bytes]:
    """What comes of a stream before any content, and what comes up to and with the first content."""
    framing, decoder = case.dialect.framing(), case.dialect.decoder(case.target)
    before = b""
    for write in case.stream(said):
        if any(event.HasField("part_delta") for event in decoder.feed(framing.feed(write))):
            return before, before + write
        before += write
    raise AssertionError(f"{case} streams no content")


def says(case: Case) -> Script:
    """Answers, whole or as a stream."""

    async def script(exchange: Exchange) -> None:
        await case.answer(exchange, SAID)

    return script


def answers(status: int, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Play:
    """Always that status; without a body in the provider's own words."""

    def play(case: Case) -> Sequence[Script]:
        said = case.refusal(status, "something went wrong") if body is None else body

        async def script(exchange: Exchange) -> None:
            await exchange.answer(status, said, headers)

        return [script]

    return play


def sends(
    *, content: bool = False, then: bytes | Callable[[Case], bytes] = b"", ends: str, plain: bool = False
) -> Play:
    """A stream that goes as far as its first content, or not, then has `then` in it, and ends in some way."""

    def play(case: Case) -> Sequence[Script]:
        before, with_content = beginning(case)
        more = then if isinstance(then, bytes) else then(case)
        start = b"" if plain else with_content if content else before

        async def script(exchange: Exchange) -> None:
            await exchange.head(200, {"content-type": case.content_type})
            await exchange.chunk(start)
            if start and more:
                await asyncio.sleep(0.05)  # so that the content is a read of its own
            await exchange.chunk(more)
            if content:
                await asyncio.sleep(0.05)
            await end(exchange, ends)

        return [script]

    return play


async def end(exchange: Exchange, ends: str) -> None:
    """End an exchange in one of these ways."""
    match ends:
        case "end":
            await exchange.end()
        case "hang up":
            await exchange.hang_up()
        case "reset":
            await exchange.reset()
        case "stall":
            await exchange.stall()


def at_once(ends: str) -> Play:
    """The request is read, and that is that."""

    def play(case: Case) -> Sequence[Script]:
        return [lambda exchange: end(exchange, ends)]

    return play


def then_well(play: Play) -> Play:
    """One time, then the answer."""
    return lambda case: [*play(case), says(case)]


def half_a_body(case: Case) -> Sequence[Script]:
    body = case.whole(SAID)

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json"}, length=len(body))
        await exchange.raw(body[: len(body) // 2])
        await exchange.hang_up()

    return [script]


def half_a_body_and_silence(case: Case) -> Sequence[Script]:
    body = case.whole(SAID)

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json"}, length=len(body))
        await exchange.raw(body[: len(body) // 2])
        await exchange.stall()

    return [script]


def no_http(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        await exchange.raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await exchange.stall()

    return [script]


def drips(case: Case) -> Sequence[Script]:
    """The whole answer, a few bytes at a time."""
    body = b"".join(case.stream(SAID))

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        await exchange.drip(body, size=max(1, len(body) // 150), pause=0.001)
        await exchange.end()

    return [script]


def drips_signs_of_life(case: Case) -> Sequence[Script]:
    """Nothing but what means nothing, for ever."""
    sign = case.write(case.strangers()[0])

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        while not exchange.gone:
            await exchange.chunk(sign)
            await asyncio.sleep(0.05)

    return [script]


def compressed(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        streams = case.streams(exchange.request)
        body = b"".join(case.stream(SAID)) if streams else case.whole(SAID)
        kind = case.content_type if streams else "application/json"
        await exchange.answer(200, gzip.compress(body), {"content-type": kind, "content-encoding": "gzip"})

    return [script]


def compressed_and_cut(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        body = gzip.compress(case.whole(SAID))
        head = {"content-type": "application/json", "content-encoding": "gzip"}
        await exchange.answer(200, body[: len(body) // 2], head)

    return [script]


def compressed_some_other_way(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        head = {"content-type": "application/json", "content-encoding": "br"}
        await exchange.answer(200, case.whole(SAID), head)

    return [script]


def goes_on_behind_the_end(case: Case) -> Sequence[Script]:
    body = b"".join(case.stream(SAID))

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        await exchange.chunk(body + b"\n\n")
        await exchange.stall()

    return [script]


def _nothing(case: Case) -> Sequence[Script]:
    return []


# ----------------------------------------------------------------------------------------------------------- the table


_MODES: tuple[Literal["unary", "stream"], ...] = ("unary", "stream")


def _f(name: str, modes: str, play: Play, code: StatusCode, reasons: str, **more: Any) -> list[Fault]:
    """The same fault in one mode or both."""
    said = frozenset([reasons] if reasons == MEANT else reasons.split())
    return [Fault(name, mode, play, code, said, **more) for mode in _MODES if mode in modes.split()]


_BOTH = "unary stream"
_STALL = {"between": (0.9, 8.0)}
_INTERRUPTED = {"partial": True, "attempts": 1}
_REFUSED = {"closes": False}

FAULTS: list[Fault] = [
    # connecting
    *_f("nobody listens", _BOTH, _nothing, StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", at=GONE),
    *_f("nobody accepts", _BOTH, _nothing, StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT", at=UNREACHABLE, **_STALL),
    # before the head
    *_f("reset before the head", _BOTH, at_once("reset"), StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    *_f("closed before the head", _BOTH, at_once("hang up"), StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    *_f("reset, then well", _BOTH, then_well(at_once("reset")), StatusCode.OK, "", attempts=ANY, closes=False),
    *_f(
        "silence before the head",
        "unary",
        at_once("stall"),
        StatusCode.UNAVAILABLE,
        "PROVIDER_TIMEOUT",
        attempt_timeout=0.5,
        **_STALL,
    ),
    *_f("silence before the head", "stream", at_once("stall"), StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT", **_STALL),
    *_f(
        "silence longer than the caller waits",
        _BOTH,
        at_once("stall"),
        StatusCode.DEADLINE_EXCEEDED,
        "",
        deadline=0.3,
        attempts=1,
        between=(0.25, 4.0),
    ),
    *_f("no HTTP", _BOTH, no_http, StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR"),
    # statuses
    *_f("400", _BOTH, answers(400), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", attempts=1, status=400, **_REFUSED),
    *_f(
        "401",
        _BOTH,
        answers(401),
        StatusCode.FAILED_PRECONDITION,
        "PROVIDER_CREDENTIALS_REJECTED",
        attempts=1,
        status=401,
        **_REFUSED,
    ),
    *_f("404", "unary", answers(404), StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", attempts=1, status=404, **_REFUSED),
    *_f(
        "413",
        "unary",
        answers(413, HTML),
        StatusCode.INVALID_ARGUMENT,
        "REQUEST_TOO_LARGE",
        attempts=1,
        status=413,
        **_REFUSED,
    ),
    *_f("429", _BOTH, answers(429), StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED", status=429, **_REFUSED),
    *_f(
        "429 for a while",
        _BOTH,
        then_well(answers(429, None, {"retry-after": "0.1"})),
        StatusCode.OK,
        "",
        between=(0.1, 8.0),
        **_REFUSED,
    ),
    *_f(
        "429 for long",
        _BOTH,
        answers(429, None, {"retry-after": "60"}),
        StatusCode.RESOURCE_EXHAUSTED,
        "PROVIDER_RATE_LIMITED",
        attempts=1,
        retry_after=60,
        between=(0.0, 4.0),
        **_REFUSED,
    ),
    *_f("500", _BOTH, answers(500), StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", status=500, **_REFUSED),
    *_f("500, then well", _BOTH, then_well(answers(500)), StatusCode.OK, "", **_REFUSED),
    *_f(
        "502 with a page",
        _BOTH,
        answers(502, HTML, {"content-type": "text/html"}),
        StatusCode.UNAVAILABLE,
        "PROVIDER_UNAVAILABLE",
        status=502,
        **_REFUSED,
    ),
    *_f("503", _BOTH, answers(503), StatusCode.UNAVAILABLE, "PROVIDER_OVERLOADED PROVIDER_UNAVAILABLE", **_REFUSED),
    *_f(
        "redirect",
        _BOTH,
        answers(307, b"", {"location": "http://127.0.0.1:9/stolen"}),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        attempts=1,
        status=307,
        **_REFUSED,
    ),
    # bodies
    *_f("half a body", "unary", half_a_body, StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED"),
    *_f("half a body, then well", "unary", then_well(half_a_body), StatusCode.OK, "", closes=False),
    *_f(
        "half a body, then silence",
        "unary",
        half_a_body_and_silence,
        StatusCode.UNAVAILABLE,
        "PROVIDER_TIMEOUT",
        attempt_timeout=0.5,
        **_STALL,
    ),
    *_f("a page", "unary", answers(200, HTML), StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR", **_REFUSED),
    *_f("nothing", "unary", answers(200, b""), StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR", **_REFUSED),
    *_f("compressed", _BOTH, compressed, StatusCode.OK, "", attempts=1, closes=False),
    *_f("compressed and cut", "unary", compressed_and_cut, StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", closes=False),
    *_f(
        "compressed in a way not asked for",
        "unary",
        compressed_some_other_way,
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        closes=False,
    ),
    # streams, before their content
    *_f(
        "an empty stream",
        "stream",
        sends(ends="end", plain=True),
        StatusCode.UNAVAILABLE,
        "STREAM_INTERRUPTED",
        closes=False,
    ),
    *_f("cut before content", "stream", sends(ends="hang up"), StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED"),
    *_f("reset before content", "stream", sends(ends="reset"), StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED"),
    *_f(
        "ended before content", "stream", sends(ends="end"), StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", closes=False
    ),
    *_f("cut before content, then well", "stream", then_well(sends(ends="hang up")), StatusCode.OK, "", closes=False),
    *_f("silence before content", "stream", sends(ends="stall"), StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT", **_STALL),
    *_f(
        "an error inside, before content",
        "stream",
        sends(then=lambda case: case.write(case.broken()[0]), ends="end"),
        StatusCode.UNAVAILABLE,
        MEANT,
        needless=frozenset({"broken_stream"}),
        closes=False,
    ),
    *_f(
        "signs of life and nothing else",
        "stream",
        drips_signs_of_life,
        StatusCode.UNAVAILABLE,
        "PROVIDER_TIMEOUT",
        needless=frozenset({"strange_events"}),
        **_STALL,
    ),
    *_f(
        "garbage",
        "stream",
        sends(then=lambda case: case.garbage(), ends="stall"),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
    ),
    *_f(
        "a line without end",
        "stream",
        sends(then=lambda case: case.endless(), ends="stall"),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        between=(0.0, 8.0),
    ),
    # streams, behind their content
    *_f(
        "cut",
        "stream",
        sends(content=True, ends="hang up"),
        StatusCode.UNAVAILABLE,
        "STREAM_INTERRUPTED",
        **_INTERRUPTED,
    ),
    *_f(
        "reset",
        "stream",
        sends(content=True, ends="reset"),
        StatusCode.UNAVAILABLE,
        "STREAM_INTERRUPTED",
        **_INTERRUPTED,
    ),
    *_f(
        "ended without its end",
        "stream",
        sends(content=True, ends="end"),
        StatusCode.UNAVAILABLE,
        "STREAM_INTERRUPTED",
        **{**_INTERRUPTED, "closes": False},
    ),
    *_f(
        "silence",
        "stream",
        sends(content=True, ends="stall"),
        StatusCode.UNAVAILABLE,
        "STREAM_INTERRUPTED",
        between=(0.45, 6.0),
        **_INTERRUPTED,
    ),
    *_f(
        "an error inside",
        "stream",
        sends(content=True, then=lambda case: case.write(case.broken()[0]), ends="stall"),
        StatusCode.UNAVAILABLE,
        MEANT,
        needless=frozenset({"broken_stream"}),
        **_INTERRUPTED,
    ),
    *_f(
        "garbage inside",
        "stream",
        sends(content=True, then=lambda case: case.garbage(), ends="stall"),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        **_INTERRUPTED,
    ),
    *_f(
        "a caller who goes away",
        "stream",
        sends(content=True, ends="stall"),
        StatusCode.CANCELLED,
        "",
        cancelled=True,
        partial=True,
        attempts=0,
        between=(0.0, 4.0),
    ),
    # odd, but well
    *_f("a few bytes at a time", "stream", drips, StatusCode.OK, "", attempts=1, closes=False),
    *_f(
        "more behind the end",
        "stream",
        goes_on_behind_the_end,
        StatusCode.OK,
        "",
        attempts=1,
        needless=frozenset({"end_marker"}),
    ),
]
