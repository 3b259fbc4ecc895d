"""What a dialect is, and the words all dialects share.

Streaming is three small synchronous machines in a row, each with `feed` and `finish`, each testable with a list:
bytes → Framing → frames → Decoder → events → fold → ChatResponse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError, UnsupportedParameter, Violation
from parley_server.core.reply import Batch
from parley_server.core.target import Target

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One HTTP request as data: what to send, not where. `path` is joined to the provider's base URL."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    warnings: tuple[v1.Warning, ...] = ()
    """Wishes of the request that this call leaves out."""
    streams: bool | None = None
    """Whether the answer comes as a stream, if that is not as it was asked for: some models only stream, others never.

    The driver folds the one and unfolds the other.
    """


class Framing(Protocol):
    """Cuts bytes into frames, which are bytes or whatever else the decoder reads.

    Fed any split of the same bytes it gives the same frames. Raises ProtocolError for what cannot be frames.
    """

    def feed(self, data: bytes) -> list[Any]:
        """The frames that `data` completes."""
        ...

    def finish(self) -> list[Any]:
        """The frame that the end of the stream completes, if the format allows for one."""
        ...


class Decoder(Protocol):
    """Turns the frames of one stream into events. Fresh per stream; keeps only what the wire forces on it."""

    def feed(self, frames: Sequence[Any]) -> Batch:
        """The events of the frames that one read delivered, adjacent deltas of a part merged.

        Raises what `error()` would have raised for an error that arrives inside the stream, ProtocolError for nonsense.
        """
        ...

    def finish(self) -> Batch:
        """The events that the end of the stream brings. Raises StreamInterrupted if it came before the end marker."""
        ...


class ChatDialect(Protocol):
    """How one family of APIs says 'chat'. Pure: same arguments, same answer."""

    @property
    def framing(self) -> type[Framing]: ...

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call that asks for `request`. Raises UnsupportedParameter or InvalidRequest."""
        ...

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """The answer, without what only the gateway knows (id, create_time, model, route.provider, cost)."""
        ...

    def decoder(self, target: Target) -> Decoder: ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means. Header names are in lower case. Never raises."""
        ...


class EmbedDialect(Protocol):
    """How one family of APIs says 'embed'."""

    def batch_limit(self, target: Target) -> int | None:
        """The most inputs that one call takes; None: no limit."""
        ...

    def encode(self, request: v1.EmbedRequest, target: Target) -> HttpCall: ...

    def decode(self, body: bytes, target: Target, encoding: v1.EmbeddingEncoding.ValueType) -> v1.EmbedResponse:
        """The vectors in the asked encoding, in input order, indexes from 0."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...


class RerankDialect(Protocol):
    """How one family of APIs says 'rerank'."""

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall: ...

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        """The results, best first, and usage; without what only the gateway knows (id, model, route.provider)."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...


class ModelsDialect(Protocol):
    """How one family of APIs lists its models."""

    def encode(self, cursor: str = "") -> HttpCall:
        """The call for the first page, or for the page behind `cursor`."""
        ...

    def decode(self, body: bytes, provider: str) -> tuple[list[v1.Model], str]:
        """The models of a page (`id`, `provider`, `provider_model`, what else is told), and the next page's cursor."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...


class Wishes:
    """Collects the wishes of a request that a dialect cannot express; then they are warnings, or one refusal."""

    def __init__(self, policy: v1.UnsupportedPolicy.ValueType) -> None:
        self._policy = policy
        self._warnings: list[v1.Warning] = []

    def unmet(self, field: str, message: str, code: str = "UNSUPPORTED_PARAMETER") -> None:
        """Note that the wish at `field` is left out, and why."""
        self._warnings.append(v1.Warning(code=code, message=message, field=field))

    def warnings(self) -> tuple[v1.Warning, ...]:
        """The notes. Raises UnsupportedParameter instead if the request asked for that."""
        if self._warnings and self._policy == v1.UNSUPPORTED_POLICY_ERROR:
            raise UnsupportedParameter(
                "; ".join(w.message for w in self._warnings[:3]),
                violations=[Violation(w.field, w.message, w.code) for w in self._warnings],
            )
        return tuple(self._warnings)


def web_address(source: v1.MediaSource, path: str, target: Target) -> str:
    """The URI of `source`, which stands at `path` of the request; empty if it holds bytes.

    Raises UnsupportedParameter for one that only another cloud can read (`gs:`, `s3:`).
    """
    if source.uri.startswith(("gs://", "s3://")):
        why = "this provider cannot read the storage of another cloud: send an https URI, or bytes"
        raise UnsupportedParameter(f"{target}: {why}", violations=[Violation(f"{path}.uri", why, "UNSUPPORTED_URI")])
    return source.uri


def load_object(body: bytes) -> dict[str, Any]:
    """`body` as a JSON object. Raises ProtocolError otherwise."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("the provider's answer is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("the provider's answer is not a JSON object")
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """`patch` merged into `target` after RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def dump(body: dict[str, Any], options_json: str, keep: Sequence[str]) -> bytes:
    """`body` as JSON text, with the caller's `provider_options_json` merged in; fields named in `keep` stay ours."""
    if options_json:
        options = orjson.loads(options_json)
        body = merge_patch(body, {name: value for name, value in options.items() if name not in keep})
    return orjson.dumps(body)
