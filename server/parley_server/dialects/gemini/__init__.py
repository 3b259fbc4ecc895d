"""The Gemini API, of Google AI and of Google Cloud: https://ai.google.dev/api/generate-content.

One file per verb: `encode` (with `contents`, `tools` and `families`), `decode` and `stream` (both with `answers`,
`citations`; `partial`), `framing`, `errors`, `embed`, `models`.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.gemini.decode import decode
from parley_server.dialects.gemini.embed import GeminiEmbed, VertexEmbed
from parley_server.dialects.gemini.encode import encode
from parley_server.dialects.gemini.errors import error, is_google_error
from parley_server.dialects.gemini.framing import GoogleSSE
from parley_server.dialects.gemini.hosting import GEMINI, VERTEX, Hosting
from parley_server.dialects.gemini.models import PUBLISHED, GeminiModels, VertexModels
from parley_server.dialects.gemini.stream import ChunkDecoder

__all__ = [
    "GEMINI",
    "PUBLISHED",
    "VERTEX",
    "GeminiChat",
    "GeminiEmbed",
    "GeminiModels",
    "Hosting",
    "VertexEmbed",
    "VertexModels",
    "is_google_error",
]


class GeminiChat:
    """Chat: `generateContent` and `streamGenerateContent`."""

    framing: type[Framing] = GoogleSSE

    def __init__(self, hosting: Hosting = GEMINI) -> None:
        self._hosting = hosting

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """See `encode.py`."""
        return encode(request, target, self._hosting, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """See `decode.py`."""
        return decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """See `stream.py`."""
        return ChunkDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
