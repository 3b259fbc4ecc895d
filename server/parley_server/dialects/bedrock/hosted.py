"""Dialects of others, where AWS hosts them: the same words, but AWS's paths and errors. For Bedrock and SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, Decoder, EmbedDialect, Framing, HttpCall, Wishes
from parley_server.dialects.bedrock.errors import error, is_aws, original

_TIER_HEADER = "x-amzn-bedrock-service-tier"


class Hosted:
    """A chat dialect on Bedrock. What AWS itself refuses is read here, what the model's server refuses by the dialect.

    `vendor`: with what Bedrock prefixes the vendor's own names of models, by which the dialect knows what they take.
    `invoked`: through InvokeModel, which takes the service tier as a header and knows nothing of end users.
    """

    def __init__(self, dialect: ChatDialect, vendor: str, *, invoked: bool = False) -> None:
        self._dialect = dialect
        self._vendor = vendor
        self._invoked = invoked

    @property
    def framing(self) -> type[Framing]:
        """That of the dialect."""
        return self._dialect.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call of the dialect."""
        target = replace(target, base_model=target.known_as.rpartition(self._vendor)[2])
        tier, user = request.routing.service_tier, request.end_user_id
        if not self._invoked or not (tier or user):
            return self._dialect.encode(request, target, stream=stream)
        wishes = Wishes(request.unsupported_policy)
        if user:
            wishes.unmet("end_user_id", "InvokeModel has no word for end users")
        plain = v1.ChatRequest()
        plain.CopyFrom(request)
        plain.ClearField("end_user_id")
        plain.routing.ClearField("service_tier")
        call = self._dialect.encode(plain, target, stream=stream)
        headers = {**call.headers, _TIER_HEADER: tier} if tier else call.headers
        return replace(call, headers=headers, warnings=(*call.warnings, *wishes.warnings()))

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """The answer, as the dialect reads it."""
        return self._dialect.decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """That of the dialect; exceptions of AWS in a stream are raised by the framing."""
        return self._dialect.decoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means. Never raises."""
        return _error(self._dialect.error, status, headers, body, target)


class EndpointChat:
    """A chat dialect spoken by the container of a SageMaker endpoint, whose name is the model's."""

    def __init__(self, dialect: ChatDialect) -> None:
        self._dialect = dialect

    @property
    def framing(self) -> type[Framing]:
        """That of the dialect."""
        return self._dialect.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call of the dialect, to the endpoint."""
        call = self._dialect.encode(request, target, stream=stream)
        operation = "invocations-response-stream" if stream else "invocations"
        return _to_endpoint(call, f"/endpoints/{quote(target.model, safe='')}/{operation}")

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """The answer, as the dialect reads it."""
        return self._dialect.decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """That of the dialect; exceptions of AWS in a stream are raised by the framing."""
        return self._dialect.decoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means. Never raises."""
        return _error(self._dialect.error, status, headers, body, target)


class EndpointEmbed:
    """Embeddings by the container of a SageMaker endpoint; which dialect it speaks goes by its name."""

    def __init__(self, choose: Callable[[str], EmbedDialect]) -> None:
        self._choose = choose

    def batch_limit(self, target: Target) -> int | None:
        """That of the dialect."""
        return self._choose(target.model).batch_limit(target)

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call of the dialect, to the endpoint."""
        call = self._choose(target.model).encode(request, target)
        return _to_endpoint(call, f"/endpoints/{quote(target.model, safe='')}/invocations")

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors, as the dialect reads them."""
        return self._choose(target.model).decode(body, target, encoding)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means. Never raises."""
        return _error(self._choose(target.model).error, status, headers, body, target)


def _to_endpoint(call: HttpCall, path: str) -> HttpCall:
    """`call` to a path of SageMaker, without the model: a container serves one, perhaps under another name."""
    body: dict[str, Any] = orjson.loads(call.body)
    body.pop("model", None)
    return replace(call, path=path, body=orjson.dumps(body))


def _error(
    inside: Callable[[int, Mapping[str, str], bytes, Target], GatewayError],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    target: Target,
) -> GatewayError:
    if not is_aws(headers, body):
        return inside(status, headers, body, target)
    if (said := original(body)) is not None:  # the container's own refusal, passed on
        return inside(said[0], headers, said[1], target)
    return error(status, headers, body, target)
