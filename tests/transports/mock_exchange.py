"""Ask a mock transport as a gateway would, and read its answers with nothing but a JSON parser."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

from parley_server.transports.base import Incoming, Outgoing, Transport
from parley_server.transports.mock import MockModel, MockTransport

BASE_URL = "http://mock.invalid/v1"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Lisbon", "Oslo"]},
                "days": {"type": "integer", "minimum": 2},
            },
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALLS = {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "clock", "arguments": "{}"}]}


class FakeSleep:
    """Sleeps no time at all, and remembers how long it should have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def mock(**settings: Any) -> MockTransport:
    """A transport with one model, `m`, and no real waiting."""
    return MockTransport({"m": MockModel.model_validate(settings)}, sleep=FakeSleep())


def slept(transport: MockTransport) -> list[float]:
    """What the transport's fake sleep was asked for."""
    assert isinstance(transport._sleep, FakeSleep)
    return transport._sleep.slept


def asking(path: str, body: Any = None, *, base_url: str = BASE_URL) -> Outgoing:
    """A request; a GET without a body."""
    if body is None:
        return Outgoing("GET", f"{base_url}{path}", {}, b"")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Outgoing("POST", f"{base_url}{path}", {"content-type": "application/json"}, content)


def chat_body(text: str | list[dict[str, Any]] = "hello there", **fields: Any) -> dict[str, Any]:
    """A chat request: one user text, or all messages."""
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
    return {"model": "m", "messages": messages, **fields}


async def send(transport: Transport, path: str, body: Any = None) -> Incoming:
    """The response, its body unread."""
    return await transport.send(asking(path, body), connect_timeout=1)


async def ask(transport: Transport, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and parsed body."""
    incoming = await send(transport, path, body)
    async with aclosing(incoming):
        return incoming.status, json.loads(await incoming.read(1 << 30))


async def say(transport: Transport, text: str | list[dict[str, Any]] = "hello there", **fields: Any) -> Any:
    """The whole answer to a chat request, which must be a good one."""
    status, answer = await ask(transport, "/chat/completions", chat_body(text, **fields))
    assert status == 200, answer
    return answer


async def message(transport: Transport, text: str | list[dict[str, Any]] = "hello there", **fields: Any) -> Any:
    """The message of the whole answer."""
    return (await say(transport, text, **fields))["choices"][0]["message"]


async def stream_bytes(transport: Transport, text: str = "hello there", **fields: Any) -> bytes:
    """The bytes of a stream."""
    incoming = await send(transport, "/chat/completions", chat_body(text, stream=True, **fields))
    async with aclosing(incoming):
        assert incoming.status == 200
        return await incoming.read(1 << 30)


def parse_events(body: bytes) -> list[Any]:
    """The parsed events of a stream; `[DONE]` as it stands."""
    *frames, rest = body.split(b"\n\n")
    assert rest == b""
    assert all(frame.startswith(b"data: ") for frame in frames)
    return ["[DONE]" if frame == b"data: [DONE]" else json.loads(frame[6:]) for frame in frames]


async def stream(transport: Transport, text: str = "hello there", **fields: Any) -> list[Any]:
    """The events of a stream."""
    return parse_events(await stream_bytes(transport, text, **fields))


def deltas(events: list[Any], field: str) -> list[Any]:
    """All values of a field in the deltas of a stream."""
    choices = [event["choices"][0] for event in events if event != "[DONE]" and event["choices"]]
    return [choice["delta"][field] for choice in choices if choice["delta"].get(field)]


def named(name: str) -> dict[str, Any]:
    """The choice of one tool, and the mention of one among those allowed."""
    return {"type": "function", "function": {"name": name}}
