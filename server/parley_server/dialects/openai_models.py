"""OpenAI's listing of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.openai_chat.errors import error, said_inside

_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
"""What vLLM, OpenRouter, Groq, Mistral and llama.cpp call the context window."""
_OUTPUT_FIELDS = ("max_completion_tokens", "max_output_tokens")
_SHUTDOWN_FIELDS = ("shutdown_date", "expiration_date")
_ASIDE = ("top_provider", "limits", "meta")
"""Objects of a row in which some servers keep the limits."""
_CAPABILITIES = {
    "tools": "tools",
    "parallel_tool_calls": "parallel-tools",
    "structured_outputs": "json-schema",
    "reasoning": "reasoning",
    "logprobs": "logprobs",
}
"""By a parameter that OpenRouter says a model takes."""
_MODALITIES = {
    "text": v1.MODALITY_TEXT,
    "image": v1.MODALITY_IMAGE,
    "audio": v1.MODALITY_AUDIO,
    "video": v1.MODALITY_VIDEO,
    "file": v1.MODALITY_DOCUMENT,
}


class OpenAIModels:
    """The dialect of `GET /models`. OpenAI tells names and dates only; others tell the context window as well."""

    def __init__(self, *, path: str = "/models") -> None:
        self._path = path

    def encode(self, cursor: str = "") -> HttpCall:
        """The one call: the listing has no pages."""
        return HttpCall(self._path, method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models, and no cursor. Some servers answer the bare list, or name it differently."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as problem:
            raise ProtocolError("the provider's list of models is not JSON") from problem
        match answer:
            case {"data": [*rows]} | {"models": [*rows]} | [*rows]:
                return [_model(row, provider) for row in rows if isinstance(row, dict) and row.get("id")], ""
            case {"error": error_object} if error_object:
                raise said_inside(answer, Target(provider, ""))
            case _:
                raise ProtocolError("the provider's list of models has no rows")

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means."""
        return error(status, headers, body, target)


def _model(row: Mapping[str, Any], provider: str) -> v1.Model:
    name = str(row["id"])
    model = v1.Model(id=f"{provider}/{name}", provider=provider, provider_model=name)
    if isinstance(title := row.get("name"), str) and title != name:
        model.display_name = title
    if (created := _time(row.get("created"))) is not None and created.seconds > 0:  # else it is not known
        model.create_time.CopyFrom(created)
    if (deprecated := _time(row.get("deprecation"))) is not None:
        model.deprecate_time.CopyFrom(deprecated)
    if (shutdown := next(filter(None, (_time(row.get(name)) for name in _SHUTDOWN_FIELDS)), None)) is not None:
        model.shutdown_time.CopyFrom(shutdown)
        model.state = v1.Model.STATE_DEPRECATED
    places = [row, *(inner for field in _ASIDE if isinstance(inner := row.get(field), dict))]
    for limit, fields in (
        ("context_tokens", _CONTEXT_FIELDS),
        ("max_input_tokens", ("max_input_tokens",)),
        ("max_output_tokens", _OUTPUT_FIELDS),
    ):
        if count := _count(places, fields):
            setattr(model.limits, limit, count)
    shape = row.get("architecture")
    for place, prefix in ((shape, ""), (row, "supported_")):  # OpenRouter, GitHub
        if isinstance(place, dict):
            model.input_modalities.extend(_modalities(place.get(f"{prefix}input_modalities")))
            model.output_modalities.extend(_modalities(place.get(f"{prefix}output_modalities")))
    match row.get("supported_parameters"):
        case [*taken]:
            model.capabilities.extend(said for name, said in _CAPABILITIES.items() if name in taken)
    match row.get("capabilities"):
        case {"completion_chat": True}:  # Mistral
            model.operations.append("chat")
    return model


def _count(places: list[Mapping[str, Any]], fields: tuple[str, ...]) -> int:
    """The first of the named counts that is told in any of the places; 0: none is."""
    told = (place.get(field) for place in places for field in fields)
    return next((count for count in told if type(count) is int and 0 < count < 2**31), 0)


def _modalities(said: Any) -> list[v1.Modality.ValueType]:
    return [_MODALITIES[name] for name in said if name in _MODALITIES] if isinstance(said, list) else []


def _time(said: Any) -> Timestamp | None:
    """A date as Unix time or in ISO form."""
    time = Timestamp()
    try:
        match said:
            case bool() | None:
                return None
            case int():
                time.FromSeconds(said)
            case str():
                time.FromJsonString(said if "T" in said else f"{said}T00:00:00Z")
            case _:
                return None
    except ValueError:
        return None
    return time
