"""Conversations with Replicate, driven by hand, for tests."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from parley import v1
from parley_server.core.errors import ModelNotFound
from parley_server.core.target import Target
from parley_server.dialects.replicate import ReplicateChat
from parley_server.dialects.steps import Ask, Heard, Step

TARGET = Target("replicate", "meta/meta-llama-3-8b-instruct")
CHOICES = {"effort": {"enum": ["low", "medium", "high"], "type": "string"}}
NOT_DESCRIBED = ModelNotFound("not described")

Talk = Generator[Step, Any, v1.ChatResponse]


def schema(*inputs: str, lists: tuple[str, ...] = (), output: Any = None, **more: Any) -> dict[str, Any]:
    """The description of a model that takes `inputs`, some of which are `lists`."""
    properties: dict[str, Any] = {name: {"type": "string"} for name in inputs}
    properties |= {name: {"type": "array", "items": {"type": "string"}} for name in lists}
    schemas = {"Input": {"properties": {**properties, **more}}, "Output": output or TEXT, **CHOICES}
    return {"owner": "o", "name": "n", "latest_version": {"openapi_schema": {"components": {"schemas": schemas}}}}


TEXT: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
FILES: dict[str, Any] = {"type": "array", "items": {"type": "string", "format": "uri"}}


def prediction(status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """A prediction."""
    return {"id": "p1", "model": "meta/llama", "status": status, "output": None, "error": None, **fields}


def heard(said: Any, status: int = 200) -> Heard:
    """An answer."""
    return Heard(status, {}, said if isinstance(said, bytes) else json.dumps(said).encode())


def user(words: str = "hi") -> v1.ChatRequest:
    """A request of one turn."""
    return v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=words)])])


def begun(
    request: v1.ChatRequest, target: Target = TARGET, *, stream: bool = False, described: Any = None
) -> tuple[Talk, Ask]:
    """A conversation up to the call that makes the prediction. `described`: what is told of the model."""
    talk: Talk = ReplicateChat().converse(request, target, stream=stream)
    step = next(talk)
    assert isinstance(step, Ask)
    if step.call.method == "GET":
        step = talk.throw(NOT_DESCRIBED) if described is None else talk.send(heard(described))
        assert isinstance(step, Ask)
    return talk, step


def inputs(request: v1.ChatRequest, target: Target = TARGET, *, described: Any = None) -> Any:
    """The inputs of the prediction that a request becomes."""
    return json.loads(begun(request, target, described=described)[1].call.body)["input"]
