"""Credentials do not get out; everything else does."""

from __future__ import annotations

import pytest

from parley_server.core.scrub import scrub

SECRET = "abcDEF0123456789abcDEF0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: sk-{SECRET}. You can find your key at https://example.com",
        f"sk-proj-{SECRET}_{SECRET}",
        f"sk-ant-api03-{SECRET}-{SECRET}AA",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Bearer {SECRET}'}}",
        f'{{"x-api-key": "{SECRET}"}}',
        f"x-api-key={SECRET}",
        f"api-key: {SECRET}",
        f"https://host/v1/models?key={SECRET}&alt=sse",
        f"https://host/x?a=1&X-Amz-Signature={SECRET}",
        f"redis://user:{SECRET}@host:6379/0",
        f"AIza{SECRET}abc",
        "AKIAIOSFODNN7EXAMPLE" + SECRET,
        f"hf_{SECRET}",
        f"gsk_{SECRET}",
        f"xai-{SECRET}",
        f"ya29.{SECRET}",
        f"ghp_{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJ{SECRET}.{SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_credential_is_redacted(text: str) -> None:
    clean = scrub(text)
    assert SECRET not in clean
    assert SECRET[:12] not in clean
    assert "[redacted]" in clean


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-5.1` does not exist",
        "Rate limit reached for gpt-4o in organization org-abc123 on tokens per min",
        "messages.0.content: Input should be a valid string",
        "a bearer of bad news, basic training, the task-list and a risk-free desk-top",
        "https://host/path?keyword=cats&page=2",
        "call_0 toolu_01A09q90qw90lq917835lq9 resp_01j9z",
        "maximum context length is 128000 tokens; sk- is a prefix",
        "http://127.0.0.1:8080/v1 answered 503",
        "",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert scrub(text) == text


def test_what_introduces_a_credential_stays() -> None:
    assert scrub(f"sent Authorization: Bearer {SECRET} to https://h/?key={SECRET}&a=1") == (
        "sent Authorization: Bearer [redacted] to https://h/?key=[redacted]&a=1"
    )


def test_scrubbing_twice_changes_nothing() -> None:
    once = scrub(f"Bearer {SECRET} sk-{SECRET} ?key={SECRET}")
    assert scrub(once) == once


def test_a_long_hostile_text_takes_linear_time() -> None:
    for seed in ("a.", "sk", "://a:", "Bearer ", "-----BEGIN ", "eyJ", "x-api-key:"):
        scrub(seed * 20_000)
