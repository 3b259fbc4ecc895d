"""The listing of an Ollama server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import CredentialsRejected, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaModels

DIALECT = OllamaModels()


def listed(*rows: dict[str, Any]) -> list[v1.Model]:
    models, cursor = DIALECT.decode(json.dumps({"models": rows}).encode(), "home")
    assert cursor == ""
    return models


def row(name: str, details: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "size": 1, "digest": "0", "details": details or {}, **fields}


def test_call() -> None:
    call = DIALECT.encode()
    assert (call.method, call.path, call.body, dict(call.headers)) == ("GET", "/api/tags", b"", {})


def test_a_chat_model_with_all_there_is() -> None:
    details = {"family": "qwen3vl", "context_length": 262144, "embedding_length": 4096}
    able = ["completion", "vision", "tools", "thinking"]
    assert listed(row("qwen3-vl:8b", details, capabilities=able)) == [
        v1.Model(
            id="home/qwen3-vl:8b",
            provider="home",
            provider_model="qwen3-vl:8b",
            operations=["chat"],
            capabilities=["json-schema", "tools", "reasoning"],
            input_modalities=[v1.MODALITY_TEXT, v1.MODALITY_IMAGE],
            output_modalities=[v1.MODALITY_TEXT],
            limits=v1.ModelLimits(context_tokens=262144),
            state=v1.Model.STATE_ACTIVE,
        )
    ]


def test_an_embedding_model() -> None:
    details = {"family": "bert", "context_length": 512, "embedding_length": 384}
    (model,) = listed(row("all-minilm:latest", details, capabilities=["embedding"]))
    assert list(model.operations) == ["embed"]
    assert (model.limits.context_tokens, model.limits.embedding_dimensions) == (512, 384)


def test_an_old_server_tells_little() -> None:
    chat, encoder = listed(row("llama3.2:latest", {"family": "llama"}), row("nomic", {"family": "nomic-bert"}))
    assert not chat.operations
    assert not chat.capabilities
    assert not chat.input_modalities
    assert not chat.HasField("limits")
    assert list(encoder.operations) == ["embed"]


def test_an_empty_server() -> None:
    assert listed() == []
    assert DIALECT.decode(b'{"models":null}', "home") == ([], "")


@pytest.mark.parametrize("body", [b"Ollama is running", b"{}", b'{"models":[7]}', b'{"models":[{"details":{}}]}'])
def test_nonsense(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decode(body, "home")


def test_errors() -> None:
    error = DIALECT.error(401, {}, b'{"error":"unauthorized"}', Target("home", ""))
    assert type(error) is CredentialsRejected
