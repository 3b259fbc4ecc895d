"""Ranking of watsonx.ai: `POST /ml/v1/text/rerank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.watsonx.embed import MALFORMED, OURS, usage
from parley_server.dialects.watsonx.errors import error
from parley_server.dialects.watsonx.scope import Scope


class WatsonxRerank:
    """The dialect of ranking."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        """The call that asks for `request`."""
        wishes = Wishes(request.unsupported_policy)
        parameters: dict[str, Any] = {}
        if request.HasField("top_n"):
            parameters["return_options"] = {"top_n": request.top_n}
        if request.HasField("max_tokens_per_document"):
            parameters["truncate_input_tokens"] = request.max_tokens_per_document
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "there are no service tiers here")
        body: dict[str, Any] = {"query": request.query, "inputs": [{"text": text} for text in request.documents]}
        if parameters:
            body["parameters"] = parameters
        options = request.provider_options_json.get(target.provider, "")
        content = dump(self._scope.add(body, target), options, OURS)
        return HttpCall(self._scope.path("rerank", target), content, warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        try:
            rows = sorted(answer["results"], key=lambda row: row["score"], reverse=True)
            return v1.RerankResponse(
                results=[v1.RerankResult(index=row["index"], score=row["score"]) for row in rows],
                route=v1.RouteInfo(model=answer.get("model_id") or target.model),
                usage=usage(answer),
            )
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no ranking in the form it should have") from problem

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
