"""OpenAI's listing of models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import CredentialsRejected, GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.openai_models import OpenAIModels


def listed(answer: Any) -> list[v1.Model]:
    models, cursor = OpenAIModels().decode(json.dumps(answer).encode(), "openai")
    assert cursor == ""
    return models


def test_request() -> None:
    call = OpenAIModels().encode()
    assert (call.method, call.path, call.body) == ("GET", "/models", b"")


def test_rows() -> None:
    rows = [
        {"id": "gpt-4o", "object": "model", "created": 1715367049, "owned_by": "system"},
        {"id": "old", "shutdown_date": "2026-10-23"},
        {"id": "org/local", "max_model_len": 4096, "created": None},
        {"object": "model"},
        "nonsense",
    ]
    first, second, third = listed({"object": "list", "data": rows})
    assert (first.id, first.provider, first.provider_model) == ("openai/gpt-4o", "openai", "gpt-4o")
    assert first.create_time.seconds == 1715367049
    assert first.state == v1.Model.STATE_UNSPECIFIED
    assert (second.state, second.shutdown_time.ToJsonString()) == (v1.Model.STATE_DEPRECATED, "2026-10-23T00:00:00Z")
    assert (third.id, third.limits.context_tokens) == ("openai/org/local", 4096)


def test_bare_list() -> None:
    assert [model.id for model in listed([{"id": "a"}])] == ["openai/a"]


@pytest.mark.parametrize("shutdown", [None, True, "soon", -(10**20), {}])
def test_dates_that_are_none(shutdown: Any) -> None:
    assert not listed({"data": [{"id": "a", "shutdown_date": shutdown}]})[0].HasField("shutdown_time")


@pytest.mark.parametrize("body", [b"", b"<html>", b"7", b"{}", b'{"data": null}', b'{"error": {"message": "m"}}'])
def test_what_is_no_listing(body: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        OpenAIModels().decode(body, "openai")
    assert isinstance(raised.value, ProtocolError) == (b"error" not in body)


def test_errors_are_those_of_the_family() -> None:
    assert type(OpenAIModels().error(401, {}, b"", Target("openai", ""))) is CredentialsRejected
