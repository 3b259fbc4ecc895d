"""Reads what providers say beside their answers: when to come back, and words that may be repeated.

Pure: a `Retry-After` date is measured from the response's own `Date` header, never from a clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_MESSAGE_BYTES = 512  # v1.ProviderError.message
_LONGEST_READ = 8192  # characters of a message that are looked at at all

_CREDENTIALS = re.compile(
    r"""
      # keys with a prefix, masked ones too
      \b (?:sk|pk|rk|key|gsk|xai|hf|r8|pplx|nvapi|csk|ghp|gho|AKIA|ASIA|AIza) [-_A-Z0-9] [-\w*.]{6,}
      # JSON web tokens
    | \b eyJ [\w-]{8,} \. [\w-]{8,} (?:\.[\w-]*)?
      # user:password in a URL
    | (?<=://) [^\s/@:]+ : [^\s/@]+ (?=@)
      # long random words
    | (?<![\w-]) (?=[A-Za-z]*\d) (?=\d*[A-Za-z]) [A-Za-z0-9]{32,} (?![\w-])
    """,
    re.VERBOSE,
)
_NAMED_CREDENTIALS = re.compile(
    r"""
    ( \b (?: bearer \s+ | (?: api[-_\ ]?key | access[-_\ ]?token | password | secret ) ["']? \s* [:=] \s* ["']? ) )
    [^\s"',;}]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GO_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_LIMITS = ("-requests", "-tokens", "")
_POINT_IN_TIME = 1e9  # a reset above this is Unix time, in milliseconds where it is a thousand times more


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait at least, as the headers (names in lower case) say; None if they say nothing usable.

    `retry-after-ms` (Azure says 0 where it means nothing by it), then `retry-after` (seconds or HTTP date), then the
    longest `x-ratelimit-reset-*` of the limits that have nothing left.
    """
    if milliseconds := _number(headers.get("retry-after-ms", "")):
        return milliseconds / 1000
    stated = headers.get("retry-after", "").strip()
    if (seconds := _number(stated)) is not None:
        return seconds
    if stated and (pause := _until(stated, headers.get("date", ""))) is not None:
        return pause
    resets = [
        _reset(headers.get(f"x-ratelimit-reset{limit}", ""), headers.get("date", ""))
        for limit in _LIMITS
        if headers.get(f"x-ratelimit-remaining{limit}", "0").strip() == "0"
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def go_duration(text: str) -> float | None:
    """Seconds of a duration as Go prints it (`6m0s`, `20ms`, `2m59.56s`) or of a plain number; else None."""
    text = text.strip()
    match = _GO_DURATION.fullmatch(text)
    if not text or match is None:
        return _number(text)
    hours, minutes, seconds, milliseconds = (float(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def provider_text(message: str) -> str:
    """Words of a provider as they may leave the gateway: one line, without credentials, at most 512 bytes of UTF-8."""
    line = " ".join(message[:_LONGEST_READ].split())
    line = _NAMED_CREDENTIALS.sub(r"\1[redacted]", line)
    line = _CREDENTIALS.sub("[redacted]", line)
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= _MESSAGE_BYTES:
        return encoded.decode()
    return encoded[: _MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "…"


def _reset(text: str, now: str) -> float | None:
    """Seconds until a limit is full again: it is told as a duration, or as a point in time."""
    reset = go_duration(text)
    if reset is None or reset < _POINT_IN_TIME:
        return reset
    try:
        return max(reset / (1000 if reset > 1000 * _POINT_IN_TIME else 1) - parsedate_to_datetime(now).timestamp(), 0.0)
    except (ValueError, TypeError):  # no date to measure from
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _until(then: str, now: str) -> float | None:
    try:
        return max((parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # not dates, or one with and one without a zone
        return None
