"""Text Embeddings Inference, in its native form: texts in, bare arrays out.

https://github.com/huggingface/text-embeddings-inference. A server of it serves one model, so that no call names it, and
counts no tokens. It also speaks OpenAI's embeddings, under /v1, which say what they used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
    Violation,
)
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump
from parley_server.dialects.hints import provider_text, retry_after
from parley_server.dialects.vectors import embedding

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
_BY_TYPE: dict[str, type[GatewayError]] = {
    "overloaded": Overloaded,
    "backend": Unavailable,
    "unhealthy": Unavailable,
    "validation": InvalidRequest,
    "tokenizer": InvalidRequest,
    "empty": InvalidRequest,
}
_BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    403: CredentialsRejected,
    404: ModelNotFound,
    413: RequestTooLarge,
    424: Unavailable,
    429: Overloaded,
    503: Overloaded,
}


class _TEI:
    """What both operations have in common."""

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means: by `error_type`, else by the status."""
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        said = said if isinstance(said, dict) else {}
        kind = str(said.get("error_type") or "")
        message = str(said.get("error") or said.get("message") or "")
        found = _BY_STATUS.get(status, InvalidRequest if status < 500 else Unavailable)
        if status != 413:  # of the type Validation, which says less than the status
            found = _BY_TYPE.get(kind.lower(), found)
        if (
            issubclass(found, InvalidRequest) and "must have less than" in message
        ):  # "… less than 512 tokens. Given: 600"
            found = ContextLengthExceeded
        return found(
            f"{target.provider} refused the call ({status})",
            retry_after=retry_after(headers) if found.retryable else None,
            provider_error=v1.ProviderError(
                provider=target.provider,
                model=target.model,
                http_status=status,
                type=provider_text(kind)[:128],
                message=provider_text(message),
            ),
        )


class TEIEmbed(_TEI):
    """The dialect of `POST /embed`. `batch_limit`: `max_client_batch_size` of the server, 32 unless it was set."""

    def __init__(self, *, batch_limit: int = 32) -> None:
        self._batch_limit = batch_limit

    def batch_limit(self, _target: Target) -> int | None:
        """Most inputs of one call."""
        return self._batch_limit

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter where text and tokens are mixed."""
        wishes = Wishes(request.unsupported_policy)
        kinds = {given.WhichOneof("kind") for given in request.inputs}
        if len(kinds) > 1:
            why = "inputs are either all text or all tokens"
            raise UnsupportedParameter(f"{target}: {why}", violations=[Violation("inputs", why, "UNSUPPORTED_CONTENT")])
        given: list[Any] = [one.text for one in request.inputs]
        if kinds == {"tokens"}:
            given = [list(one.tokens.ids) for one in request.inputs]
        body: dict[str, Any] = {"inputs": given}
        if request.HasField("dimensions"):
            body["dimensions"] = request.dimensions
        if request.end_user_id:
            wishes.unmet("end_user_id", f"{target.provider} takes no end user")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "embeddings have no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/embed", dump(body, options, ("inputs",)), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors, in input order."""
        response = v1.EmbedResponse(route=v1.RouteInfo(model=target.model))
        try:
            for index, numbers in enumerate(_array(body)):
                response.embeddings.append(embedding(index, numbers, encoding))
        except _MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
        return response


class TEIRerank(_TEI):
    """The dialect of `POST /rerank` with `texts`. It ranks them all: the driver cuts off what was not asked for."""

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        """The call that asks for `request`."""
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, Any] = {"query": request.query, "texts": list(request.documents)}
        if request.HasField("max_tokens_per_document"):
            wishes.unmet("max_tokens_per_document", f"{target.provider} cannot be told how much to read of each")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "reranking has no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/rerank", dump(body, options, ("query", "texts")), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first."""
        try:
            results = [v1.RerankResult(index=row["index"], score=row["score"]) for row in _array(body)]
        except _MALFORMED as problem:
            raise ProtocolError("the provider answered no ranking in the form it should have") from problem
        if any(math.isnan(result.score) for result in results):
            raise ProtocolError("the provider ranked a document without a score")
        results.sort(key=lambda result: -result.score)
        return v1.RerankResponse(results=results, route=v1.RouteInfo(model=target.model))


def _array(body: bytes) -> list[Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise ProtocolError("the provider's answer is not JSON") from problem
    if not isinstance(value, list):
        raise ProtocolError("the provider's answer is not a JSON array")
    return value
