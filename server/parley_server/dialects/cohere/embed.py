"""Cohere's embeddings: `POST /v2/embed`.

The API wants to be told what the vectors are for (`input_type`), and `EmbedRequest` has no word for that. Said is
"search_document"; queries, classification and clustering ask for theirs through `provider_options_json`, for example
{"input_type": "search_query"}. Vectors of either kind live in one space, but are not the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.cohere.answers import MALFORMED
from parley_server.dialects.cohere.errors import error
from parley_server.dialects.vectors import embedding

INPUT_TYPE = "search_document"
BATCH_LIMIT = 96

_OURS = ("model", "texts", "inputs", "images", "embedding_types")


class CohereEmbed:
    """The dialect of `POST /v2/embed` for texts and vectors of floats."""

    def batch_limit(self, _target: Target) -> int:
        """As documented."""
        return BATCH_LIMIT

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter for inputs that are token IDs."""
        why = "inputs are text here, not token IDs"
        tokens = [index for index, given in enumerate(request.inputs) if given.WhichOneof("kind") == "tokens"]
        if tokens:
            violations = [Violation(f"inputs[{index}].tokens", why, "UNSUPPORTED_CONTENT") for index in tokens[:20]]
            raise UnsupportedParameter(f"{target}: {why}", violations=violations)
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, object] = {
            "model": target.model,
            "texts": [given.text for given in request.inputs],
            "input_type": INPUT_TYPE,
            "embedding_types": ["float"],
        }
        if request.HasField("dimensions"):
            body["output_dimension"] = request.dimensions
        if request.end_user_id:
            wishes.unmet("end_user_id", "the end user cannot be named here")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "there are no service tiers here")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/v2/embed", dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        try:
            response = v1.EmbedResponse(
                embeddings=[embedding(index, row, encoding) for index, row in enumerate(answer["embeddings"]["float"])],
                route=v1.RouteInfo(model=target.model, provider_response_id=answer.get("id") or ""),
            )
            billed = (answer.get("meta") or {}).get("billed_units") or {}
            if (count := billed.get("input_tokens")) is not None:
                response.usage.source = v1.Usage.SOURCE_PROVIDER
                response.usage.input_tokens = response.usage.total_tokens = round(count)
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
