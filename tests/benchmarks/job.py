"""What a load driver is told to do, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Job:
    """`requests` calls in a closed loop, `in_flight` of them at any time, each answered with `length` characters."""

    kind: Literal["chat", "stream"]
    address: str
    model: str
    requests: int
    in_flight: int
    length: int
    variety: int = 1
    """Different prompts that take turns."""
    first: int = 0
    """Which of them is the first."""
    cancel: bool = False
    """Cancel each stream when its first text has come."""
    pause: float = 0.0
    """Seconds a slow reader waits after the first text; a hundredth of it after every message."""
    api: Literal["parley", "openai"] = "parley"
    """Ours over gRPC, or OpenAI's chat completions over HTTP, which is what others speak."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each call; names in lower case."""


@dataclass
class Result:
    """`messages` that came, for all calls together. `error`: what went wrong, empty if nothing."""

    messages: int = 0
    error: str = ""


def check(text: str, expected: str) -> None:
    """Raises ValueError unless what came back is what was sent."""
    if text != expected:
        raise ValueError(f"{len(text)} characters came back instead of {len(expected)}, or others: {text[:60]!r}")
