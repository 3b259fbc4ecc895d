"""A message of the Messages API as a `ChatResponse`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.anthropic.answers import (
    LONG_NUMBER,
    NONSENSE,
    closing_state,
    end,
    opaque,
    opened,
    route,
    trailers,
    usage,
)
from parley_server.dialects.base import load_object


def decode(body: bytes, target: Target) -> v1.ChatResponse:
    """The answer. Raises ProtocolError if `body` is no message."""
    message = _load(body)
    try:
        response = v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=_parts(message, target)),
            usage=usage(message["usage"], v1.Usage.SOURCE_PROVIDER) if message.get("usage") else None,
            route=route(message),
            **end(message),
        )
    except NONSENSE as error:
        raise ProtocolError("the provider's answer is not a message") from error
    return response


def _load(body: bytes) -> dict[str, Any]:
    """`body` as an object. Integers beyond 64 bits, which orjson would round, go the slow way."""
    if LONG_NUMBER.search(body):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("the provider's answer is not JSON") from error
        if isinstance(value, dict):
            return value
    return load_object(body)


def _parts(message: Mapping[str, Any], target: Target) -> Iterator[v1.Part]:
    for index, block in enumerate(message["content"]):
        part = opened(block, message.get("id", ""), index, target)
        if part is None:
            yield opaque(block, target)
            continue
        state = closing_state(block, target)
        if state is not None:
            part.replay_state.CopyFrom(state)
        if part.WhichOneof("kind") == "tool_call" and not part.tool_call.arguments_json:
            part.tool_call.arguments_json = "{}"
        yield part
    yield from trailers(message, target)
