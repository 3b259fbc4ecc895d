"""Asks the dialect of Ollama for the call of a request, for tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.base import HttpCall
from tests.dialects.ollama_wire import DIALECT, TARGET

ASSISTANT = v1.ROLE_ASSISTANT
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")


def user(*parts: v1.Part) -> v1.Message:
    """A message of the user."""
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def text(words: str) -> v1.Part:
    """A part of text."""
    return v1.Part(text=words)


def made(request: v1.ChatRequest, *, stream: bool = False) -> HttpCall:
    """The call that a request becomes; somebody says hi where it has no messages."""
    if not request.messages:
        request.messages.append(user(text("hi")))
    return DIALECT.encode(request, TARGET, stream=stream)


def body(request: v1.ChatRequest, *, stream: bool = False) -> Any:
    """The body of that call, parsed."""
    return json.loads(made(request, stream=stream).body)


def messages(*said: v1.Message) -> Any:
    """The messages of the body."""
    return body(v1.ChatRequest(messages=said))["messages"]


def left_out(request: v1.ChatRequest) -> dict[str, str]:
    """Field and code of each warning."""
    return {warning.field: warning.code for warning in made(request).warnings}


def refused(request: v1.ChatRequest) -> list[str]:
    """The fields for which the request is refused."""
    with pytest.raises(UnsupportedParameter) as error:
        made(request)
    return [violation.field for violation in error.value.violations]
