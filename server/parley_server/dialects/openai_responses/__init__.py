"""OpenAI's Responses API, as OpenAI and the servers that follow it speak it."""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.framing.sse import SSE
from parley_server.dialects.openai_chat.errors import error
from parley_server.dialects.openai_responses.choosing import Api, by_request, needs_responses
from parley_server.dialects.openai_responses.decode import decode
from parley_server.dialects.openai_responses.encode import encode
from parley_server.dialects.openai_responses.quirks import ResponsesQuirks
from parley_server.dialects.openai_responses.stream import EventDecoder

__all__ = ["Api", "OpenAIResponses", "ResponsesQuirks", "by_request", "needs_responses"]


class OpenAIResponses:
    """The dialect of `POST /responses`; without quirks that of api.openai.com. Nothing is kept between calls."""

    def __init__(
        self, quirks: ResponsesQuirks | None = None, *, path: str = "/responses", framing: type[Framing] = SSE
    ) -> None:
        self._quirks = quirks or ResponsesQuirks.openai()
        self._path = path
        self.framing = framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        return encode(request, target, self._quirks, self._path, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        return decode(body, target, self._quirks)

    def decoder(self, target: Target) -> Decoder:
        return EventDecoder(target, self._quirks)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        return error(status, headers, body, target)
