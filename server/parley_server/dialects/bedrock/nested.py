"""Event streams that carry the stream of somebody else: InvokeModelWithResponseStream, and SageMaker's endpoints.

Both raise what an exception in the stream means: to the dialect inside, frames are its own and hold no errors of AWS.
"""

from __future__ import annotations

import binascii

import orjson

from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.bedrock.errors import error_inside
from parley_server.dialects.framing.eventstream import EventStream, Message
from parley_server.dialects.framing.sse import SSE

_USUAL = b'{"bytes":"'
"""How nearly every chunk begins."""
_SOMEBODY = Target(provider="the provider", model="")
"""A framing does not know whom it listens to; the driver, which does, puts the names in."""


class Chunks:
    """bytes → the JSON events of a model on Bedrock, each wrapped in an event `chunk`."""

    def __init__(self) -> None:
        self._messages = EventStream()

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises ProtocolError for nonsense."""
        pieces = [_inside(message, "chunk", "bytes") for message in self._messages.feed(data)]
        return pieces if all(pieces) else [piece for piece in pieces if piece]

    def finish(self) -> list[bytes]:
        """Nothing: what was cut off is no event."""
        return []


class PayloadParts:
    """bytes → the server-sent events of a container on SageMaker, which events `PayloadPart` cut anywhere."""

    def __init__(self) -> None:
        self._messages = EventStream()
        self._events = SSE()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises ProtocolError for nonsense."""
        pieces = [_inside(message, "PayloadPart", "Bytes") for message in self._messages.feed(data)]
        text = b"".join(pieces)
        return self._events.feed(text) if text else []

    def finish(self) -> list[bytes]:
        """A last event without its blank line."""
        return self._events.finish()


def _inside(message: Message, name: str, field: str) -> bytes:
    """The bytes inside, as such or in JSON; none for messages of another kind."""
    if message.kind != "event":
        raise error_inside(message, _SOMEBODY)
    if message.name != name:
        return b""
    if message.content_type == "application/octet-stream":
        return message.payload
    payload = message.payload
    try:
        if payload.startswith(_USUAL):  # and base64 holds no quotes
            return binascii.a2b_base64(payload[len(_USUAL) : payload.index(b'"', len(_USUAL))], strict_mode=True)
        return binascii.a2b_base64(orjson.loads(payload)[field], strict_mode=True)
    except (KeyError, TypeError, ValueError) as problem:
        raise ProtocolError(f"the provider sent a {name} that holds no bytes") from problem
