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


def test_what_some_servers_tell_besides() -> None:
    openrouter = {
        "id": "vendor/big",
        "name": "Vendor: Big",
        "context_length": 200000,
        "architecture": {"input_modalities": ["text", "image", "file", "smell"], "output_modalities": ["text"]},
        "supported_parameters": ["tools", "temperature", "structured_outputs", "reasoning"],
        "top_provider": {"context_length": 100000, "max_completion_tokens": 64000},
        "expiration_date": "2027-01-31",
    }
    (model,) = listed({"data": [openrouter]})
    assert model.display_name == "Vendor: Big"
    assert model.limits == v1.ModelLimits(context_tokens=200000, max_output_tokens=64000)
    assert list(model.input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_IMAGE, v1.MODALITY_DOCUMENT]
    assert list(model.output_modalities) == [v1.MODALITY_TEXT]
    assert list(model.capabilities) == ["tools", "json-schema", "reasoning"]
    assert model.shutdown_time.ToJsonString() == "2027-01-31T00:00:00Z"
    mistral = {
        "id": "m",
        "name": "m",
        "max_context_length": 131072,
        "capabilities": {"completion_chat": True, "vision": True},
        "deprecation": "2026-08-31T12:00:00Z",
    }
    (model,) = listed({"data": [mistral]})
    assert (model.display_name, list(model.operations)) == ("", ["chat"])
    assert model.deprecate_time.ToJsonString() == "2026-08-31T12:00:00Z"
    assert model.state == v1.Model.STATE_UNSPECIFIED
    (model,) = listed({"data": [{"id": "l", "meta": {"n_ctx": 4096, "n_ctx_train": 40960}}]})
    assert model.limits.context_tokens == 4096
    github = {"id": "g", "limits": {"max_input_tokens": 8000, "max_output_tokens": 4000}}
    (model,) = listed([github | {"supported_input_modalities": ["text", "audio"]}])
    assert list(model.input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_AUDIO]
    assert (model.limits.max_input_tokens, model.limits.max_output_tokens) == (8000, 4000)
    (model,) = listed({"models": [{"id": "w", "name": "W"}]})
    assert (model.id, model.display_name) == ("openai/w", "W")


@pytest.mark.parametrize("row", [{"architecture": "x"}, {"architecture": {"input_modalities": "text"}}, {"limits": 5}])
def test_oddities_beside_a_name_are_passed_over(row: Any) -> None:
    (model,) = listed({"data": [{"id": "x", "context_length": -1, "name": 7, "supported_parameters": None, **row}]})
    assert model == v1.Model(id="openai/x", provider="openai", provider_model="x")


def test_the_listing_may_be_elsewhere() -> None:
    assert OpenAIModels(path="/catalog/models").encode().path == "/catalog/models"
