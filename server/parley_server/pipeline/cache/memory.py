"""Answers in this process's memory: those used last, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from parley_server.pipeline.cache.entry import Entry

_OVERHEAD = 270  # bytes that an entry takes beside its data, its share of the gaps between entries included: measured
_PIECE = 1000  # entries that are looked at in one go


class Memory:
    """Entries by key. The byte cap counts what they take up in all, give or take a few per cent.

    They are kept as bytes: a hundred thousand of them are no work for the garbage collector.
    """

    def __init__(self, max_bytes: int, on_eviction: Callable[[], object]) -> None:
        self._max_bytes = max_bytes
        self._on_eviction = on_eviction
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._bytes

    @property
    def max_bytes(self) -> int:
        """The most that may be in use; setting it lets go of what is too much."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._shrink()

    def get(self, key: bytes) -> Entry | None:
        """The entry, which is now the one used last."""
        packed = self._entries.get(key)
        if packed is None:
            return None
        self._entries.move_to_end(key)
        return Entry(packed)

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, at the cost of those not used for longest. One that is larger than the cap is not kept."""
        self.remove(key)
        size = _size(entry.packed)
        if size > self._max_bytes:
            return
        self._entries[key] = entry.packed
        self._bytes += size
        self._shrink()

    def remove(self, key: bytes) -> bool:
        """Forget an entry; whether there was one."""
        packed = self._entries.pop(key, None)
        if packed is None:
            return False
        self._bytes -= _size(packed)
        return True

    def pieces(self) -> Iterator[list[tuple[bytes, Entry]]]:
        """All entries, some at a time. Between two pieces entries may come and go; those that stay are all seen."""
        keys = list(self._entries)
        for start in range(0, len(keys), _PIECE):
            found = ((key, self._entries.get(key)) for key in islice(keys, start, start + _PIECE))
            yield [(key, Entry(packed)) for key, packed in found if packed is not None]

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            _, packed = self._entries.popitem(last=False)
            self._bytes -= _size(packed)
            self._on_eviction()


def _size(packed: bytes) -> int:
    return len(packed) + _OVERHEAD
