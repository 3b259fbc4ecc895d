"""What the frames of one stream have in common, so that most of them need not be parsed.

Frames that bring text differ in little else, and looking for what is known around the text costs less than half of
parsing it all. A dialect learns a shape from a frame that it has parsed; whatever is not of that shape is left to the
parser, so nothing is lost where a server writes otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import orjson


class Shape(Protocol):
    """One way to write a piece of text."""

    def texts(self, frames: Sequence[bytes], start: int) -> list[bytes]:
        """The texts, as JSON, of the frames from `start` on, as far as these are of this shape."""
        ...


def run(shape: Shape, frames: Sequence[bytes], start: int) -> tuple[int, str]:
    """How many frames from `start` on are of `shape`, and the text of these. Texts are parsed all at once.

    What was cut out is as many texts as there were frames, or it was cut in a wrong place: then (0, "").
    """
    texts = shape.texts(frames, start)
    if not texts:
        return 0, ""
    try:
        if len(texts) == 1:
            word = orjson.loads(texts[0])
            return (1, word) if word.__class__ is str else (0, "")
        words = orjson.loads(b"[%b]" % b",".join(texts))
        return (len(texts), "".join(words)) if len(words) == len(texts) else (0, "")
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
