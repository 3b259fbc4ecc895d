"""Several events as one piece of bytes: sequence and length in front of each, 12 bytes together."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from parley_server.stores.streams import Event

_HEAD = struct.Struct(">QI")


def packed(events: Sequence[Event], most: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of about `most` bytes, each with the sequence of its last event. An event is never divided."""
    piece = bytearray()
    for event in events:
        piece += _HEAD.pack(event.sequence, len(event.data))
        piece += event.data
        if len(piece) >= most:
            yield event.sequence, bytes(piece)
            piece.clear()
    if piece:
        yield events[-1].sequence, bytes(piece)


def unpacked(pieces: Sequence[bytes], after: int) -> list[Event]:
    """The events after the sequence `after`, each once: pieces that overlap have been written twice.

    Raises ValueError for bytes that are no such pieces.
    """
    events: list[Event] = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            if len(piece) - at < _HEAD.size:
                raise ValueError("a piece of events ends within a head")
            sequence, length = _HEAD.unpack_from(piece, at)
            at += _HEAD.size
            if len(piece) - at < length:
                raise ValueError("a piece of events ends within one")
            if sequence > after:
                events.append(Event(sequence, piece[at : at + length]))
                after = sequence
            at += length
    return events
