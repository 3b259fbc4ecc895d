"""Reranking by `POST /rerank`, read from the recorded JSON in the plainest way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from parley import v1
from parley_server.core.errors import GatewayError, InvalidRequest, OperationUnsupported
from parley_server.core.target import Target
from parley_server.dialects.rerank import Rerank, RerankQuirks
from tests.conformance.adapter import AnyAdapter, Inexpressible
from tests.conformance.recording import Recording

_FAILURES: dict[int, type[GatewayError]] = {400: InvalidRequest, 501: OperationUnsupported}
_DIALECTS = {
    "llamacpp": Rerank(),
    "openrouter": Rerank(),
    "together": Rerank(RerankQuirks.together()),
    "voyage": Rerank(RerankQuirks.voyage()),
}


class RerankPostAdapter:
    """llama.cpp, OpenRouter, Together and Voyage."""

    name = "rerank"
    operation: Literal["rerank"] = "rerank"

    def covers(self, recording: Recording) -> bool:
        return recording.api == "rerank" and recording.provider in _DIALECTS

    def out_of_scope(self, _recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> Rerank:
        return _DIALECTS[recording.provider]

    def target(self, recording: Recording) -> Target:
        return Target(recording.provider, (recording.request or {}).get("model") or recording.model)

    def read(self, recording: Recording) -> tuple[list[tuple[int, float]], Mapping[str, int]]:
        """Together and Voyage call the list differently; all of them say how many tokens they read, in one sum."""
        answer = json.loads(recording.body)
        rows = answer["data" if recording.provider == "voyage" else "results"]
        tokens = answer["usage"]["total_tokens"]
        found = [(row["index"], row["relevance_score"]) for row in rows]
        return found, {"input_tokens": tokens, "total_tokens": tokens}

    def request(self, recording: Recording) -> v1.RerankRequest:
        body = dict(recording.request)
        documents, top = body.pop("documents"), body.pop("top_n", None)
        if not documents:
            raise Inexpressible("no documents to rank")
        if top == 0:
            raise Inexpressible("no results are asked for")
        request = v1.RerankRequest(
            model=f"{recording.provider}/{body.pop('model')}", query=body.pop("query"), documents=documents
        )
        if top is not None:
            request.top_n = top
        if body:
            request.provider_options_json[recording.provider] = json.dumps(body)
        return request

    def normal(self, body: Any) -> Any:
        return body

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _FAILURES[recording.status]


ADAPTERS: tuple[AnyAdapter, ...] = (RerankPostAdapter(),)
