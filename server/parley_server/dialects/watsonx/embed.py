"""Embeddings of watsonx.ai: `POST /ml/v1/text/embeddings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.vectors import embedding
from parley_server.dialects.watsonx.errors import error
from parley_server.dialects.watsonx.scope import Scope

MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)
"""What reading JSON of another shape than expected raises."""
BATCH_LIMIT = 1000
OURS = ("model_id", "project_id", "space_id", "inputs", "query")
"""Fields that options cannot change."""


class WatsonxEmbed:
    """The dialect of embeddings, which takes texts and answers numbers."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

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
        if request.HasField("dimensions"):
            wishes.unmet("dimensions", "vectors have the dimensions of the model here")
        if request.end_user_id:
            wishes.unmet("end_user_id", "the end user cannot be named here")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "there are no service tiers here")
        body = self._scope.add({"inputs": [given.text for given in request.inputs]}, target)
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall(self._scope.path("embeddings", target), dump(body, options, OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        try:
            response = v1.EmbedResponse(
                embeddings=[
                    embedding(index, row["embedding"], encoding) for index, row in enumerate(answer["results"])
                ],
                route=v1.RouteInfo(model=answer.get("model_id") or target.model),
                usage=usage(answer),
            )
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def usage(answer: Mapping[str, Any]) -> v1.Usage | None:
    """The count of an answer without output; None if there is none."""
    count = answer.get("input_token_count")
    if count is None:
        return None
    return v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=count, total_tokens=count)
