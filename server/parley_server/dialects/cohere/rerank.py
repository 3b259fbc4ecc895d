"""Cohere's ranking: `POST /v2/rerank`."""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.cohere.answers import MALFORMED
from parley_server.dialects.cohere.errors import error

_OURS = ("model", "query", "documents")


class CohereRerank:
    """The dialect of `POST /v2/rerank`. It counts searches, not tokens: usage names them as a call of its own tool."""

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        """The call that asks for `request`."""
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, object] = {
            "model": target.model,
            "query": request.query,
            "documents": list(request.documents),
        }
        if request.HasField("top_n"):
            body["top_n"] = request.top_n
        if request.HasField("max_tokens_per_document"):
            body["max_tokens_per_doc"] = request.max_tokens_per_document
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "there are no service tiers here")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/v2/rerank", dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        try:
            rows = sorted(answer["results"], key=lambda row: row["relevance_score"], reverse=True)
            response = v1.RerankResponse(
                results=[v1.RerankResult(index=row["index"], score=row["relevance_score"]) for row in rows],
                route=v1.RouteInfo(model=target.model, provider_response_id=answer.get("id") or ""),
            )
            billed = (answer.get("meta") or {}).get("billed_units") or {}
            if (searches := billed.get("search_units")) is not None:
                response.usage.server_tool_calls["search"] = round(searches)
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no ranking in the form it should have") from problem
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
