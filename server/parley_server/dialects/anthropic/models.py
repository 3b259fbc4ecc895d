"""The listing of models: https://docs.anthropic.com/en/api/models-list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.anthropic.answers import NONSENSE
from parley_server.dialects.anthropic.encode import HEADERS
from parley_server.dialects.anthropic.errors import error
from parley_server.dialects.base import HttpCall, load_object

_PAGE = 1000  # the most the API gives
_ALWAYS = ("tools", "parallel-tools", "prompt-cache")
"""Every model of the Messages API has these, so the listing does not mention them."""
_CAPABILITIES = {"structured_outputs": "json-schema", "thinking": "reasoning", "citations": "citations"}
_MODALITIES = {"image_input": v1.MODALITY_IMAGE, "pdf_input": v1.MODALITY_DOCUMENT}


class AnthropicModels:
    """Lists models, with what the listing tells of them. Retired ones, which no longer answer, are left out."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for a page; `cursor` is the last ID of the page before."""
        query = {"limit": str(_PAGE), **({"after_id": cursor} if cursor else {})}
        return HttpCall(path=f"/models?{urlencode(query)}", method="GET", headers=HEADERS)

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page and the cursor of the next. Raises ProtocolError if `body` is no listing."""
        page = load_object(body)
        try:
            models = [_model(row, provider) for row in page["data"] if row.get("lifecycle") != "retired"]
            return models, (page.get("last_id") or "") if page.get("has_more") else ""
        except NONSENSE as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model:
    able = {name for name, says in (row.get("capabilities") or {}).items() if says and says.get("supported")}
    model = v1.Model(
        id=f"{provider}/{row['id']}",
        provider=provider,
        provider_model=row["id"],
        display_name=row.get("display_name") or "",
        operations=["chat"],
        capabilities=[*_ALWAYS, *(word for name, word in _CAPABILITIES.items() if name in able)],
        input_modalities=[v1.MODALITY_TEXT, *(kind for name, kind in _MODALITIES.items() if name in able)],
        output_modalities=[v1.MODALITY_TEXT],
        state=v1.Model.STATE_DEPRECATED if row.get("lifecycle") == "deprecated" else v1.Model.STATE_ACTIVE,
    )
    if row.get("max_input_tokens"):
        model.limits.context_tokens = row["max_input_tokens"]
        model.limits.max_input_tokens = row["max_input_tokens"]
    if row.get("max_tokens"):
        model.limits.max_output_tokens = row["max_tokens"]
    released = _time(row.get("created_at"))
    if released is not None and released.timestamp() > 0:  # the epoch stands for "not known"
        model.create_time.FromDatetime(released)
    retires = _time(row.get("retires_at"))
    if retires is not None:
        model.shutdown_time.FromDatetime(retires)
    return model


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
