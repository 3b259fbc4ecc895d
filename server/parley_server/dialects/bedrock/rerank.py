"""Ranking by InvokeModel: the models of Cohere, and those of Amazon, which take the same body less its version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.bedrock.answers import NONSENSE
from parley_server.dialects.bedrock.encode import path
from parley_server.dialects.bedrock.errors import error

_OURS = ("query", "documents", "api_version")


class BedrockRerank:
    """Scores of documents for a query. No tokens are counted."""

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        """The call that asks for `request`."""
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, Any] = {"query": request.query, "documents": list(request.documents)}
        if "cohere." in target.known_as:
            body["api_version"] = 2
        if request.HasField("top_n"):
            body["top_n"] = request.top_n
        if request.HasField("max_tokens_per_document"):
            wishes.unmet("max_tokens_per_document", "this model cannot be told how much to read of each")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "ranking has no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall(path(target.model, "invoke"), dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first. Raises ProtocolError for what are none."""
        try:
            rows = load_object(body)["results"]
            results = [v1.RerankResult(index=row["index"], score=row["relevance_score"]) for row in rows]
        except NONSENSE as problem:
            raise ProtocolError("the provider answered no ranking in the form it should have") from problem
        if any(math.isnan(result.score) for result in results) or len({r.index for r in results}) != len(results):
            raise ProtocolError("the provider ranked a document twice, or without a score")
        results.sort(key=lambda result: -result.score)
        return v1.RerankResponse(results=results, route=v1.RouteInfo(model=target.model))

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
