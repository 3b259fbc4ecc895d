"""Cohere's own API, version 2: https://docs.cohere.com/reference/chat.

One file per verb: `encode` (with `messages` and `tools`), `decode` and `stream` (both with `answers`), `errors`,
`embed`, `rerank`, `models`. Paths start with the version, so the base URL is that of the server, https://api.cohere.com.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.cohere.decode import decode
from parley_server.dialects.cohere.embed import CohereEmbed
from parley_server.dialects.cohere.encode import encode
from parley_server.dialects.cohere.errors import error
from parley_server.dialects.cohere.models import CohereModels
from parley_server.dialects.cohere.rerank import CohereRerank
from parley_server.dialects.cohere.stream import EventDecoder
from parley_server.dialects.framing.sse import SSE

__all__ = ["CohereChat", "CohereEmbed", "CohereModels", "CohereRerank"]


class CohereChat:
    """The dialect of `POST /v2/chat`."""

    framing: type[Framing] = SSE

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """See `encode.py`."""
        return encode(request, target, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """See `decode.py`."""
        return decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """See `stream.py`."""
        return EventDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
