"""An answer of Converse as a `ChatResponse`."""

from __future__ import annotations

import json
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import load_object
from parley_server.dialects.bedrock import answers
from parley_server.dialects.bedrock.answers import LONG_NUMBER, NONSENSE


def decode(body: bytes, target: Target) -> v1.ChatResponse:
    """The answer. Raises ProtocolError if `body` is none of Converse."""
    said = _load(body)
    try:
        blocks = said["output"]["message"]["content"]
        return v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[answers.part(block, target) for block in blocks]),
            usage=answers.usage(said["usage"], v1.Usage.SOURCE_PROVIDER) if said.get("usage") else None,
            route=answers.route(said),
            **answers.end(said["stopReason"], said.get("additionalModelResponseFields")),
        )
    except NONSENSE as error:
        raise ProtocolError("the provider's answer is not one of Converse") from error


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
