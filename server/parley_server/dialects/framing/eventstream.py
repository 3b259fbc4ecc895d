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
_SUM = struct.Struct(">I")
_LEAST = _PRELUDE.size + _SUM.size  # bytes of a frame without headers and payload
_FIXED = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of values by type: int8 to int64, time stamp, UUID. Types 0 and 1, true and false, have no value at all."""
_BYTES, _TEXT = 6, 7


class Head(NamedTuple):
    """What the headers of a frame say. `name`: the type of the event or exception, the code of the error."""

    kind: Literal["event", "exception", "error"]
    name: str
    content_type: str
    words: bytes = b""
    """Of an error, whose payload is empty."""


class EventStream:
    """bytes → frames, whose checksums are right, as they came but without their last checksum: `opened` reads them.

    Fed any split of the same bytes it gives the same frames.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the beginning of a frame, in pieces
        self._size = 0  # of these pieces
        self._needed = _PRELUDE.size  # bytes that must be held before there is anything to do

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. Raises ProtocolError for a broken one or one of more than 24 MiB."""
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return []
            data = b"".join(self._held)
        frames: list[bytes] = []
        pack = _SUM.pack
        start, size = 0, len(data)
        needed = _PRELUDE.size
        while size - start >= 12:
            end = start + (total := _length(data[start : start + 12]))
            if end > size:
                needed = total
                break
            last = end - 4
            frame = data[start:last]
            if pack(crc32(frame)) != data[last:end]:
                raise ProtocolError("the provider sent a frame that fails its checksum")
            frames.append(frame)
            start = end
        self._held = [data[start:]] if start < size else []
        self._size = size - start
        self._needed = needed
        return frames

    def finish(self) -> list[bytes]:
        """Nothing: a frame that was cut off is none."""
        return []


def opened(frame: bytes) -> tuple[Head, bytes]:
    """What a frame of `EventStream` says: its headers, and its payload. Raises ProtocolError if they are broken."""
    start = payload_start(frame)
    head = _head(frame[_PRELUDE.size : start])
    return head, head.words or frame[start:]


def payload_start(frame: bytes) -> int:
    """Where the payload of a frame of `EventStream` begins."""
    return _PRELUDE.size + int.from_bytes(frame[4:8], "big")


@functools.lru_cache(maxsize=1024)  # the lengths of a stream are few, and what is once checked need not be again
def _length(prelude: bytes) -> int:
    """The length of a frame that begins with `prelude`, in bytes. Raises ProtocolError for an impossible one."""
    total, headers, checksum = _PRELUDE.unpack(prelude)
    if crc32(prelude[:8]) != checksum:
        raise ProtocolError("the provider sent a frame whose length fails its checksum")
    if not _LEAST + headers <= total <= MOST_BYTES:
        raise ProtocolError(f"the provider sent a frame of {total} bytes with {headers} of headers")
    return int(total)


@functools.lru_cache(maxsize=256)  # a stream repeats the same few blocks of headers for every frame
def _head(block: bytes) -> Head:
    try:
        headers = _headers(block)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as problem:
        raise ProtocolError("the provider sent a frame with broken headers") from problem
    content_type = headers.get(":content-type", "")
    match headers.get(":message-type", "event"):
        case "event":
            return Head("event", headers.get(":event-type", ""), content_type)
        case "exception":
            return Head("exception", headers.get(":exception-type", ""), content_type)
        case "error":
            words = headers.get(":error-message", "").encode()
            return Head("error", headers.get(":error-code", ""), content_type, words)
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
