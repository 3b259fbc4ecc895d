"""Ollama's embeddings: `POST /api/embed`."""

from __future__ import annotations

from collections.abc import Mapping

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, Wishes, dump, load_object
from parley_server.dialects.ollama.answers import MALFORMED
from parley_server.dialects.ollama.errors import error, error_inside
from parley_server.dialects.vectors import embedding

_OURS = ("model", "input")


class OllamaEmbed:
    """The dialect of `POST /api/embed`, which takes texts and answers numbers. `keep_alive`: as for chat."""

    def __init__(self, keep_alive: str | int | None = None) -> None:
        self._keep_alive = keep_alive

    def batch_limit(self, _target: Target) -> int:
        """Ours: the API names none, but the answer comes only when the last input is done."""
        return 512

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter for inputs that are token IDs."""
        why = "inputs are text here, not token IDs"
        tokens = [index for index, given in enumerate(request.inputs) if given.WhichOneof("kind") == "tokens"]
        if tokens:
            violations = [Violation(f"inputs[{index}].tokens", why, "UNSUPPORTED_CONTENT") for index in tokens[:20]]
            raise UnsupportedParameter(f"{target}: {why}", violations=violations)
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, object] = {"model": target.model, "input": [given.text for given in request.inputs]}
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        if request.HasField("dimensions"):
            body["dimensions"] = request.dimensions
        if request.end_user_id:
            wishes.unmet("end_user_id", "the end user cannot be named here")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "there are no service tiers here")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/api/embed", dump(body, options, _OURS), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in input order. Raises ProtocolError if `body` has none."""
        answer = load_object(body)
        if answer.get("error"):
            raise error_inside(answer, target)
        try:
            response = v1.EmbedResponse(
                embeddings=[embedding(index, row, encoding) for index, row in enumerate(answer["embeddings"])],
                route=v1.RouteInfo(model=answer.get("model") or target.model),
            )
            if (count := answer.get("prompt_eval_count")) is not None:
                response.usage.CopyFrom(
                    v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=count, total_tokens=count)
                )
        except MALFORMED as problem:
            raise ProtocolError("the provider answered no embeddings in the form they should have") from problem
        return response

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
