"""The listing of models, of the control plane: foundation models first, then pages of inference profiles.

Of a model that can only be asked through a profile the profile is listed, under its own ID, and not the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.bedrock.answers import NONSENSE
from parley_server.dialects.bedrock.errors import error

MODELS, PROFILES = "/foundation-models", "/inference-profiles"
"""Paths of the control plane, whose host is not that of the runtime."""

_PAGE = 1000  # the most the API gives
_FIRST_PROFILES = "profiles"
_MODALITIES = {
    "TEXT": v1.MODALITY_TEXT,
    "IMAGE": v1.MODALITY_IMAGE,
    "VIDEO": v1.MODALITY_VIDEO,
    "AUDIO": v1.MODALITY_AUDIO,
    "SPEECH": v1.MODALITY_AUDIO,
}
_TIMES = {"create_time": "startOfLifeTime", "deprecate_time": "legacyTime", "shutdown_time": "endOfLifeTime"}
_OPERATIONS = ((r"rerank", "rerank"), (r"embed|marengo", "embed"))
"""By name: profiles tell nothing of what their models do."""
_NO_TEXT = re.compile(r"stability\.|canvas|nova-reel|nova-sonic|luma\.|pegasus")


class BedrockModels:
    """Lists what can be asked by its own name: models on demand and inference profiles."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for a page: models without a cursor, profiles with one."""
        if not cursor:
            return HttpCall(path=MODELS, method="GET", headers={})
        query = {"maxResults": str(_PAGE)}
        if token := cursor.removeprefix(_FIRST_PROFILES).removeprefix(":"):
            query["nextToken"] = token
        return HttpCall(path=f"{PROFILES}?{urlencode(query)}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the cursor of the next. Raises ProtocolError if `body` is no listing."""
        page = load_object(body)
        try:
            if "modelSummaries" in page:
                rows = page["modelSummaries"]
                return [model for row in rows if (model := _model(row, provider))], _FIRST_PROFILES
            rows = page["inferenceProfileSummaries"]
            token = page.get("nextToken")
            found = [model for row in rows if (model := _profile(row, provider))]
            return found, f"{_FIRST_PROFILES}:{token}" if token else ""
        except NONSENSE as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    gives = set(row.get("outputModalities") or ())
    operation = _operation(row["modelId"])
    if "ON_DEMAND" not in (row.get("inferenceTypesSupported") or ()) or not gives & {"TEXT", "EMBEDDING"}:
        return None
    life = row.get("modelLifecycle") or {}
    legacy = life.get("status") == "LEGACY"
    model = v1.Model(
        id=f"{provider}/{row['modelId']}",
        provider=provider,
        provider_model=row["modelId"],
        display_name=row.get("modelName") or "",
        operations=["embed"] if "EMBEDDING" in gives else [operation],
        input_modalities=_modalities(row.get("inputModalities")),
        output_modalities=_modalities(gives),
        state=v1.Model.STATE_DEPRECATED if legacy else v1.Model.STATE_ACTIVE,
    )
    for field, name in _TIMES.items():
        if (when := _time(life.get(name))) is not None:
            getattr(model, field).FromDatetime(when)
    return model


def _profile(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    """A profile of the system by its ID; one of the account by its ARN, the only name that can be asked."""
    own = row.get("type") == "APPLICATION"
    name = row["inferenceProfileArn"] if own else row["inferenceProfileId"]
    models = [model.get("modelArn") or "" for model in row.get("models") or ()]
    what = (models or [name])[0] if own else name
    if row.get("status", "ACTIVE") != "ACTIVE" or _NO_TEXT.search(what):
        return None
    operation = _operation(what)
    return v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        display_name=row.get("inferenceProfileName") or "",
        operations=[operation],
        output_modalities=[v1.MODALITY_TEXT] if operation == "chat" else [],
        state=v1.Model.STATE_ACTIVE,
    )


def _operation(name: str) -> str:
    return next((operation for pattern, operation in _OPERATIONS if re.search(pattern, name)), "chat")


def _modalities(names: Any) -> list[v1.Modality.ValueType]:
    return sorted({_MODALITIES[name] for name in names or () if name in _MODALITIES})


def _time(said: Any) -> datetime | None:
    return datetime.fromisoformat(said) if isinstance(said, str) else None
