"""Several events as one piece of bytes, sealed: sequence and length in front of each, 12 bytes together."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from parley_server.stores.sealing import Seals
from parley_server.stores.streams import Ending, Event, StreamExpired

_HEAD = struct.Struct(">QI")


def packed(seals: Seals, key: str, events: Sequence[Event], most: int) -> Iterator[tuple[int, int, bytes]]:
    """Pieces of about `most` bytes: sequence of the last event, bytes before sealing, the piece."""
    piece = bytearray()
    for event in events:
        piece += _HEAD.pack(event.sequence, len(event.data))
        piece += event.data
        if len(piece) >= most or event is events[-1]:
            yield event.sequence, len(piece), seals.close(bytes(piece), _place(key, event.sequence))
            piece.clear()


def unpacked(seals: Seals, key: str, pieces: Sequence[tuple[int, bytes]], after: int) -> list[Event]:
    """The events after the sequence `after`, each once: pieces that overlap have been written twice. `pieces`: with the
    sequences of their last events.

    Raises StreamExpired if one cannot be opened: it is damaged, or the key that it was sealed with is no longer known.
    """
    events: list[Event] = []
    for last, sealed in pieces:
        piece = seals.open(sealed, _place(key, last))
        if piece is None:
            raise StreamExpired(key)
        at = 0
        while at < len(piece):
            sequence, length = _HEAD.unpack_from(piece, at)
            at += _HEAD.size
            if sequence > after:
                events.append(Event(sequence, piece[at : at + length]))
                after = sequence
            at += length
    return events


def packed_ending(seals: Seals, key: str, ending: Ending) -> tuple[bytes, bytes]:
    """Status and usage, sealed."""
    return seals.close(ending.status, _place(key, -1)), seals.close(ending.usage, _place(key, -2))


def unpacked_ending(seals: Seals, key: str, status: bytes, usage: bytes) -> Ending:
    """The ending. Raises StreamExpired as above."""
    told = seals.open(status, _place(key, -1)), seals.open(usage, _place(key, -2))
    if told[0] is None or told[1] is None:
        raise StreamExpired(key)
    return Ending(told[0], told[1])


def _place(key: str, sequence: int) -> bytes:
    return f"stream {sequence} {key}".encode()
