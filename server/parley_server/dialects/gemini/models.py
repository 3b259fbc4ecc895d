"""The listings of models: of the Gemini API, and of the models that Google publishes on Google Cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.gemini.answers import NONSENSE
from parley_server.dialects.gemini.errors import error

_PAGE = 1000  # the most the Gemini API gives
_OPERATIONS = {"generateContent": "chat", "embedContent": "embed"}
_CHATS = ("tools", "parallel-tools", "json-schema", "prompt-cache", "citations")
"""Every Gemini that chats has these, so the listing does not mention them."""
_SEES = (
    v1.MODALITY_TEXT,
    v1.MODALITY_IMAGE,
    v1.MODALITY_AUDIO,
    v1.MODALITY_VIDEO,
    v1.MODALITY_DOCUMENT,
)
PUBLISHED = "/publishers/google/models"
"""Path of Google Cloud's listing, which is below no project."""


class GeminiModels:
    """Lists what chats or embeds of the Gemini API; what makes pictures, speech or video is left out."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for a page; `cursor` is the page token of the page before."""
        query = {"pageSize": str(_PAGE), **({"pageToken": cursor} if cursor else {})}
        return HttpCall(path=f"/models?{urlencode(query)}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the cursor of the next. Raises ProtocolError if `body` is no listing."""
        page = load_object(body)
        try:
            models = [model for row in page.get("models") or () if (model := _model(row, provider)) is not None]
            return models, page.get("nextPageToken") or ""
        except NONSENSE as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


class VertexModels:
    """Lists the models that Google publishes on Google Cloud and that chat or embed, by their names.

    Those of other publishers, and one's own endpoints, are named in the configuration.
    """

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for a page; `cursor` is the page token of the page before."""
        query = {"pageSize": "100", **({"pageToken": cursor} if cursor else {})}
        return HttpCall(path=f"{PUBLISHED}?{urlencode(query)}", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the cursor of the next. Raises ProtocolError if `body` is no listing."""
        page = load_object(body)
        try:
            rows = page.get("publisherModels") or ()
            models = [model for row in rows if (model := _published(row, provider)) is not None]
            return models, page.get("nextPageToken") or ""
        except NONSENSE as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    name = row["name"].removeprefix("models/")
    methods = row.get("supportedGenerationMethods") or ()
    operations = [operation for method, operation in _OPERATIONS.items() if method in methods]
    if not operations:
        return None
    model = _described(name, operations, provider)
    model.display_name = row.get("displayName") or ""
    if row.get("thinking"):
        model.capabilities.append("reasoning")
    if row.get("inputTokenLimit"):
        model.limits.max_input_tokens = row["inputTokenLimit"]
        if "chat" in operations:
            model.limits.context_tokens = row["inputTokenLimit"]
    if row.get("outputTokenLimit") and "chat" in operations:
        model.limits.max_output_tokens = row["outputTokenLimit"]
    if "embed" in operations:
        model.limits.max_embed_inputs = 100
    return model


def _published(row: Mapping[str, Any], provider: str) -> v1.Model | None:
    name = row["name"].rpartition("/")[2]
    if "embedding" in name and "multimodal" not in name:
        operations = ["embed"]
    elif name.startswith("gemini-") and not any(word in name for word in ("live", "tts", "native-audio")):
        operations = ["chat"]
    else:
        return None
    model = _described(name, operations, provider)
    if row.get("launchStage") == "DEPRECATED":
        model.state = v1.Model.STATE_DEPRECATED
    return model


def _described(name: str, operations: list[str], provider: str) -> v1.Model:
    """What the name alone tells."""
    chats = "chat" in operations and name.startswith("gemini-")
    return v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        operations=operations,
        capabilities=_CHATS if chats else (),
        input_modalities=_SEES if chats else (v1.MODALITY_TEXT,),
        output_modalities=[v1.MODALITY_TEXT] if "chat" in operations else [],
        state=v1.Model.STATE_ACTIVE,
    )
