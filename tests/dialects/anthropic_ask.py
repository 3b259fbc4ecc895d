"""Asks the dialect of the Messages API for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from tests.dialects.anthropic_wire import DIALECT, TARGET

HI = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
USER, ASSISTANT, TOOL, SYSTEM = v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL, v1.ROLE_SYSTEM
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")


def request(*messages: v1.Message, **fields: Any) -> v1.ChatRequest:
    """A chat request; somebody says hi where no messages are given."""
    return v1.ChatRequest(model="anthropic/claude-sonnet-4-5", messages=messages or [HI], **fields)


def turn(role: v1.Role.ValueType, *parts: v1.Part | str) -> v1.Message:
    """A message; texts stand for their parts."""
    return v1.Message(role=role, parts=[v1.Part(text=part) if isinstance(part, str) else part for part in parts])


def call_of(asked: v1.ChatRequest, target: Target = TARGET, *, stream: bool = False) -> HttpCall:
    """The call that a request becomes."""
    return DIALECT.encode(asked, target, stream=stream)


def body_of(asked: v1.ChatRequest, target: Target = TARGET) -> dict[str, Any]:
    """The body of that call, parsed."""
    body: dict[str, Any] = json.loads(call_of(asked, target).body)
    return body


def blocks_of(*messages: v1.Message) -> list[Any]:
    """All blocks of content of the messages."""
    return [block for said in body_of(request(*messages))["messages"] for block in said["content"]]


def warned(asked: v1.ChatRequest, target: Target = TARGET) -> list[tuple[str, str]]:
    """Fields and codes of the warnings."""
    return [(warning.field, warning.code) for warning in call_of(asked, target).warnings]


def function(name: str, **fields: Any) -> v1.Tool:
    """A function to offer."""
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


def native(**tool: Any) -> v1.Tool:
    """A tool of the provider's own."""
    return v1.Tool(provider_tool=v1.ProviderTool(provider="anthropic", json=json.dumps(tool)))
