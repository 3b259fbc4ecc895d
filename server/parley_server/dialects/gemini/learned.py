"""The shape of chunks that bring text and nothing else but counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from parley_server.dialects.learned import BETWEEN, around

_COUNTS = b'"usageMetadata"'
_DIGITS = b"0123456789"
_LIKE = bytes.maketrans(_DIGITS, b"0" * len(_DIGITS))


class Chunk:
    """{…"text":TEXT…"usageMetadata":…}: what comes before the counts is always the same, these may differ in digits."""

    __slots__ = ("_before", "_between", "_counts", "_like")

    def __init__(self, before: bytes, between: bytes, counts: bytes) -> None:
        self._before = before
        self._between = between
        self._counts = counts.translate(None, _DIGITS)
        self._like = counts.translate(_LIKE)

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """See `learned.Shape`."""
        before, between, like = self._before, self._between, self._like
        first, behind = len(before), -len(like)
        last = behind - len(between)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            if not frame.startswith(before):
                break
            if frame[behind:].translate(_LIKE) == like and frame.startswith(between, last):
                texts.append(frame[first:last])
                continue
            # Then numbers have more digits, or it is something else.
            end = frame.find(between, first)
            counts = frame[end + len(between) :]
            if end < 0 or counts.translate(None, _DIGITS) != self._counts:
                break
            texts.append(frame[first:end])
            self._like = like = counts.translate(_LIKE)
            behind = -len(like)
            last = behind - len(between)
        return len(texts), BETWEEN.join(texts)

    def counts(self, frame: bytes) -> Any:
        """The counts of a frame of this shape."""
        start = frame.find(self._between, len(self._before)) + len(self._between)
        return orjson.loads(b"{%b%b" % (_COUNTS, frame[start:]))["usageMetadata"]


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
