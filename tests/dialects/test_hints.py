"""When to come back, and words that may be repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.dialects.hints import go_duration, provider_text, retry_after

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "20"}, 20),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": NOW}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:00:00 GMT", "date": NOW}, 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "9"}, None),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "20ms",
                "x-ratelimit-remaining-tokens": "0",
            },
            1,
        ),
        ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1),  # Azure
        ({"retry-after-ms": "0"}, None),
        ({"x-ratelimit-reset": "1792567740", "x-ratelimit-remaining": "0", "date": NOW}, 60),
        ({"x-ratelimit-reset": "1792567740000", "x-ratelimit-remaining": "0", "date": NOW}, 60),
        ({"x-ratelimit-reset": "1792567000", "x-ratelimit-remaining": "0", "date": NOW}, 0),
        ({"x-ratelimit-reset-requests": "1792567740"}, None),
        ({"x-ratelimit-reset": "1792567740", "x-ratelimit-remaining": "3", "date": NOW}, None),
    ],
)
def test_wait_that_headers_ask_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1h2m3s", 3723), ("7", 7), ("", None), ("1d", None), ("ms", None)],
)
def test_durations_as_go_prints_them(text: str, seconds: float | None) -> None:
    assert go_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop",
        "sk-ant-api03-abcDEF_123-456",
        "bad-key-**********test",
        "gsk_AbCdEfGhIjKlMnOp",
        "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_DEF-123",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_credentials_are_not_repeated(secret: str) -> None:
    said = provider_text(f"Incorrect API key provided: {secret}. You can find it at https://platform.example.com/keys.")
    assert secret not in said
    assert "https://platform.example.com/keys" in said


@pytest.mark.parametrize(
    "text",
    ["authorization: Bearer abcdefgh", '{"api_key": "hunter2hunter2"}', "https://user:secretword@host/path"],
)
def test_named_credentials_are_not_repeated(text: str) -> None:
    said = provider_text(text)
    assert not any(word in said for word in ("abcdefgh", "hunter2", "secretword"))


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-5.2-proo` does not exist or you do not have access to it.",
        "Rate limit reached for gpt-4o in organization org-abc123 on tokens per min (TPM): Limit 30000, Used 29000.",
        "maximum context length is 8192 tokens; request id req_011CSHoEeqs5C35K2UUqR7Fy",
    ],
)
def test_plain_words_are_kept(text: str) -> None:
    assert provider_text(text) == text


@given(st.text(max_size=3000))
def test_text_is_one_short_line_of_valid_utf8(text: str) -> None:
    said = provider_text(text)
    assert len(said.encode()) <= 512
    assert "\n" not in said


def test_cut_falls_between_code_points() -> None:
    said = provider_text("é" * 600)
    assert said.endswith("é…")
    assert 509 <= len(said.encode()) <= 512
