"""Reranking as most servers have it: `POST /rerank` of a query and documents, scores by index back.

Jina, Voyage, Together, vLLM, llama.cpp, OpenRouter and LiteLLM differ in the names of a few fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, OperationUnsupported, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.openai_chat.decode import MALFORMED
from parley_server.dialects.openai_chat.errors import error, said_inside

_OURS = ("model", "query", "documents")
_LARGEST_COUNT = 2**31


@dataclass(frozen=True, slots=True)
class RerankQuirks:
    """One server's way of reranking. The defaults are those of vLLM, llama.cpp and OpenRouter."""

    top_field: str = "top_n"
    """Field for the most results; empty: there is none, and the surplus is cut off."""

    document_limit_field: str = ""
    """Field for the tokens that are read of each document; empty: there is none."""

    return_documents: bool = False
    """Sends the documents back unless told not to."""

    @classmethod
    def jina(cls) -> RerankQuirks:
        """Jina."""
        return cls(return_documents=True)

    @classmethod
    def litellm(cls) -> RerankQuirks:
        """A LiteLLM proxy, which takes the fields of Cohere."""
        return cls(document_limit_field="max_tokens_per_doc", return_documents=True)

    @classmethod
    def together(cls) -> RerankQuirks:
        """Together."""
        return cls()

    @classmethod
    def voyage(cls) -> RerankQuirks:
        """Voyage."""
        return cls(top_field="top_k")


class Rerank:
    """The dialect of `POST /rerank`."""

    def __init__(self, quirks: RerankQuirks | None = None, *, path: str = "/rerank") -> None:
        self._quirks = quirks or RerankQuirks()
        self._path = path

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        """The call that asks for `request`."""
        quirks, wishes = self._quirks, Wishes(request.unsupported_policy)
        body: dict[str, Any] = {"model": target.model, "query": request.query, "documents": list(request.documents)}
        if request.HasField("top_n") and quirks.top_field:
            body[quirks.top_field] = request.top_n
        if request.HasField("max_tokens_per_document"):
            if quirks.document_limit_field:
                body[quirks.document_limit_field] = request.max_tokens_per_document
            else:
                wishes.unmet("max_tokens_per_document", f"{target.provider} cannot be told how much to read of each")
        if quirks.return_documents:
            body["return_documents"] = False
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "reranking has no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall(self._path, dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first. Raises ProtocolError for what are none."""
        answer = load_object(body)
        if answer.get("error"):
            raise said_inside(answer, target)
        try:
            rows = answer["results"] if "results" in answer else answer["data"]
            response = v1.RerankResponse(
                results=_ranked((row["index"], row.get("relevance_score", row.get("score"))) for row in rows),
                route=v1.RouteInfo(
                    model=answer.get("model") or target.model, provider_response_id=answer.get("id") or ""
                ),
            )
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no ranking in the form it should have") from problem
        _fill_usage(response.usage, answer)
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means."""
        found = error(status, headers, body, target)
        if status == 501:  # llama.cpp: its model was not loaded for this
            why = f"{target.provider} does not rerank with this model"
            return OperationUnsupported(why, facts=found.facts, provider_error=found.provider_error)
        return found


def _ranked(rows: Iterable[tuple[Any, Any]]) -> list[v1.RerankResult]:
    """Results of pairs of index and score, best first. Raises ProtocolError unless each is there once, with a score."""
    results = [v1.RerankResult(index=index, score=math.nan if score is None else score) for index, score in rows]
    if any(math.isnan(result.score) for result in results):
        raise ProtocolError("the provider ranked a document without a score")
    if len({result.index for result in results}) != len(results):
        raise ProtocolError("the provider ranked a document twice")
    return sorted(results, key=lambda result: -result.score)  # stable: equal ones stay as the provider has them


def _fill_usage(usage: v1.Usage, answer: Mapping[str, Any]) -> None:
    """Tokens, where the server counts tokens: there is nothing but input. Search units have no place in `v1.Usage`."""
    meta = answer.get("meta")
    tokens = meta.get("tokens") or meta.get("billed_units") if isinstance(meta, dict) else None
    for said, names in (
        (answer.get("usage"), ("prompt_tokens", "total_tokens")),
        (tokens, ("input_tokens", "total_tokens")),
    ):
        counts = [said.get(name) for name in names] if isinstance(said, dict) else []
        count = next((n for n in counts if isinstance(n, int | float) and 0 <= n < _LARGEST_COUNT), None)
        if count is not None:
            usage.source = v1.Usage.SOURCE_PROVIDER
            usage.input_tokens = usage.total_tokens = int(count)
            return
