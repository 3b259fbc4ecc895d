"""Event streams that carry the stream of somebody else: InvokeModelWithResponseStream, and SageMaker's endpoints.

Both raise what an exception in the stream means: to the dialect inside, what is carried is its own, without errors of
AWS.
"""

from __future__ import annotations

import binascii

import orjson

from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.bedrock.errors import error_inside
from parley_server.dialects.framing.eventstream import EventStream, opened
from parley_server.dialects.framing.sse import SSE

_USUAL = b'{"bytes":"'
"""How nearly every chunk begins."""
_SOMEBODY = Target(provider="the provider", model="")
"""A framing does not know whom it listens to; the driver, which does, puts the names in."""


def unpacked(frame: bytes, target: Target) -> bytes:
    """The JSON event of a model on Bedrock that a frame holds; empty if it is of another kind."""
    return _inside(frame, "chunk", "bytes", target)


class PayloadParts:
    """bytes → the server-sent events of a container on SageMaker, which events `PayloadPart` cut anywhere."""

    def __init__(self) -> None:
        self._frames = EventStream()
        self._events = SSE()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises ProtocolError for nonsense."""
        pieces = [_inside(frame, "PayloadPart", "Bytes", _SOMEBODY) for frame in self._frames.feed(data)]
        text = b"".join(pieces)
        return self._events.feed(text) if text else []

    def finish(self) -> list[bytes]:
        """A last event without its blank line."""
        return self._events.finish()


def _inside(frame: bytes, name: str, field: str, target: Target) -> bytes:
    """The bytes inside, as such or in JSON; none for frames of another kind."""
    head, payload = opened(frame)
    if head.kind != "event":
        raise error_inside(head, payload, target)
    if head.name != name:
        return b""
    if head.content_type == "application/octet-stream":
        return payload
    try:
        if payload.startswith(_USUAL):  # and base64 holds no quotes
            return binascii.a2b_base64(payload[len(_USUAL) : payload.index(b'"', len(_USUAL))], strict_mode=True)
        return binascii.a2b_base64(orjson.loads(payload)[field], strict_mode=True)
    except (KeyError, TypeError, ValueError) as problem:
        raise ProtocolError(f"the provider sent a {name} that holds no bytes") from problem
