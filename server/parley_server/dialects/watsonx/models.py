"""Models of watsonx.ai: `GET /ml/v1/foundation_model_specs`, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from google.protobuf.timestamp_pb2 import Timestamp

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.watsonx.embed import BATCH_LIMIT, MALFORMED
from parley_server.dialects.watsonx.errors import error
from parley_server.dialects.watsonx.scope import Scope

_PAGE = 200
_OPERATIONS = {"text_chat": "chat", "embedding": "embed", "rerank": "rerank"}
_TASKS = {"function_calling": "tools"}


class WatsonxModels:
    """Lists models. Those that do nothing that can be asked for here, such as time series, are left out."""

    def __init__(self, scope: Scope) -> None:
        self._version = scope.version

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for the first page, or the one behind `cursor`."""
        query = {"version": self._version, "limit": _PAGE} | ({"start": cursor} if cursor else {})
        return HttpCall(f"/ml/v1/foundation_model_specs?{urlencode(query)}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the next page's cursor. Raises ProtocolError if `body` is no listing."""
        listing = load_object(body)
        try:
            models = [_model(row, provider) for row in listing["resources"]]
            return [model for model in models if model.operations], _start(listing.get("next"))
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _start(following: Any) -> str:
    """The cursor in the address of the next page; empty at the end."""
    href = (following or {}).get("href") or ""
    return parse_qs(urlsplit(href).query).get("start", [""])[0]


def _model(row: Mapping[str, Any], provider: str) -> v1.Model:
    name = row["model_id"]
    functions = {function["id"] for function in row.get("functions") or ()}
    tasks = {task["id"] for task in row.get("tasks") or ()} | set(row.get("task_ids") or ())
    limits = row.get("model_limits") or {}
    model = v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        display_name=row.get("label") or "",
        operations=[word for function, word in _OPERATIONS.items() if function in functions],
        capabilities=[word for task, word in _TASKS.items() if task in tasks],
        state=v1.Model.STATE_ACTIVE,
    )
    if "chat" in model.operations:
        model.input_modalities.append(v1.MODALITY_TEXT)
        model.output_modalities.append(v1.MODALITY_TEXT)
        if "image_chat" in functions:
            model.input_modalities.append(v1.MODALITY_IMAGE)
    if limits.get("max_sequence_length"):
        model.limits.context_tokens = limits["max_sequence_length"]
    if limits.get("max_output_tokens"):
        model.limits.max_output_tokens = limits["max_output_tokens"]
    if "embed" in model.operations:
        model.limits.max_embed_inputs = BATCH_LIMIT
        if limits.get("embedding_dimension"):
            model.limits.embedding_dimensions = limits["embedding_dimension"]
    _lifecycle(model, row.get("lifecycle") or ())
    return model


def _lifecycle(model: v1.Model, stages: Any) -> None:
    """Dates of the stages; which one it is now is told, so that no clock is needed."""
    for stage in stages:
        match stage:
            case {"id": "deprecated", "start_date": str(date)}:
                model.deprecate_time.CopyFrom(_time(date))
            case {"id": "withdrawn", "start_date": str(date)}:
                model.shutdown_time.CopyFrom(_time(date))
        if stage.get("current_state") and stage["id"] in ("deprecated", "constricted"):
            model.state = v1.Model.STATE_DEPRECATED


def _time(date: str) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(datetime.fromisoformat(date).replace(tzinfo=UTC))
    return found
