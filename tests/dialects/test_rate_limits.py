"""What providers say is left of their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.dialects.rate_limits import RateLimit, rate_limits, what_is_left

DATE = "Tue, 24 Nov 2026 12:00:00 GMT"
NOON = 1795521600

SAID = {
    "openai": (
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "2000000",
            "x-ratelimit-remaining-tokens": "1999990",
            "x-ratelimit-reset-tokens": "1m0.5s",
        },
        [RateLimit("requests", "", 10000, 9999, 0.006), RateLimit("tokens", "", 2000000, 1999990, 60.5)],
    ),
    "anthropic": (
        {
            "date": DATE,
            "anthropic-ratelimit-input-tokens-limit": "400000",
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2026-11-24T12:00:30Z",
        },
        [RateLimit("input-tokens", "", 400000, 0, 30.0)],
    ),
    "mistral": (
        {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59"},
        [RateLimit("requests", "minute", 60, 59)],
    ),
    "cerebras": (
        {"x-ratelimit-remaining-requests-day": "14390", "x-ratelimit-reset-requests-day": "33011.38"},
        [RateLimit("requests", "day", None, 14390, 33011.38)],
    ),
    "openrouter": (
        {"date": DATE, "x-ratelimit-limit": "20", "x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOON}500"},
        [RateLimit("requests", "", 20, 3, 0.5)],
    ),
    "unix seconds": (
        {"date": DATE, "ratelimit-remaining": "2999", "ratelimit-reset": f"{NOON + 1}"},
        [RateLimit("requests", "", None, 2999, 1.0)],
    ),
    "a time without a date": (
        {"ratelimit-remaining": "1", "ratelimit-reset": f"{NOON}"},
        [RateLimit("requests", "", None, 1)],
    ),
    "numbers with a fraction": ({"x-ratelimit-remaining-tokens": "12.5"}, [RateLimit("tokens", "", None, 12)]),
    "words": ({"x-ratelimit-limit-tokens": "many", "x-ratelimit-reset-tokens": "soon"}, []),
    "other headers": ({"x-ratelimit-renewalperiod-tokens": "60", "retry-after": "1"}, []),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_left(case: str) -> None:
    headers, limits = SAID[case]
    assert rate_limits(headers) == limits
    quick = [(left.resource, left.window, left.remaining, left.reset()) for left in what_is_left(headers)]
    told = [(one.resource, one.window, one.remaining, one.reset) for one in limits if one.remaining is not None]
    assert sorted(quick, key=str) == sorted(told, key=str)


@given(st.dictionaries(st.sampled_from([name for headers, _ in SAID.values() for name in headers]), st.text()))
def test_whatever_stands_there(headers: dict[str, str]) -> None:
    for limit in rate_limits(headers):
        assert all(number is None or number >= 0 for number in (limit.limit, limit.remaining, limit.reset))
