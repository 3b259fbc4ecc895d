"""What can go wrong, and how the call must end then: the status and reason of the error model, within the clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from grpc import StatusCode

from tests.contract.case import Case, Mode, Step
from tests.contract.said import Lack
from tests.faults.plays import (
    Play,
    answers,
    at_once,
    compressed,
    compressed_and_cut,
    compressed_some_other_way,
    drips,
    drips_signs_of_life,
    goes_on_behind_the_end,
    half_a_body,
    half_a_body_and_silence,
    no_http,
    sends,
    then_well,
)
from tests.upstream import Script

CLOCKS = {"connect": 0.6, "first_content": 1.0, "idle": 1.0, "total": 15.0}
ATTEMPTS = 2
"""At one target."""
ANY = -1
"""So many attempts: a kept connection that breaks is no attempt, and whether one was kept is chance."""
HTML = b"<html><head><title>Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
MEANT = "(what it means)"
"""The reason of the class that the case gives for its broken event."""
_PATIENT = 30.0  # seconds for two attempts that ask again and again, usually seven
GONE, UNREACHABLE = "gone", "unreachable"
"""Faults of addresses instead of scripts: nobody listens there, or nobody accepts."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. An answer is expected if `code` is OK."""

    name: str
    mode: Mode
    """Whether the answer in which it happens is a stream."""
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
    silent: bool = False
    """Time runs out: a clock rings, or the caller leaves."""
    inside: bool = False
    """A stream is well as a stream, and what it says is not."""
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


def faced(fault: Fault, step: Step) -> Fault:
    """What becomes of it at one of several calls, which may be one that the turn gets over."""
    well = replace(
        fault, code=StatusCode.OK, reasons=frozenset(), attempts=1, partial=False, between=(0.0, 8.0), retry_after=None
    )
    least = fault.between[0]
    match step.bearing:
        case "vital":
            return fault
        case "detour":
            return fault if fault.silent or fault.inside else well
        case "help":
            return fault if fault.silent or "PROVIDER_CREDENTIALS_REJECTED" in fault.reasons else well
        case "patient" if fault.code is StatusCode.OK:
            return well
        case "patient" if fault.retry_after is not None:  # longer than the attempt may take
            late = replace(well, code=StatusCode.UNAVAILABLE, reasons=frozenset({"PROVIDER_TIMEOUT"}), status=None)
            return replace(late, attempts=ATTEMPTS, attempt_timeout=1.0, between=(2.0, 8.0))
        case "patient":  # made after a while only
            deadline = fault.deadline and fault.deadline + 1.0
            return replace(fault, between=(least, _PATIENT), deadline=deadline)
        case "spare" if fault.deadline is not None:
            return replace(fault, partial=True)
        case "spare":
            return replace(well, attempt_timeout=None)


def _nothing(case: Case) -> Sequence[Script]:
    return []


# ----------------------------------------------------------------------------------------------------------- the table


MODES: tuple[Mode, ...] = ("unary", "stream")


def _f(name: str, modes: str, play: Play, code: StatusCode, reasons: str, **more: Any) -> list[Fault]:
    """The same fault in one mode or both."""
    said = frozenset([reasons] if reasons == MEANT else reasons.split())
    return [Fault(name, mode, play, code, said, **more) for mode in MODES if mode in modes.split()]


_BOTH = "unary stream"
_STALL = {"between": (0.9, 8.0), "silent": True}
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
        silent=True,
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
        inside=True,
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
        inside=True,
        needless=frozenset({"unreadable_events"}),
    ),
    *_f(
        "a line without end",
        "stream",
        sends(then=lambda case: case.endless(), ends="stall"),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        inside=True,
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
        silent=True,
        between=(0.45, 6.0),
        **_INTERRUPTED,
    ),
    *_f(
        "an error inside",
        "stream",
        sends(content=True, then=lambda case: case.write(case.broken()[0]), ends="stall"),
        StatusCode.UNAVAILABLE,
        MEANT,
        inside=True,
        needless=frozenset({"broken_stream"}),
        **_INTERRUPTED,
    ),
    *_f(
        "garbage inside",
        "stream",
        sends(content=True, then=lambda case: case.garbage(), ends="stall"),
        StatusCode.INTERNAL,
        "PROVIDER_PROTOCOL_ERROR",
        inside=True,
        needless=frozenset({"unreadable_events"}),
        **_INTERRUPTED,
    ),
    *_f(
        "a caller who goes away",
        "stream",
        sends(content=True, ends="stall"),
        StatusCode.CANCELLED,
        "",
        cancelled=True,
        silent=True,
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
