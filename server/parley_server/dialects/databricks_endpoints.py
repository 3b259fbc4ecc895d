"""Databricks' listing of serving endpoints: one page of all there are.

https://docs.databricks.com/api/workspace/servingendpoints/list. Endpoints of classic machine learning are left out, and
so are those that are not ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.openai_chat.errors import error

LISTING = "/api/2.0/serving-endpoints"
"""Of the workspace, beside the path under which models are asked."""

_OPERATIONS = {"llm/v1/chat": "chat", "agent/v1/chat": "chat", "llm/v1/embeddings": "embed"}
"""By task; other tasks take other words than these operations."""
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class DatabricksEndpoints:
    """Lists endpoints that chat or embed."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The one call: the listing has no pages."""
        return HttpCall(LISTING, method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The endpoints, and no cursor. Raises ProtocolError if `body` is no listing."""
        listing = load_object(body)
        try:
            rows = listing.get("endpoints") or ()  # a workspace without endpoints says {}
            return [model for row in rows if (model := _model(row, provider))], ""
        except _MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of endpoints") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    name, operation = row["name"], _OPERATIONS.get(row.get("task") or "")
    if operation is None or (row.get("state") or {}).get("ready", "READY") != "READY":
        return None
    model = v1.Model(id=f"{provider}/{name}", provider=provider, provider_model=name, operations=[operation])
    model.display_name = _display_name(row)
    if created := row.get("creation_timestamp"):
        model.create_time.FromMilliseconds(created)
    if operation == "chat":
        model.input_modalities.append(v1.MODALITY_TEXT)
        model.output_modalities.append(v1.MODALITY_TEXT)
    return model


def _display_name(row: Mapping[str, Any]) -> str:
    """That of the one model behind the endpoint; empty where it is one's own, or where there are several."""
    match (row.get("config") or {}).get("served_entities"):
        case [{"foundation_model": {"display_name": str(name)}}] | [{"external_model": {"name": str(name)}}]:
            return name
    return ""
