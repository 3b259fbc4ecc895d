"""What deltas of text look like in one stream, so that most of them need not be parsed.

They differ in nothing but their text and their number, and looking for what is known around these costs less than half
of parsing it all. Anything else is left to the parser, so nothing is lost where a server writes otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

_NUMBER = b'"sequence_number":'


class Shape(Protocol):
    """One way to write a delta."""

    def texts(self, frames: Sequence[bytes], start: int) -> list[bytes]:
        """The texts, as JSON, of the frames from `start` on, as far as these are of this shape."""
        ...


class NumberLast:
    """{…"delta":TEXT,…,"sequence_number":NUMBER}"""

    __slots__ = ("_before", "_behind")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind

    def texts(self, frames: Sequence[bytes], start: int) -> list[bytes]:
        before, behind = self._before, self._behind
        first, length = len(before), len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            last = frame.find(behind, first)
            if last < 0 or not frame.startswith(before) or not frame[last + length : -1].isdigit():
                break
            texts.append(frame[first:last])
        return texts


class NumberFirst:
    """{…"sequence_number":NUMBER,…"delta":TEXT,…}"""

    __slots__ = ("_before", "_behind", "_head")

    def __init__(self, head: bytes, before: bytes, behind: bytes) -> None:
        self._head = head
        self._before = before
        self._behind = behind

    def texts(self, frames: Sequence[bytes], start: int) -> list[bytes]:
        head, before, behind = self._head, self._before, self._behind
        first, length, last = len(head), len(before), -len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            middle = frame.find(before, first)
            if middle < 0 or not frame[first:middle].isdigit() or not frame.startswith(head):
                break
            if not frame.endswith(behind):
                break
            texts.append(frame[middle + length : last])
        return texts


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


def learn(frame: bytes, words: str) -> Shape | None:
    """The shape of a delta whose text is `words`; None if it has another one."""
    text = orjson.dumps(words)
    start = frame.find(text)
    while start >= 0:  # the same bytes may stand elsewhere too: as another value, or as `","` between two of them
        before, behind = frame[:start], frame[start + len(text) :]
        if _delta(before + b'""' + behind) == "":
            return _shape(before, behind)
        start = frame.find(text, start + 1)
    return None


def _shape(before: bytes, behind: bytes) -> Shape | None:
    middle, name, number = behind.partition(_NUMBER)
    if name:
        alone = _NUMBER not in before and number.endswith(b"}") and number[:-1].isdigit()
        return NumberLast(before, middle + name) if alone else None
    head, name, rest = before.partition(_NUMBER)
    number, comma, rest = rest.partition(b",")
    return NumberFirst(head + name, comma + rest, behind) if name and comma and number.isdigit() else None


def _delta(frame: bytes) -> Any:
    """What an event adds; None if it is no event."""
    try:
        event = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    return event.get("delta") if isinstance(event, dict) else None
