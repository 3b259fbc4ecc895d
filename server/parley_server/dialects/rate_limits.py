"""Reads how much of its rate limits a provider says is left.

Pure: times are measured from the response's own `Date` header, never from a clock. Providers that say nothing of their
limits (Gemini, Bedrock, local servers) give an empty list.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from parley_server.dialects.hints import go_duration

_NAME = re.compile(
    r"""
      x-ratelimit-(?P<what>limit|remaining|reset)
        (?: -(?P<of>requests|req|tokens|input-tokens|output-tokens) (?: -(?P<window>minute|hour|day|month))? )?
    | anthropic-ratelimit-(?P<of2>requests|tokens|input-tokens|output-tokens)-(?P<what2>limit|remaining|reset)
    | ratelimit-(?P<what3>limit|remaining|reset)
    """,
    re.VERBOSE,
)
_UNIX_SECONDS = 1e9  # a reset above this is a point in time, not a duration
_UNIX_MILLISECONDS = 1e12


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as it stood when the provider answered. None: not told."""

    resource: str
    """"requests", "tokens", "input-tokens" or "output-tokens"."""
    window: Literal["", "minute", "hour", "day", "month"] = ""
    """Over how long it holds, where the name of the header says so."""
    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    """Seconds from the answer until it is full again."""


@dataclass(slots=True)
class Left:
    """What is left of one limit: the part of `RateLimit` that is worth reading with every answer."""

    resource: str
    window: str
    remaining: int
    stated_reset: str
    date: str

    def reset(self) -> float | None:
        """Seconds from the answer until it is full again."""
        return _reset(self.stated_reset, self.date)


def what_is_left(headers: Mapping[str, str]) -> list[Left]:
    """How much is left of the limits that response headers (names in lower case) tell of."""
    found: list[Left] = []
    for name in headers:
        if "ratelimit" in name and (known := _known(name)) is not None and known[1] == "remaining":
            remaining = _count(headers[name])
            if remaining is not None:
                resource, window = known[0]
                reset = headers.get(name.replace("remaining", "reset"), "").strip()
                found.append(Left(resource, window, remaining, reset, headers.get("date", "")))
    return found


def rate_limits(headers: Mapping[str, str]) -> list[RateLimit]:
    """The limits that response headers (names in lower case) tell of, in the order of resource and window."""
    told: dict[tuple[str, str], dict[str, str]] = {}
    for name in headers:
        if "ratelimit" in name and (known := _known(name)) is not None:
            limit, what = known
            told.setdefault(limit, {})[what] = headers[name].strip()
    if not told:
        return []
    date = headers.get("date", "")
    limits = [_limit(resource, window, said, date) for (resource, window), said in sorted(told.items())]
    return [limit for limit in limits if limit.limit is not None or limit.remaining is not None]


@functools.lru_cache(maxsize=256)
def _known(name: str) -> tuple[tuple[str, str], str] | None:
    """Of a header's name: resource and window of the limit, and what of it the header tells."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    of = match["of"] or match["of2"] or "requests"
    resource = "requests" if of == "req" else of
    return (resource, match["window"] or ""), match["what"] or match["what2"] or match["what3"]


def _limit(resource: str, window: str, said: Mapping[str, str], date: str) -> RateLimit:
    return RateLimit(
        resource=resource,
        window=window,  # type: ignore[arg-type]  # the pattern knows no others
        limit=_count(said.get("limit", "")),
        remaining=_count(said.get("remaining", "")),
        reset=_reset(said.get("reset", ""), date),
    )


def _count(text: str) -> int | None:
    try:
        return max(int(float(text)), 0)
    except (ValueError, OverflowError):
        return None


def _reset(text: str, date: str) -> float | None:
    """A Go duration, seconds, a Unix time in seconds or milliseconds, or an RFC 3339 time."""
    seconds = go_duration(text)
    try:
        if seconds is None:
            then = datetime.fromisoformat(text).timestamp()
        elif seconds > _UNIX_SECONDS:
            then = seconds / 1000 if seconds > _UNIX_MILLISECONDS else seconds
        else:
            return seconds
        return max(then - parsedate_to_datetime(date).timestamp(), 0.0)
    except (ValueError, TypeError):  # no time, or no `Date` to measure it from
        return None
