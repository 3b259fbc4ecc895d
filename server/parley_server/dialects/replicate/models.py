"""Replicate's language models: the collection of that name, since the listing of all models has tens of thousands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.replicate.decode import MALFORMED
from parley_server.dialects.replicate.errors import error
from parley_server.dialects.replicate.schema import read

_COLLECTION = "language-models"


class ReplicateModels:
    """Lists the collection, in one page. Others can be asked all the same, by name."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call; there is only one page."""
        return HttpCall(f"/collections/{_COLLECTION}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models that give text. Raises ProtocolError if `body` is no collection."""
        listing = load_object(body)
        try:
            models = [_model(row, provider) for row in listing["models"]]
            return [model for model in models if model is not None], ""
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    name = f"{row['owner']}/{row['name']}"
    schema = read(row.get("latest_version"))
    if schema is not None and not schema.gives_text:
        return None
    model = v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        operations=["chat"],
        input_modalities=[v1.MODALITY_TEXT],
        output_modalities=[v1.MODALITY_TEXT],
        state=v1.Model.STATE_ACTIVE,
    )
    if schema is not None and schema.name("image"):
        model.input_modalities.append(v1.MODALITY_IMAGE)
    if schema is not None and schema.name("effort"):
        model.capabilities.append("reasoning")
    return model
