"""What the frames of one stream have in common, so that most of them need not be parsed.

Frames that bring text differ in little else, and looking for what is known around the text costs less than half of
parsing it all. A dialect learns a shape from a frame that it has parsed; whatever is not of that shape is left to the
parser, so nothing is lost where a server writes otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import orjson

BETWEEN = b",\n"
"""Between texts. JSON text has no bare line feed, so none that begins in one frame can end in another."""


class Shape(Protocol):
    """One way to write a piece of text."""

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """How many frames from `start` on are of this shape, and their texts as JSON, with BETWEEN between them.

        That these are texts is for `run` to see.
        """
        ...


class Alike:
    """{before}TEXT{behind}, both always the same."""

    __slots__ = ("_before", "_behind")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """See `Shape`."""
        before, behind = self._before, self._behind
        first, last = len(before), -len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            if not frame.startswith(before) or not frame.endswith(behind):
                break
            texts.append(frame[first:last])
        return len(texts), BETWEEN.join(texts)


def run(shape: Shape, frames: Sequence[bytes], start: int) -> tuple[int, str]:
    """How many frames from `start` on are of `shape`, and the text of these. Texts are parsed all at once.

    What was cut out is as many texts as there were frames, or it was cut in a wrong place: then (0, "").
    """
    count, texts = shape.cut(frames, start)
    if not count:
        return 0, ""
    try:
        if count == 1:
            word = orjson.loads(texts)
            return (1, word) if word.__class__ is str else (0, "")
        words = orjson.loads(b"[%b]" % texts)
        return (count, "".join(words)) if len(words) == count else (0, "")
    except (orjson.JSONDecodeError, TypeError):  # no JSON, or no texts
        return 0, ""


def around(frame: bytes, words: str) -> Iterator[tuple[bytes, bytes]]:
    """What stands before and behind `words` as JSON text in `frame`, wherever it does.

    The same bytes may stand in several places: as another value, or as `","` between two of them.
    """
    text = orjson.dumps(words)
    start = frame.find(text)
    while start >= 0:
        yield frame[:start], frame[start + len(text) :]
        start = frame.find(text, start + 1)
