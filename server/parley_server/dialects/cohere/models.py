"""Cohere's models: `GET /v1/models`, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.cohere.answers import MALFORMED
from parley_server.dialects.cohere.embed import BATCH_LIMIT
from parley_server.dialects.cohere.errors import error

_PAGE = 1000
_OPERATIONS = ("chat", "embed", "rerank")
_CAPABILITIES = {
    "tools": "tools",
    "json_schema": "json-schema",
    "reasoning": "reasoning",
    "logprobs": "logprobs",
    "citations": "citations",
}


class CohereModels:
    """Lists models. Those that do nothing that can be asked for here, such as classifying, are left out."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for the first page, or the one behind `cursor`."""
        query = urlencode({"page_size": _PAGE} | ({"page_token": cursor} if cursor else {}))
        return HttpCall(f"/v1/models?{query}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the next page's cursor. Raises ProtocolError if `body` is no listing."""
        listing = load_object(body)
        try:
            rows = [row for row in listing["models"] if _operations(row) or not row.get("endpoints")]
            return [_model(row, provider) for row in rows], listing.get("next_page_token") or ""
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _operations(row: Mapping[str, Any]) -> list[str]:
    return [name for name in _OPERATIONS if name in (row.get("endpoints") or ())]


def _model(row: Mapping[str, Any], provider: str) -> v1.Model:
    name = row["name"]
    features = row.get("features") or ()
    model = v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        operations=_operations(row),
        capabilities=[word for feature, word in _CAPABILITIES.items() if feature in features],
        state=v1.Model.STATE_DEPRECATED if row.get("is_deprecated") else v1.Model.STATE_ACTIVE,
    )
    if "chat" in model.operations:
        model.input_modalities.append(v1.MODALITY_TEXT)
        model.output_modalities.append(v1.MODALITY_TEXT)
        if "vision" in features:
            model.input_modalities.append(v1.MODALITY_IMAGE)
    if row.get("context_length"):
        model.limits.context_tokens = round(row["context_length"])
    if "embed" in model.operations:
        model.limits.max_embed_inputs = BATCH_LIMIT
    return model
