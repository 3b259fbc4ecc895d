"""The shapes of deltas of text, which differ in nothing but their text and their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from parley_server.dialects.learned import BETWEEN, Shape, around

_NUMBER = b'"sequence_number":'


class NumberLast:
    """{…"delta":TEXT,…,"sequence_number":NUMBER}"""

    __slots__ = ("_before", "_behind")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        before, behind = self._before, self._behind
        first, length = len(before), len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            last = frame.find(behind, first)
            if last < 0 or not frame.startswith(before) or not frame[last + length : -1].isdigit():
                break
            texts.append(frame[first:last])
        return len(texts), BETWEEN.join(texts)


class NumberFirst:
    """{…"sequence_number":NUMBER,…"delta":TEXT,…}"""

    __slots__ = ("_before", "_behind", "_head")

    def __init__(self, head: bytes, before: bytes, behind: bytes) -> None:
        self._head = head
        self._before = before
        self._behind = behind

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
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
        return len(texts), BETWEEN.join(texts)


def learn(frame: bytes, words: str) -> Shape | None:
    """The shape of a delta whose text is `words`; None if it has another one."""
    for before, behind in around(frame, words):
        if _delta(before + b'""' + behind) == "":
            return _shape(before, behind)
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
