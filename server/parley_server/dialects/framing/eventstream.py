"""Cuts the event streams of AWS into messages: binary frames with headers, a payload and two checksums.

A frame is big-endian: total length, length of the headers, CRC-32 of these eight bytes, the headers, the payload,
CRC-32 of all before it. Described at https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import functools
import struct
from typing import Literal, NamedTuple
from zlib import crc32

from parley_server.core.errors import ProtocolError

MOST_BYTES = 24 * 1024 * 1024
"""Of one frame; what AWS itself allows a payload."""

_PRELUDE = struct.Struct(">III")
_LEAST = _PRELUDE.size + 4  # bytes of a frame without headers and payload
_FIXED = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of values by type: int8 to int64, time stamp, UUID. Types 0 and 1, true and false, have no value at all."""
_BYTES, _TEXT = 6, 7


class Message(NamedTuple):  # a frozen dataclass takes a third of a frame's time to make
    """One frame. `kind`: what it is; `name`: the type of the event or exception, the code of the error.

    The payload of an error is empty in the format; here it is the words of its `:error-message`.
    """

    kind: Literal["event", "exception", "error"]
    name: str
    content_type: str
    payload: bytes


class EventStream:
    """bytes → messages. Fed any split of the same bytes it gives the same messages."""

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the beginning of a frame, in pieces
        self._size = 0  # of these pieces
        self._needed = _PRELUDE.size  # bytes that must be held before there is anything to do

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ProtocolError for a broken frame or one of more than 24 MiB."""
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return []
            data = b"".join(self._held)
        messages: list[Message] = []
        start, end = 0, len(data)
        needed = _PRELUDE.size
        while end - start >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(data, start)
            if crc32(data[start : start + 8]) != checksum:
                raise ProtocolError("the provider sent a frame whose length fails its checksum")
            if not _LEAST + headers <= total <= MOST_BYTES:
                raise ProtocolError(f"the provider sent a frame of {total} bytes with {headers} of headers")
            if end - start < total:
                needed = total
                break
            payload, payload_end = start + _PRELUDE.size + headers, start + total - 4
            start += total
            if crc32(data[payload - headers - 4 : payload_end], checksum) != int.from_bytes(
                data[payload_end:start], "big"
            ):
                raise ProtocolError("the provider sent a frame that fails its checksum")
            kind, name, content_type, words = _said(data[payload - headers : payload])
            messages.append(Message(kind, name, content_type, words or data[payload:payload_end]))
        self._held = [data[start:]] if start < end else []
        self._size = end - start
        self._needed = needed
        return messages

    def finish(self) -> list[Message]:
        """Nothing: a frame that was cut off is none."""
        return []


@functools.lru_cache(maxsize=256)  # a stream repeats the same few blocks of headers for every frame
def _said(block: bytes) -> tuple[Literal["event", "exception", "error"], str, str, bytes]:
    """What the headers say: kind, name, content type, and the words of an error."""
    try:
        headers = _headers(block)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as problem:
        raise ProtocolError("the provider sent a frame with broken headers") from problem
    content_type = headers.get(":content-type", "")
    match headers.get(":message-type", "event"):
        case "event":
            return "event", headers.get(":event-type", ""), content_type, b""
        case "exception":
            return "exception", headers.get(":exception-type", ""), content_type, b""
        case "error":
            return "error", headers.get(":error-code", ""), content_type, headers.get(":error-message", "").encode()
    raise ProtocolError("the provider sent a frame of an unknown kind")


def _headers(block: bytes) -> dict[str, str]:
    """The headers that are text, by name; the others are checked and skipped."""
    found: dict[str, str] = {}
    at, end = 0, len(block)
    while at < end:
        name_end = at + 1 + block[at]
        name = block[at + 1 : name_end].decode()
        kind = block[name_end]
        at = name_end + 1
        if kind in (_BYTES, _TEXT):
            (size,) = struct.unpack_from(">H", block, at)
            at += 2
            if kind == _TEXT:
                found[name] = block[at : at + size].decode()
        else:
            size = 0 if kind in (0, 1) else _FIXED[kind]
        at += size
    if at > end:
        raise IndexError("a value ends behind the headers")
    return found
