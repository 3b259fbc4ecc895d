"""OpenAI's embeddings."""

from __future__ import annotations

import sys
from array import array
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.openai_chat.decode import MALFORMED, fill_usage, told_usage
from parley_server.dialects.openai_chat.errors import error, said_inside

_OURS = ("model", "input")


class OpenAIEmbed:
    """The dialect of `POST /embeddings`.

    Asks for base64, which is a third of the bytes and a tenth of the work of decimal numbers, unless the server refuses
    `encoding_format`; servers that ignore it and answer numbers are understood as well.
    """

    def __init__(self, *, batch_limit: int | None = 2048, base64: bool = True, end_user_field: str = "user") -> None:
        self._batch_limit = batch_limit
        self._base64 = base64
        self._end_user_field = end_user_field

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
        body: dict[str, Any] = {"model": target.model, "input": given}
        if self._base64:
            body["encoding_format"] = "base64"
        if request.HasField("dimensions"):
            body["dimensions"] = request.dimensions
        if request.end_user_id:
            if self._end_user_field:
                body[self._end_user_field] = request.end_user_id
            else:
                wishes.unmet("end_user_id", f"{target.provider} takes no end user")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "embeddings have no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/embeddings", dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError unless their indexes are 0, 1, 2, … in some order."""
        answer = load_object(body)
        if answer.get("error"):
            raise said_inside(answer, target)
        try:
            return self._response(answer, target, encoding)
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem

    @staticmethod
    def _response(
        answer: Mapping[str, Any], target: Target, encoding: v1.EmbeddingEncoding.ValueType
    ) -> v1.EmbedResponse:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(rows))):
            raise ProtocolError("the provider numbered the embeddings wrongly")
        response = v1.EmbedResponse(
            embeddings=[_embedding(index, row["embedding"], encoding) for index, row in enumerate(rows)],
            route=v1.RouteInfo(model=answer.get("model") or target.model, provider_response_id=answer.get("id") or ""),
        )
        if said := told_usage(answer):
            fill_usage(response.usage, said)
            response.usage.ClearField("output_tokens")  # some servers say 0
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means."""
        return error(status, headers, body, target)


def _embedding(index: int, said: Any, encoding: v1.EmbeddingEncoding.ValueType) -> v1.Embedding:
    packed = _packed(said)
    if encoding == v1.EMBEDDING_ENCODING_FLOAT32_BYTES:
        return v1.Embedding(index=index, packed=packed, dimensions=len(packed) // 4)
    return v1.Embedding(index=index, floats=v1.FloatVector(values=_floats(packed)), dimensions=len(packed) // 4)


def _packed(said: Any) -> bytes:
    """A vector as little-endian float32, from base64 of just that or from numbers."""
    match said:
        case str():
            packed = b64decode(said, validate=True)
        case _:
            numbers = array("f", said)
            if sys.byteorder == "big":
                numbers.byteswap()
            packed = numbers.tobytes()
    if not packed or len(packed) % 4:
        raise ProtocolError("the provider answered an embedding that is no vector")
    return packed


def _floats(packed: bytes) -> array[float]:
    numbers = array("f")
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
