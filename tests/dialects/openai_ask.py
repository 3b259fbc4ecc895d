"""Asks the dialect of OpenAI for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.openai_chat import OpenAIChat, Quirks

OPENAI = Target("openai", "gpt-4o")
SERVER = Target("local", "some-model")
COMPATIBLE = Quirks.compatible()


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def text(words: str) -> v1.Part:
    return v1.Part(text=words)


def call(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: Quirks | None = None, *, stream: bool = False
) -> HttpCall:
    if not request.messages:
        request.messages.append(user(text("hi")))
    return OpenAIChat(quirks).encode(request, target, stream=stream)


def body(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: Quirks | None = None, *, stream: bool = False
) -> Any:
    return json.loads(call(request, target, quirks, stream=stream).body)


def messages(*said: v1.Message, quirks: Quirks | None = None) -> Any:
    target = OPENAI if quirks is None else SERVER
    return body(v1.ChatRequest(messages=said), target, quirks)["messages"]


def left_out(made: HttpCall) -> dict[str, str]:
    return {warning.field: warning.code for warning in made.warnings}
