"""What gateways tell each other of vectors that they add and remove."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEAD = struct.Struct("<8sdBB")  # who tells it, lifetime, lengths of partition and ID
ORIGIN = 8  # bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A vector was added; or removed, if there is no `value`. `origin`: who did it. `ttl` in seconds.

    Without an ID: all partitions that begin with `partition` were dropped.
    """

    origin: bytes
    partition: bytes
    id: bytes
    value: bytes
    ttl: float

    def pack(self) -> bytes:
        """As bytes. Partition and ID have at most 255."""
        head = _HEAD.pack(self.origin, self.ttl, len(self.partition), len(self.id))
        return b"".join([head, self.partition, self.id, self.value])

    @classmethod
    def unpack(cls, packed: bytes) -> Change:
        """What `pack` gave. Raises ValueError if it cannot be that."""
        if len(packed) < _HEAD.size:
            raise ValueError("too short")
        origin, ttl, partition, id = _HEAD.unpack_from(packed)
        middle, end = _HEAD.size + partition, _HEAD.size + partition + id
        if len(packed) < end:
            raise ValueError("cut off")
        return cls(origin, packed[_HEAD.size : middle], packed[middle:end], packed[end:], ttl)
