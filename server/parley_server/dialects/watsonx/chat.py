"""Chat completions in the envelope of watsonx.ai: `POST /ml/v1/text/chat` and `/ml/v1/text/chat_stream`.

What differs from others: `model_id` and the project beside it, a path of its own for streams instead of a field,
`tool_choice_option` for a choice that is a word, streams without [DONE], errors of another shape, a few finish reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, Decoder, Framing, HttpCall, Wishes
from parley_server.dialects.watsonx.errors import error, error_inside
from parley_server.dialects.watsonx.scope import Scope

_FINISH = {"time_limit": v1.FINISH_REASON_LENGTH, "cancelled": v1.FINISH_REASON_ERROR}
_OURS = frozenset({"model", "model_id", "stream", "stream_options"})
_ERRORS = b'"errors"'


class WatsonxChat:
    """`inner` speaks chat completions, as far as watsonx.ai does; this puts it into the envelope."""

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
        """The answer. Raises what `inner` raises, and what an error inside it means."""
        if _ERRORS in body:
            _raise_error(body, target)
        response = self._inner.decode(body, target)
        response.finish_reason = _FINISH.get(response.native_finish_reason, response.finish_reason)
        return response

    def decoder(self, target: Target) -> Decoder:
        """That of `inner`, which also hears of errors."""
        return _Decoder(self._inner.decoder(target), target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


class _Decoder:
    """Looks for errors in the frames, and at the end for a finish reason that only watsonx.ai has."""

    def __init__(self, inner: Decoder, target: Target) -> None:
        self._inner = inner
        self._target = target

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of some frames. Raises the error that the provider reports, ProtocolError for nonsense."""
        for frame in frames:
            if _ERRORS in frame:
                _raise_error(frame, self._target)
        return _mended(self._inner.feed(frames))

    def finish(self) -> Batch:
        """What the end of the connection brings. Raises StreamInterrupted if the answer was not over."""
        return _mended(self._inner.finish())


def _mended(batch: Batch) -> Batch:
    if batch and batch[-1].HasField("completed"):
        completed = batch[-1].completed
        completed.finish_reason = _FINISH.get(completed.native_finish_reason, completed.finish_reason)
    return batch


def _raise_error(text: bytes, target: Target) -> None:
    """Raise what `text` means if it is an error; the word may stand in any text."""
    try:
        said: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ProtocolError("the provider's answer is not JSON") from None
    if isinstance(said, dict) and isinstance(said.get("errors"), list) and said["errors"]:
        raise error_inside(said, target)
