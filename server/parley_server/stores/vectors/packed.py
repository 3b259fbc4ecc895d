"""A vector as stores and messages keep it: in half precision, with its note."""

from __future__ import annotations

import struct

import numpy as np

from parley_server.stores.vectors.base import Vector

_HEAD = struct.Struct("<BH")  # version, width
_VERSION = 1


def pack(vector: Vector, note: bytes) -> bytes:
    """Both as bytes."""
    return _HEAD.pack(_VERSION, len(vector)) + vector.astype("<f2").tobytes() + note


def unpack(packed: bytes) -> tuple[Vector, bytes]:
    """What `pack` was given, nearly. Raises ValueError if it cannot be that."""
    if len(packed) < _HEAD.size:
        raise ValueError("too short")
    version, width = _HEAD.unpack_from(packed)
    end = _HEAD.size + 2 * width
    if version != _VERSION or len(packed) < end:
        raise ValueError("not a vector")
    vector = np.frombuffer(packed, "<f2", width, _HEAD.size).astype(np.float32)
    length = np.float32(np.linalg.norm(vector))
    if not (np.isfinite(length) and length > 0):
        raise ValueError("not a direction")
    return vector / length, packed[end:]
