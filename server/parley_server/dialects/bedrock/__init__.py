"""Amazon Bedrock: Converse, embeddings and ranking by InvokeModel, the listing of models.

https://docs.aws.amazon.com/bedrock/latest/APIReference. One file per verb: `encode` (with `blocks`, `media`, `tools`,
`thinking`, `cachepoints`; `families` tells them what a model takes), `decode` and `stream` (both with `answers`),
`errors`, `embed`, `rerank`, `models`. `hosted` and `nested` serve the dialects of others on Bedrock and on SageMaker;
`endpoints` lists what is there on SageMaker.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall
from parley_server.dialects.bedrock.choosing import needs_messages
from parley_server.dialects.bedrock.decode import decode
from parley_server.dialects.bedrock.embed import BedrockEmbed
from parley_server.dialects.bedrock.encode import encode, path
from parley_server.dialects.bedrock.endpoints import LISTING, SageMakerEndpoints
from parley_server.dialects.bedrock.errors import error
from parley_server.dialects.bedrock.families import is_claude
from parley_server.dialects.bedrock.hosted import EndpointChat, EndpointEmbed, Hosted
from parley_server.dialects.bedrock.learned import Packed
from parley_server.dialects.bedrock.models import MODELS, PROFILES, BedrockModels
from parley_server.dialects.bedrock.nested import PayloadParts, unpacked
from parley_server.dialects.bedrock.rerank import BedrockRerank
from parley_server.dialects.bedrock.stream import ConverseDecoder
from parley_server.dialects.framing.eventstream import EventStream

__all__ = [
    "LISTING",
    "MODELS",
    "PROFILES",
    "BedrockConverse",
    "BedrockEmbed",
    "BedrockModels",
    "BedrockRerank",
    "EndpointChat",
    "EndpointEmbed",
    "EventStream",
    "Hosted",
    "Packed",
    "PayloadParts",
    "SageMakerEndpoints",
    "is_claude",
    "needs_messages",
    "path",
    "unpacked",
]


class BedrockConverse:
    """Chat by Converse and ConverseStream. `HttpCall.path` is relative to the runtime's host."""

    framing: type[Framing] = EventStream

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """See `encode.py`."""
        return encode(request, target, stream=stream)

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """See `decode.py`."""
        return decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """See `stream.py`."""
        return ConverseDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
