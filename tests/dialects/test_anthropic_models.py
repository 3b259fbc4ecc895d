"""The listing of models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley import v1
from parley_server.core.errors import CredentialsRejected, ProtocolError
from parley_server.dialects.anthropic import AnthropicModels
from tests.dialects.anthropic_wire import TARGET

MODELS = AnthropicModels()
YES, NO = {"supported": True}, {"supported": False}


def page(*rows: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"data": rows, "has_more": False, "first_id": None, "last_id": None, **fields}).encode()


def test_pages_follow_each_other() -> None:
    first = MODELS.encode()
    assert (first.method, first.path, first.body) == ("GET", "/models?limit=1000", b"")
    assert first.headers["anthropic-version"] == "2023-06-01"
    rows = [{"type": "model", "id": "claude-a"}, {"type": "model", "id": "claude b&c"}]
    models, cursor = MODELS.decode(page(*rows, has_more=True, last_id="claude b&c"), "anthropic")
    assert [model.id for model in models] == ["anthropic/claude-a", "anthropic/claude b&c"]
    assert MODELS.encode(cursor).path == "/models?limit=1000&after_id=claude+b%26c"
    assert MODELS.decode(page(has_more=False, last_id="x"), "anthropic") == ([], "")


def test_everything_the_listing_tells() -> None:
    row = {
        "type": "model",
        "id": "claude-opus-4-8",
        "display_name": "Claude Opus 4.8",
        "created_at": "2026-05-01T00:00:00Z",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "lifecycle": "deprecated",
        "retires_at": "2027-06-01T00:00:00Z",
        "capabilities": {
            "batch": YES,
            "citations": YES,
            "image_input": YES,
            "pdf_input": NO,
            "structured_outputs": YES,
            "thinking": {"supported": True, "types": {"adaptive": YES, "enabled": NO}},
            "effort": None,
        },
    }
    (model,), _ = MODELS.decode(page(row), "work")
    assert model == v1.Model(
        id="work/claude-opus-4-8",
        provider="work",
        provider_model="claude-opus-4-8",
        display_name="Claude Opus 4.8",
        operations=["chat"],
        capabilities=["tools", "parallel-tools", "prompt-cache", "json-schema", "reasoning", "citations"],
        input_modalities=[v1.MODALITY_TEXT, v1.MODALITY_IMAGE],
        output_modalities=[v1.MODALITY_TEXT],
        limits=v1.ModelLimits(context_tokens=1_000_000, max_input_tokens=1_000_000, max_output_tokens=128_000),
        state=v1.Model.STATE_DEPRECATED,
        create_time=Timestamp(seconds=1777593600),
        shutdown_time=Timestamp(seconds=1811808000),
    )


def test_a_bare_row_tells_nothing_more() -> None:
    (model,), _ = MODELS.decode(page({"id": "claude-a", "created_at": "1970-01-01T00:00:00Z"}), "anthropic")
    assert model.state == v1.Model.STATE_ACTIVE
    assert not model.HasField("create_time"), "the epoch stands for a date that is not known"
    assert not model.HasField("limits")
    assert not model.HasField("shutdown_time")


def test_retired_models_are_not_listed() -> None:
    rows = [{"id": "claude-old", "lifecycle": "retired"}, {"id": "claude-new", "lifecycle": "active"}]
    models, _ = MODELS.decode(page(*rows), "anthropic")
    assert [model.provider_model for model in models] == ["claude-new"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": [{}]}', page({"id": "a", "created_at": "yesterday"})])
def test_nonsense_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        MODELS.decode(body, "anthropic")


def test_a_rejected_key() -> None:
    body = b'{"type":"error","error":{"type":"authentication_error","message":"API key is invalid."},"request_id":null}'
    assert type(MODELS.error(401, {}, body, TARGET)) is CredentialsRejected
