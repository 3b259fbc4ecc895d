"""Ollama's own API: https://github.com/ollama/ollama/blob/main/docs/api.md.

One file per verb: `encode` (with `messages`), `decode` and `stream` (both with `answers`), `errors`, `embed`, `models`.
Paths start with /api, so the base URL is that of the server, such as http://localhost:11434.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.framing.ndjson import NDJSON
from parley_server.dialects.ollama.decode import decode
from parley_server.dialects.ollama.embed import OllamaEmbed
from parley_server.dialects.ollama.encode import encode
from parley_server.dialects.ollama.errors import error
from parley_server.dialects.ollama.models import OllamaModels
from parley_server.dialects.ollama.stream import LineDecoder

__all__ = ["OllamaChat", "OllamaEmbed", "OllamaModels"]


class OllamaChat:
    """The dialect of `POST /api/chat`. `keep_alive`: how long models stay loaded behind a call; None: the default."""

    framing: type[Framing] = NDJSON

    def __init__(self, keep_alive: str | int | None = None) -> None:
        self._keep_alive = keep_alive

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """See `encode.py`."""
        return encode(request, target, stream=stream, keep_alive=self._keep_alive)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """See `decode.py`."""
        return decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """See `stream.py`."""
        return LineDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
