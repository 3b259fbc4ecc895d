"""What is asked, 1 KiB of it, and what the mock upstream says to that."""

from __future__ import annotations

from typing import Any

from parley import v1

_SYSTEM = "You are a helpful assistant. " * 4
_USER = ("Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 40)[:884]
_TEXT = "the quick brown fox jumps over the lazy dog while seven wizards brew "  # TEXT of mock_upstream.c


def request(model: str, number: int = 0) -> v1.ChatRequest:
    """A short conversation with two of the usual options; another one for each number."""
    return v1.ChatRequest(
        model=model,
        messages=[
            v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text=_SYSTEM)]),
            v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=f"{_USER}{number or ''}")]),
        ],
        sampling=v1.SamplingOptions(temperature=0.7, max_output_tokens=256),
    )


def openai(model: str, *, stream: bool) -> dict[str, Any]:
    """The same conversation for OpenAI's chat completions, usage included."""
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256}
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body


def answer(length: int) -> str:
    """The first `length` characters of what the mock upstream says."""
    return (_TEXT * (length // len(_TEXT) + 1))[:length]
