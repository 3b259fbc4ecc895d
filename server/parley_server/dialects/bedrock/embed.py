"""Embeddings by InvokeModel, whose bodies are the vendors' own: Titan, Cohere and Nova, told by the model's name.

Cohere and Nova want to be told what the vectors are for, and `EmbedRequest` has no word for that. Said is what suits
documents that are to be found; queries say theirs in `provider_options_json`: {"input_type": "search_query"}, or
{"singleEmbeddingParams": {"embeddingPurpose": "TEXT_RETRIEVAL"}}. Only Titan counts tokens in the body; for the others
the count is in a header, which the driver reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, OperationUnsupported, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.bedrock.answers import NONSENSE
from parley_server.dialects.bedrock.encode import path
from parley_server.dialects.bedrock.errors import error
from parley_server.dialects.vectors import embedding

_OURS = ("texts", "images", "inputs", "inputText", "inputImage", "embeddingTypes", "embedding_types", "taskType")


@dataclass(frozen=True, slots=True)
class _Vendor:
    """One kind of body. `body`: what asks for vectors of some texts, of so many dimensions if that is given."""

    marks: tuple[str, ...]
    """Parts of the names of its models."""
    body: Callable[[list[str], int | None], dict[str, Any]]
    dimensions: bool = True
    """It can be told how many dimensions to give."""
    batch: int = 1
    """Texts of one call."""


def _titan_1(texts: list[str], _dimensions: int | None) -> dict[str, Any]:
    return {"inputText": texts[0]}


def _titan_2(texts: list[str], dimensions: int | None) -> dict[str, Any]:
    return {"inputText": texts[0], **({"dimensions": dimensions} if dimensions else {})}


def _titan_image(texts: list[str], dimensions: int | None) -> dict[str, Any]:
    config = {"embeddingConfig": {"outputEmbeddingLength": dimensions}} if dimensions else {}
    return {"inputText": texts[0], **config}


def _cohere(texts: list[str], dimensions: int | None) -> dict[str, Any]:
    return {
        "texts": texts,
        "input_type": "search_document",
        **({"output_dimension": dimensions} if dimensions else {}),
    }


def _nova(texts: list[str], dimensions: int | None) -> dict[str, Any]:
    return {
        "taskType": "SINGLE_EMBEDDING",
        "singleEmbeddingParams": {
            "embeddingPurpose": "GENERIC_INDEX",
            **({"embeddingDimension": dimensions} if dimensions else {}),
            "text": {"truncationMode": "NONE", "value": texts[0]},  # too long a text is an error, not cut in silence
        },
    }


_VENDORS = (
    _Vendor(("amazon.titan-embed-text-v2",), _titan_2),
    _Vendor(("amazon.titan-embed-image",), _titan_image),
    _Vendor(("amazon.titan-embed", "amazon.titan-e1t"), _titan_1, dimensions=False),
    _Vendor(("amazon.nova",), _nova),
    _Vendor(("cohere.embed-english-v3", "cohere.embed-multilingual-v3"), _cohere, dimensions=False, batch=96),
    _Vendor(("cohere.embed",), _cohere, batch=96),
)


class BedrockEmbed:
    """Vectors of texts, as floats."""

    def batch_limit(self, target: Target) -> int | None:
        """Cohere takes 96 texts, the others one."""
        vendor = _vendor(target)
        return vendor.batch if vendor is not None else None

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter for tokens, OperationUnsupported."""
        vendor = _vendor(target)
        if vendor is None:
            raise OperationUnsupported(f"the gateway knows no embeddings of the model {target}")
        texts = []
        for index, given in enumerate(request.inputs):
            if given.WhichOneof("kind") != "text":
                why, field = "inputs are text here, not token IDs", f"inputs[{index}].tokens"
                raise UnsupportedParameter(
                    f"{target}: {why}", violations=[Violation(field, why, "UNSUPPORTED_CONTENT")]
                )
            texts.append(given.text)
        wishes = Wishes(request.unsupported_policy)
        dimensions = request.dimensions if request.HasField("dimensions") else None
        if dimensions is not None and not vendor.dimensions:
            wishes.unmet("dimensions", "this model's vectors have the one length they have")
        if request.end_user_id:
            wishes.unmet("end_user_id", "InvokeModel has no word for end users")
        tier = request.routing.service_tier
        headers = {"content-type": "application/json", **({"x-amzn-bedrock-service-tier": tier} if tier else {})}
        options = request.provider_options_json.get(target.provider, "")
        body = dump(vendor.body(texts, dimensions), options, _OURS)
        return HttpCall(path(target.model, "invoke"), body, headers=headers, warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        try:
            rows = _rows(answer)
            response = v1.EmbedResponse(
                embeddings=[embedding(index, row, encoding) for index, row in enumerate(rows)],
                route=v1.RouteInfo(model=target.model, provider_response_id=answer.get("id") or ""),
            )
            if (count := answer.get("inputTextTokenCount")) is not None:
                response.usage.source = v1.Usage.SOURCE_PROVIDER
                response.usage.input_tokens = response.usage.total_tokens = count
        except NONSENSE as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _vendor(target: Target) -> _Vendor | None:
    name = target.known_as
    return next((vendor for vendor in _VENDORS if any(mark in name for mark in vendor.marks)), None)


def _rows(answer: Mapping[str, Any]) -> Sequence[Sequence[float]]:
    match answer:
        case {"embedding": [*row]}:  # Titan
            return [row]
        case {"embeddings": {"float": [*rows]}}:  # Cohere, asked for types
            return rows
        case {"embeddings": [{"embedding": _}, *_] as rows}:  # Nova
            return [row["embedding"] for row in rows]
        case {"embeddings": [*rows]}:  # Cohere
            return rows
    raise ValueError("no vectors")
