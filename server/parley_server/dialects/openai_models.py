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

_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""What vLLM, OpenRouter, Groq and Mistral call the context window."""


class OpenAIModels:
    """The dialect of `GET /models`. OpenAI tells names and dates only; others tell the context window as well."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The one call: the listing has no pages."""
        return HttpCall("/models", method="GET", headers={})

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models, and no cursor. Some servers answer the bare list."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as problem:
            raise ProtocolError("the provider's list of models is not JSON") from problem
        match answer:
            case {"data": [*rows]} | [*rows]:
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
    if (created := _time(row.get("created"))) is not None and created.seconds > 0:  # else it is not known
        model.create_time.CopyFrom(created)
    if (shutdown := _time(row.get("shutdown_date"))) is not None:
        model.shutdown_time.CopyFrom(shutdown)
        model.state = v1.Model.STATE_DEPRECATED
    window = next((row[name] for name in _CONTEXT_FIELDS if isinstance(row.get(name), int)), 0)
    if 0 < window < 2**31:
        model.limits.context_tokens = window
    return model


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
