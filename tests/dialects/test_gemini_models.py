"""Listings of models: of the Gemini API, and of Google Cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import CredentialsRejected, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.gemini import GeminiModels, VertexModels

GEMINI, VERTEX = GeminiModels(), VertexModels()
FLASH = {
    "name": "models/gemini-3-flash-preview",
    "displayName": "Gemini 3 Flash",
    "inputTokenLimit": 1_048_576,
    "outputTokenLimit": 65_536,
    "supportedGenerationMethods": ["generateContent", "countTokens", "createCachedContent"],
    "thinking": True,
}
EMBEDDING = {
    "name": "models/gemini-embedding-001",
    "inputTokenLimit": 2048,
    "outputTokenLimit": 1,
    "supportedGenerationMethods": ["embedContent", "countTextTokens"],
}
GEMMA = {"name": "models/gemma-3-27b-it", "supportedGenerationMethods": ["generateContent"]}
IMAGEN = {"name": "models/imagen-4.0", "supportedGenerationMethods": ["predict"]}


def listed(dialect: GeminiModels | VertexModels, page: Any) -> tuple[list[v1.Model], str]:
    return dialect.decode(json.dumps(page).encode(), "google")


def test_pages() -> None:
    assert GEMINI.encode().path == "/models?pageSize=1000"
    assert GEMINI.encode("a/b").path == "/models?pageSize=1000&pageToken=a%2Fb"
    assert VERTEX.encode("x").path == "/publishers/google/models?pageSize=100&pageToken=x"
    assert (GEMINI.encode().method, GEMINI.encode().body) == ("GET", b"")
    assert listed(GEMINI, {"models": [FLASH], "nextPageToken": "n"})[1] == "n"
    assert listed(VERTEX, {}) == ([], "")
    assert listed(GEMINI, {}) == ([], "")


def test_what_the_gemini_api_tells() -> None:
    models, _ = listed(GEMINI, {"models": [FLASH, EMBEDDING, GEMMA, IMAGEN]})
    flash, embedding, gemma = models
    assert (flash.id, flash.provider, flash.provider_model) == (
        "google/gemini-3-flash-preview",
        "google",
        "gemini-3-flash-preview",
    )
    assert (flash.display_name, list(flash.operations)) == ("Gemini 3 Flash", ["chat"])
    assert {"tools", "json-schema", "reasoning", "citations"} <= set(flash.capabilities)
    assert v1.MODALITY_AUDIO in flash.input_modalities
    assert (flash.limits.context_tokens, flash.limits.max_output_tokens) == (1_048_576, 65_536)
    assert list(embedding.operations) == ["embed"]
    assert (embedding.limits.max_input_tokens, embedding.limits.max_embed_inputs) == (2048, 100)
    assert not embedding.limits.HasField("max_output_tokens")
    assert (list(gemma.operations), list(gemma.capabilities)) == (["chat"], [])


def test_what_google_cloud_tells() -> None:
    names = ["gemini-2.5-pro", "text-embedding-005", "gemini-live-2.5-flash", "imagen-4", "multimodalembedding"]
    rows: list[dict[str, Any]] = [{"name": f"publishers/google/models/{name}"} for name in names]
    rows[0]["launchStage"] = "DEPRECATED"
    models, _ = listed(VERTEX, {"publisherModels": rows})
    assert [(model.provider_model, list(model.operations)) for model in models] == [
        ("gemini-2.5-pro", ["chat"]),
        ("text-embedding-005", ["embed"]),
    ]
    assert models[0].state == v1.Model.STATE_DEPRECATED


@pytest.mark.parametrize("dialect", [GEMINI, VERTEX])
def test_what_is_no_listing(dialect: GeminiModels | VertexModels) -> None:
    for body in (b"", b"[]", b'{"models":[1],"publisherModels":[1]}', b'{"models":[{}],"publisherModels":[{}]}'):
        with pytest.raises(ProtocolError):
            dialect.decode(body, "google")
    assert type(dialect.error(401, {}, b"", Target("google", ""))) is CredentialsRejected
