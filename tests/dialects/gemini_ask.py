"""Asks the dialect of the Gemini API for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.gemini import GeminiChat
from tests.dialects.gemini_wire import DIALECT, TARGET

HI = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
USER, ASSISTANT, TOOL, SYSTEM = v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL, v1.ROLE_SYSTEM
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")
OLDER = Target(provider="gemini", model="gemini-2.5-flash")
OLD = Target(provider="gemini", model="gemini-2.0-flash")


def request(*messages: v1.Message, **fields: Any) -> v1.ChatRequest:
    """A chat request; somebody says hi where no messages are given."""
    return v1.ChatRequest(model=str(TARGET), messages=messages or [HI], **fields)


def turn(role: v1.Role.ValueType, *parts: v1.Part | str) -> v1.Message:
    """A message; texts stand for their parts."""
    return v1.Message(role=role, parts=[v1.Part(text=part) if isinstance(part, str) else part for part in parts])


def call_of(
    asked: v1.ChatRequest, target: Target = TARGET, dialect: GeminiChat = DIALECT, *, stream: bool = False
) -> HttpCall:
    """The call that a request becomes."""
    return dialect.encode(asked, target, stream=stream)


def body_of(asked: v1.ChatRequest, target: Target = TARGET, dialect: GeminiChat = DIALECT) -> dict[str, Any]:
    """The body of that call, parsed."""
    body: dict[str, Any] = json.loads(call_of(asked, target, dialect).body)
    return body


def contents_of(*messages: v1.Message, target: Target = TARGET, dialect: GeminiChat = DIALECT) -> list[Any]:
    """The contents of the messages."""
    contents: list[Any] = body_of(request(*messages), target, dialect)["contents"]
    return contents


def parts_of(*messages: v1.Message, target: Target = TARGET, dialect: GeminiChat = DIALECT) -> list[Any]:
    """All parts of the messages."""
    return [part for content in contents_of(*messages, target=target, dialect=dialect) for part in content["parts"]]


def config_of(asked: v1.ChatRequest, target: Target = TARGET) -> dict[str, Any]:
    """Its `generationConfig`; empty if there is none."""
    config: dict[str, Any] = body_of(asked, target).get("generationConfig", {})
    return config


def warned(asked: v1.ChatRequest, target: Target = TARGET, dialect: GeminiChat = DIALECT) -> list[tuple[str, str]]:
    """Fields and codes of the warnings."""
    return [(warning.field, warning.code) for warning in call_of(asked, target, dialect).warnings]


def function(name: str, **fields: Any) -> v1.Tool:
    """A function to offer."""
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


def native(**tool: Any) -> v1.Tool:
    """A tool of the provider's own."""
    return v1.Tool(provider_tool=v1.ProviderTool(provider="gemini", json=json.dumps(tool)))


def called(id: str, name: str = "weather", arguments: str = '{"city":"Oslo"}', **fields: Any) -> v1.Part:
    """A call in the history."""
    return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments_json=arguments), **fields)


def result(id: str, *parts: v1.Part | str, name: str = "", is_error: bool = False) -> v1.Part:
    """The result of a call; texts stand for their parts."""
    said = [v1.Part(text=part) if isinstance(part, str) else part for part in parts]
    return v1.Part(tool_result=v1.ToolResult(tool_call_id=id, name=name, parts=said, is_error=is_error))


def state(data: bytes = b"c2lnbmVk", provider: str = "gemini", model: str = TARGET.model) -> v1.ReplayState:
    """What a provider attached to a part."""
    return v1.ReplayState(provider=provider, model=model, data=data)
