"""The Messages API of Anthropic: https://docs.anthropic.com/en/api/messages.

One file per verb: `encode` (with `blocks`, `thinking` and `breakpoints`), `decode` and `stream` (both with `answers`),
`errors`, `models`.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.anthropic.decode import decode
from parley_server.dialects.anthropic.encode import encode
from parley_server.dialects.anthropic.errors import error
from parley_server.dialects.anthropic.hosting import Hosting
from parley_server.dialects.anthropic.models import AnthropicModels
from parley_server.dialects.anthropic.stream import AnthropicDecoder
from parley_server.dialects.base import Decoder, Framing, HttpCall

__all__ = ["AnthropicMessages", "AnthropicModels", "Hosting"]


class AnthropicMessages:
    """Chat. `HttpCall.path` is relative to a base URL that ends in the version, such as https://api.anthropic.com/v1."""

    def __init__(self, hosting: Hosting | None = None) -> None:
        self._hosting = hosting or Hosting()

    @property
    def framing(self) -> type[Framing]:
        """What streams are cut by."""
        return self._hosting.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """See `encode.py`."""
        return encode(request, target, self._hosting, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """See `decode.py`."""
        return decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """See `stream.py`."""
        return AnthropicDecoder(target, self._hosting)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
