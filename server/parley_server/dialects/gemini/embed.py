"""Embeddings of the Gemini API (`embedContent`, `batchEmbedContents`) and of Google Cloud (`predict` too)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, load_object, merge_patch
from parley_server.dialects.gemini.answers import NONSENSE
from parley_server.dialects.gemini.errors import error, error_inside
from parley_server.dialects.gemini.hosting import GEMINI, VERTEX
from parley_server.dialects.vectors import embedding

_OURS = ("model", "content", "requests")


class GeminiEmbed:
    """The Gemini API: one input by `embedContent`, several by `batchEmbedContents`.

    `provider_options_json` is merged into the request of every input: {"taskType": "RETRIEVAL_QUERY"}.
    """

    def batch_limit(self, _target: Target) -> int | None:
        """Most inputs of one call."""
        return 100

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter for inputs that are token IDs."""
        wishes = Wishes(request.unsupported_policy)
        path = GEMINI.path(target.model)
        options = _options(request, target, _OURS)
        requests: list[dict[str, Any]] = []
        for text in _texts(request, target, wishes):
            one: dict[str, Any] = {"model": path[1:], "content": {"parts": [{"text": text}]}}
            if request.HasField("dimensions"):
                one["outputDimensionality"] = request.dimensions
            requests.append(merge_patch(one, options))
        if len(requests) == 1:
            return HttpCall(f"{path}:embedContent", orjson.dumps(requests[0]), warnings=wishes.warnings())
        return HttpCall(f"{path}:batchEmbedContents", orjson.dumps({"requests": requests}), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        return _decode(body, target, encoding)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


class VertexEmbed:
    """Google Cloud: `predict`, or `embedContent` for the newer models, which take one input by call.

    `provider_options_json` is merged into every instance of `predict` ({"task_type": "RETRIEVAL_QUERY"}), its
    `parameters` into those of the call; with `embedContent`, into the body.
    """

    def batch_limit(self, target: Target) -> int | None:
        """Most inputs of one call."""
        name = target.model.rpartition("/")[2]
        return 1 if _embeds_contents(target.model) or name.startswith("gemini-embedding-001") else 250

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter for inputs that are token IDs."""
        wishes = Wishes(request.unsupported_policy)
        texts = _texts(request, target, wishes)
        size = {"outputDimensionality": request.dimensions} if request.HasField("dimensions") else {}
        body: dict[str, Any]
        if _embeds_contents(target.model):
            body = {"content": {"parts": [{"text": text} for text in texts]}}
            if size:
                body["embedContentConfig"] = size
            body = merge_patch(body, _options(request, target, ("content",)))
            verb = "embedContent"
        else:
            options = _options(request, target, ("instances", "content"))
            parameters = merge_patch(size, options.pop("parameters", {}))
            body = {"instances": [merge_patch({"content": text}, options) for text in texts]}
            if parameters:
                body["parameters"] = parameters
            verb = "predict"
        return HttpCall(f"{VERTEX.path(target.model)}:{verb}", orjson.dumps(body), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        return _decode(body, target, encoding)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _embeds_contents(model: str) -> bool:
    """Whether `embedContent` is the method of `model`: that of the later Gemini models and of open ones."""
    name = model.rpartition("/")[2]
    return ("gemini" in name and not name.startswith("gemini-embedding-001")) or name.endswith("-maas")


def _texts(request: v1.EmbedRequest, target: Target, wishes: Wishes) -> list[str]:
    """The inputs; notes the wishes that no embedding of Google's can meet."""
    tokens = [index for index, given in enumerate(request.inputs) if given.WhichOneof("kind") == "tokens"]
    if tokens:
        why = "inputs are text here, not token IDs"
        violations = [Violation(f"inputs[{index}].tokens", why, "UNSUPPORTED_CONTENT") for index in tokens[:20]]
        raise UnsupportedParameter(f"{target}: {why}", violations=violations)
    if request.end_user_id:
        wishes.unmet("end_user_id", "embeddings take no end user here")
    if request.routing.service_tier:
        wishes.unmet("routing.service_tier", "embeddings have no service tiers here")
    return [given.text for given in request.inputs]


def _options(request: v1.EmbedRequest, target: Target, ours: Iterable[str]) -> dict[str, Any]:
    text = request.provider_options_json.get(target.provider, "")
    options: dict[str, Any] = orjson.loads(text) if text else {}
    return {name: value for name, value in options.items() if name not in ours}


def _decode(body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
    answer = load_object(body)
    if answer.get("error"):
        raise error_inside(answer, target)
    try:
        vectors, counts = _vectors(answer)
        response = v1.EmbedResponse(
            embeddings=[embedding(index, vector, encoding) for index, vector in enumerate(vectors)],
            route=v1.RouteInfo(model=target.model),
        )
        if counts and None not in counts:
            count = int(sum(counts))
            response.usage.CopyFrom(v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=count, total_tokens=count))
    except NONSENSE as problem:
        raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
    return response


def _vectors(answer: Mapping[str, Any]) -> tuple[list[Sequence[float]], list[Any]]:
    """The vectors of any of the three forms, and the counts of tokens that there are."""
    if "predictions" in answer:
        found = [row["embeddings"] for row in answer["predictions"]]
        counts = [(one.get("statistics") or {}).get("token_count") for one in found]
    else:
        found = answer["embeddings"] if "embeddings" in answer else [answer["embedding"]]
        counts = [(answer.get("usageMetadata") or {}).get("promptTokenCount")]
    return [one["values"] for one in found], counts
