"""Asks Converse for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from tests.dialects.bedrock_wire import CLAUDE, DIALECT

USER, ASSISTANT, TOOL, SYSTEM = v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL, v1.ROLE_SYSTEM
HI = v1.Message(role=USER, parts=[v1.Part(text="hi")])
PNG = v1.Part(image=v1.ImagePart(source=v1.MediaSource(data=b"\x89PNG", mime_type="image/png")))
CALL = v1.Part(tool_call=v1.ToolCall(id="c1", name="f", arguments_json='{"x":1}'))


def request(*messages: v1.Message, **fields: Any) -> v1.ChatRequest:
    """A chat request; somebody says hi where no messages are given."""
    return v1.ChatRequest(model="bedrock/m", messages=messages or [HI], **fields)


def turn(role: v1.Role.ValueType, *parts: v1.Part | str) -> v1.Message:
    """A message; texts stand for their parts."""
    return v1.Message(role=role, parts=[v1.Part(text=part) if isinstance(part, str) else part for part in parts])


def result(*parts: v1.Part | str, id: str = "c1", is_error: bool = False) -> v1.Part:
    """The result of a call."""
    return v1.Part(
        tool_result=v1.ToolResult(tool_call_id=id, parts=turn(TOOL, *parts).parts, is_error=is_error),
    )


def pdf(title: str = "", mime_type: str = "application/pdf") -> v1.Part:
    """A document."""
    source = v1.MediaSource(data=b"%PDF", mime_type=mime_type)
    return v1.Part(document=v1.DocumentPart(source=source, title=title))


def cached(part: v1.Part | str, seconds: int = 0) -> v1.Part:
    """A part with a cache breakpoint behind it."""
    marked = v1.Part(text=part) if isinstance(part, str) else v1.Part.FromString(part.SerializeToString())
    marked.cache_breakpoint.SetInParent()
    if seconds:
        marked.cache_breakpoint.ttl.FromSeconds(seconds)
    return marked


def call_of(asked: v1.ChatRequest, target: Target = CLAUDE, *, stream: bool = False) -> HttpCall:
    """The call that a request becomes."""
    return DIALECT.encode(asked, target, stream=stream)


def body_of(asked: v1.ChatRequest, target: Target = CLAUDE) -> dict[str, Any]:
    """The body of that call, parsed."""
    body: dict[str, Any] = json.loads(call_of(asked, target).body)
    return body


def turns_of(*messages: v1.Message, target: Target = CLAUDE) -> list[tuple[str, list[Any]]]:
    """Roles and contents of the body's turns."""
    return [(said["role"], said["content"]) for said in body_of(request(*messages), target)["messages"]]


def warned(asked: v1.ChatRequest, target: Target = CLAUDE) -> list[tuple[str, str]]:
    """Fields and codes of the warnings."""
    return [(warning.field, warning.code) for warning in call_of(asked, target).warnings]


def function(name: str, **fields: Any) -> v1.Tool:
    """A function to offer."""
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


def native(**tool: Any) -> v1.Tool:
    """A tool of the provider's own."""
    return v1.Tool(provider_tool=v1.ProviderTool(provider="bedrock", json=json.dumps(tool)))
