"""Chat completions in the envelope of watsonx.ai: `POST /ml/v1/text/chat` and `/ml/v1/text/chat_stream`.

What differs from others: `model_id` and the project beside it, a path of its own for streams instead of a field,
`tool_choice_option` for a choice that is a word, errors of another shape: `error_inside` is a quirk for the one inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, Decoder, Framing, HttpCall, Wishes
from parley_server.dialects.watsonx.errors import error
from parley_server.dialects.watsonx.scope import Scope

_OURS = frozenset({"model", "model_id", "stream", "stream_options"})


class WatsonxChat:
    """`inner` speaks chat completions, as far as watsonx.ai does; this puts requests into the envelope."""

    def __init__(self, inner: ChatDialect, scope: Scope) -> None:
        self._inner = inner
        self._scope = scope

    @property
    def framing(self) -> type[Framing]:
        """What streams are cut by."""
        return self._inner.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call that asks for `request`. Raises what `inner` raises."""
        call = self._inner.encode(request, target, stream=False)
        body = {name: value for name, value in orjson.loads(call.body).items() if name not in _OURS}
        if isinstance(body.get("tool_choice"), str):
            body["tool_choice_option"] = body.pop("tool_choice")
        wishes = Wishes(request.unsupported_policy)
        if stream and request.include_provider_response:
            wishes.unmet("include_provider_response", "a stream has no one body to return")
        path = self._scope.path("chat_stream" if stream else "chat", target)
        content = orjson.dumps(self._scope.add(body, target))
        return replace(call, path=path, body=content, warnings=(*call.warnings, *wishes.warnings()))

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """The answer. Raises what `inner` raises."""
        return self._inner.decode(body, target)

    def decoder(self, target: Target) -> Decoder:
        """That of `inner`."""
        return self._inner.decoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)
