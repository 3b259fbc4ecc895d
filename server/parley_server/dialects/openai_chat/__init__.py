"""OpenAI's chat completions, as OpenAI and the many servers that follow it speak them."""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.framing.sse import SSE
from parley_server.dialects.openai_chat.decode import decode
from parley_server.dialects.openai_chat.encode import encode
from parley_server.dialects.openai_chat.errors import error
from parley_server.dialects.openai_chat.quirks import Quirks
from parley_server.dialects.openai_chat.stream import ChunkDecoder

__all__ = ["OpenAIChat", "Quirks"]


class OpenAIChat:
    """The dialect of `POST /chat/completions`; without quirks that of api.openai.com."""

    def __init__(
        self, quirks: Quirks | None = None, *, path: str = "/chat/completions", framing: type[Framing] = SSE
    ) -> None:
        self._quirks = quirks or Quirks.openai()
        self._path = path
        self.framing = framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        return encode(request, target, self._quirks, self._path, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        return decode(body, target, self._quirks)

    def decoder(self, target: Target) -> Decoder:
        return ChunkDecoder(target, self._quirks)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        return error(status, headers, body, target, too_long_status=self._quirks.too_long_status)
