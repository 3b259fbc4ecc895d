"""Asks the Responses dialect for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.dialects.responses_wire import OPENAI, SERVER

PLAIN = Target("openai", "gpt-4.1")


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def assistant(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)


def text(words: str, **rest: Any) -> v1.Part:
    return v1.Part(text=words, **rest)


def called(id: str = "call_1", name: str = "f", arguments: str = "{}", **rest: Any) -> v1.Part:
    return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments_json=arguments), **rest)


def result(*parts: v1.Part, id: str = "call_1", **rest: Any) -> v1.Message:
    told = v1.ToolResult(tool_call_id=id, parts=parts, **rest)
    return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=told)])


def call(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: ResponsesQuirks | None = None, *, stream: bool = False
) -> HttpCall:
    if not request.messages:
        request.messages.append(user(text("hi")))
    return OpenAIResponses(quirks).encode(request, target, stream=stream)


def body(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: ResponsesQuirks | None = None, *, stream: bool = False
) -> Any:
    return json.loads(call(request, target, quirks, stream=stream).body)


def items(*said: v1.Message, quirks: ResponsesQuirks | None = None) -> Any:
    target = OPENAI if quirks is None else SERVER
    return body(v1.ChatRequest(messages=said), target, quirks)["input"]


def left_out(made: HttpCall) -> dict[str, str]:
    return {warning.field: warning.code for warning in made.warnings}
