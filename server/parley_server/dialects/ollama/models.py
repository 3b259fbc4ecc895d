"""The models that an Ollama server has: `GET /api/tags`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.ollama.answers import MALFORMED
from parley_server.dialects.ollama.errors import error

_OPERATIONS = {"completion": "chat", "embedding": "embed"}
_CAPABILITIES = {"completion": "json-schema", "tools": "tools", "thinking": "reasoning"}
_MODALITIES = {"vision": v1.MODALITY_IMAGE, "audio": v1.MODALITY_AUDIO}


class OllamaModels:
    """Lists models, in one page. Older servers do not tell what a model can do; that is then left open."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call; there is only one page."""
        return HttpCall("/api/tags", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models. Raises ProtocolError if `body` is no listing."""
        listing = load_object(body)
        try:
            return [_model(row, provider) for row in listing["models"] or ()], ""
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model:
    name = row.get("model") or row["name"]
    details = row.get("details") or {}
    able = row.get("capabilities") or ()
    model = v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        operations=[word for kind, word in _OPERATIONS.items() if kind in able],
        capabilities=[word for kind, word in _CAPABILITIES.items() if kind in able],
        state=v1.Model.STATE_ACTIVE,
    )
    if able:
        model.input_modalities.extend([v1.MODALITY_TEXT, *(kind for word, kind in _MODALITIES.items() if word in able)])
    elif "bert" in (details.get("family") or ""):
        model.operations.append("embed")  # an encoder: it cannot do anything else
    if "completion" in able:
        model.output_modalities.append(v1.MODALITY_TEXT)
    if details.get("context_length"):
        model.limits.context_tokens = details["context_length"]
    if details.get("embedding_length") and "embed" in model.operations:  # that of a chat model is an inner matter
        model.limits.embedding_dimensions = details["embedding_length"]
    return model
