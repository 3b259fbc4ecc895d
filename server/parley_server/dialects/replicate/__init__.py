"""Replicate's predictions: https://replicate.com/docs/reference/http.

A prediction is made, then waited for or listened to, so this is a conversation (`converse`). What goes in depends on
the model: `schema` reads what it takes and gives, `encode` says it, `decode` and `stream` read what comes out, `errors`
what does not, `models` lists. Paths follow the version, so the base URL is https://api.replicate.com/v1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from parley import v1
from parley_server.core.context import Clock
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Framing
from parley_server.dialects.framing.sse import NamedSSE
from parley_server.dialects.replicate.converse import converse
from parley_server.dialects.replicate.errors import error
from parley_server.dialects.replicate.models import ReplicateModels
from parley_server.dialects.replicate.schema import Schemas
from parley_server.dialects.replicate.stream import OutputDecoder
from parley_server.dialects.steps import PartsDecoder, Steps

__all__ = ["ReplicateChat", "ReplicateModels"]


class ReplicateChat:
    """Chat by language models. Remembers for an hour what each model takes."""

    framing: type[Framing] = NamedSSE

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._schemas = Schemas(clock)

    def converse(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> Steps[v1.ChatResponse]:
        """See `converse.py`."""
        return converse(request, target, self._schemas, stream=stream)

    def decoder(self, target: Target) -> PartsDecoder:
        """See `stream.py`."""
        return OutputDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
