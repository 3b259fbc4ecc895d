"""OpenAI's embeddings, as OpenAI and the many servers that follow it speak them."""

from __future__ import annotations

from array import array
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.openai_chat.decode import MALFORMED, fill_usage, told_usage
from parley_server.dialects.openai_chat.errors import error, said_inside
from parley_server.dialects.vectors import embedding

_OURS = ("model", "input")


@dataclass(frozen=True, slots=True)
class EmbedQuirks:
    """One server's way of speaking OpenAI's embeddings. The defaults are api.openai.com's, and suit most servers."""

    batch_limit: int | None = 2048
    """Most inputs of one call; None: no limit is known."""

    encoding_format: str = "base64"
    """Asked for where the server can be asked: base64 is a third of the bytes and a tenth of the work of decimal
    numbers. Empty: it is not asked."""

    base64_of: Literal["float32", "int8"] = "float32"
    """What numbers its base64 holds, little-endian. int8 comes out as it is: such vectors compare by direction only."""

    dimensions_field: str = "dimensions"
    """Field for the wanted dimensions; empty: there is none."""

    end_user_field: str = "user"
    """Field for the pseudonym of the end user; empty: there is none."""

    tokens: bool = True
    """Takes token IDs instead of text."""

    @classmethod
    def plain(cls, batch_limit: int | None = None) -> EmbedQuirks:
        """Text in, numbers out, nothing else: Together, and servers of which nothing is known."""
        return cls(batch_limit, encoding_format="", dimensions_field="", end_user_field="", tokens=False)

    @classmethod
    def dashscope(cls) -> EmbedQuirks:
        """Qwen's embeddings: ten texts a call, numbers only."""
        return cls(10, encoding_format="", end_user_field="", tokens=False)

    @classmethod
    def databricks(cls) -> EmbedQuirks:
        """Databricks: 150 texts a call, a length of the model's own."""
        return cls.plain(150)

    @classmethod
    def mistral(cls) -> EmbedQuirks:
        """Mistral: it bounds the tokens of a call, not the texts; 32 stay within."""
        return cls(32, dimensions_field="output_dimension", end_user_field="", tokens=False)

    @classmethod
    def nim(cls) -> EmbedQuirks:
        """NVIDIA: models that tell queries from passages need `input_type` among the provider options."""
        return cls(None, tokens=False)

    @classmethod
    def perplexity(cls) -> EmbedQuirks:
        """Perplexity: whole numbers of one byte."""
        return cls(512, encoding_format="base64_int8", base64_of="int8", end_user_field="", tokens=False)

    @classmethod
    def voyage(cls) -> EmbedQuirks:
        """Voyage: `input_type` is among the provider options."""
        return cls(1000, dimensions_field="output_dimension", end_user_field="", tokens=False)


class OpenAIEmbed:
    """The dialect of `POST /embeddings`. Servers that ignore the encoding and answer numbers are understood as well."""

    def __init__(
        self, quirks: EmbedQuirks | None = None, *, path: str = "/embeddings", batch_limit: int | None = None
    ) -> None:
        self._quirks = quirks or EmbedQuirks()
        self._path = path
        self._batch_limit = batch_limit or self._quirks.batch_limit

    def batch_limit(self, _target: Target) -> int | None:
        """Most inputs of one call."""
        return self._batch_limit

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter where text and tokens are mixed."""
        quirks, wishes = self._quirks, Wishes(request.unsupported_policy)
        body: dict[str, Any] = {"model": target.model, "input": _inputs(request, target, quirks)}
        if quirks.encoding_format:
            body["encoding_format"] = quirks.encoding_format
        if request.HasField("dimensions"):
            if quirks.dimensions_field:
                body[quirks.dimensions_field] = request.dimensions
            else:
                wishes.unmet("dimensions", f"{target.provider} cannot be told how many dimensions to give")
        if request.end_user_id:
            if quirks.end_user_field:
                body[quirks.end_user_field] = request.end_user_id
            else:
                wishes.unmet("end_user_id", f"{target.provider} takes no end user")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "embeddings have no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall(self._path, dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError unless their indexes are 0, 1, 2, … in some order."""
        answer = load_object(body)
        if answer.get("error"):
            raise said_inside(answer, target)
        try:
            return self._response(answer, target, encoding)
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem

    def _response(
        self, answer: Mapping[str, Any], target: Target, encoding: v1.EmbeddingEncoding.ValueType
    ) -> v1.EmbedResponse:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(rows))):
            raise ProtocolError("the provider numbered the embeddings wrongly")
        response = v1.EmbedResponse(
            embeddings=[self._embedding(index, row["embedding"], encoding) for index, row in enumerate(rows)],
            route=v1.RouteInfo(model=answer.get("model") or target.model, provider_response_id=answer.get("id") or ""),
        )
        if said := told_usage(answer):
            fill_usage(response.usage, said)
            response.usage.ClearField("output_tokens")  # some servers say 0
            if response.usage.HasField("total_tokens") and not response.usage.HasField("input_tokens"):
                response.usage.input_tokens = response.usage.total_tokens  # Voyage: there is nothing but input
        return response

    def _embedding(self, index: int, said: Any, encoding: v1.EmbeddingEncoding.ValueType) -> v1.Embedding:
        if isinstance(said, str):
            packed = b64decode(said, validate=True)
            said = array("b", packed) if self._quirks.base64_of == "int8" else packed
        return embedding(index, said, encoding)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means."""
        return error(status, headers, body, target)


def _inputs(request: v1.EmbedRequest, target: Target, quirks: EmbedQuirks) -> list[Any]:
    kinds = {given.WhichOneof("kind") for given in request.inputs}
    why = ""
    if len(kinds) > 1:
        why = "inputs are either all text or all tokens"
    elif kinds == {"tokens"} and not quirks.tokens:
        why = "inputs are text, not tokens"
    if why:
        raise UnsupportedParameter(f"{target}: {why}", violations=[Violation("inputs", why, "UNSUPPORTED_CONTENT")])
    if kinds == {"tokens"}:
        return [list(one.tokens.ids) for one in request.inputs]
    return [one.text for one in request.inputs]
