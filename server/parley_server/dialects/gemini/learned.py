"""The shape of chunks that bring text and nothing else but counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from parley_server.dialects.learned import around

_COUNTS = b'"usageMetadata"'
_DIGITS = b"0123456789"


class Chunk:
    """{…"text":TEXT…"usageMetadata":…}: what comes before the counts is always the same, these may differ in digits."""

    __slots__ = ("_before", "_between", "_counts")

    def __init__(self, before: bytes, between: bytes, counts: bytes) -> None:
        self._before = before
        self._between = between
        self._counts = counts.translate(None, _DIGITS)

    def texts(self, frames: Sequence[bytes], start: int) -> list[bytes]:
        """See `learned.Shape`."""
        before, between, counts = self._before, self._between, self._counts
        first, length = len(before), len(between)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            last = frame.find(between, first)
            if last < 0 or not frame.startswith(before):
                break
            if frame[last + length :].translate(None, _DIGITS) != counts:
                break
            texts.append(frame[first:last])
        return texts


def learn(frame: bytes, words: str, is_empty: Callable[[object], bool]) -> Chunk | None:
    """The shape of a chunk whose text is `words`. `is_empty`: whether a parsed chunk is plain and its text empty."""
    for before, behind in around(frame, words):
        try:
            found = orjson.loads(before + b'""' + behind)
        except orjson.JSONDecodeError:
            continue
        if is_empty(found):
            between, name, counts = behind.partition(_COUNTS)
            return None if _COUNTS in before else Chunk(before, between + name, counts)
    return None
