"""The shape of deltas of text, which differ in nothing but their text and white space at their end."""

from __future__ import annotations

from collections.abc import Sequence

from parley_server.dialects.learned import BETWEEN

_ENDS = frozenset(b" " * spaces + b"}" for spaces in range(64))
"""How events end: Anthropic hides the length of a text by spaces."""


class Delta:
    """{…"text":TEXT…   }"""

    __slots__ = ("_before", "_behind")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind[:-1].rstrip(b" ")

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """See `learned.Shape`."""
        before, behind = self._before, self._behind
        first, length = len(before), len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            last = frame.rfind(behind, first, -1)
            if last < 0 or frame[last + length :] not in _ENDS or not frame.startswith(before):
                break
            texts.append(frame[first:last])
        return len(texts), BETWEEN.join(texts)
