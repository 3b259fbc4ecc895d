"""The shapes of frames that bring text: in the JSON of Converse, and in that of somebody else, packed in base64."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from itertools import accumulate

from parley_server.dialects.framing.eventstream import payload_start
from parley_server.dialects.learned import BETWEEN

_HEAD = 12  # bytes before the headers: the frame's length, that of the headers, the checksum of both
_SIZE = slice(4, 8)  # of the headers
_NOWHERE = b"\0"  # in JSON text
_PACKED = b'{"bytes":"'

_PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PADDED = frozenset(f'{padding}"}}'.encode() for padding in accumulate(_PADDING, initial=""))
"""How frames end: Bedrock hides the length of a text by a padding, which is the beginning of the same letters."""
_BEFORE_PADDING = re.compile(rb'.*"p": ?"', re.DOTALL)


class Plain:
    """{headers}{…"text":TEXT…"p":PADDING}, or without a padding."""

    __slots__ = ("_before", "_behind", "_ends", "_size")

    def __init__(self, frame: bytes, before: bytes, behind: bytes) -> None:
        self._size = frame[_SIZE]
        self._before = frame[_HEAD : payload_start(frame)] + before
        padded = _BEFORE_PADDING.match(behind)
        self._behind = padded[0] if padded else behind[:-1]
        self._ends = _PADDED if padded else frozenset((behind[-1:],))

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """See `learned.Shape`."""
        size, before, behind, ends = self._size, self._before, self._behind, self._ends
        first, length = _HEAD + len(before), len(behind)
        texts: list[bytes] = []
        for frame in frames[start:] if start else frames:
            last = frame.rfind(behind, first, -1)
            if last < 0 or frame[last + length :] not in ends:
                break
            if frame[_SIZE] != size or not frame.startswith(before, _HEAD):
                break
            texts.append(frame[first:last])
        return len(texts), BETWEEN.join(texts)


class Packed:
    """{headers}{"bytes":"BASE64"…}, where BASE64 is {…"text":TEXT…}, of which only the end is unpacked."""

    __slots__ = ("_before", "_behind", "_joint", "_lead", "_size")

    def __init__(self, frame: bytes, before: bytes, behind: bytes) -> None:
        whole = len(before) - len(before) % 3  # bytes that four characters of base64 each stand for
        packed = _PACKED + b2a_base64(before[:whole], newline=False)
        self._size = frame[_SIZE]
        self._before = frame[_HEAD : payload_start(frame)] + packed
        self._lead = before[whole:]
        self._behind = behind
        self._joint = behind + _NOWHERE + self._lead

    def cut(self, frames: Sequence[bytes], start: int) -> tuple[int, bytes]:
        """See `learned.Shape`."""
        size, before, lead, behind = self._size, self._before, self._lead, self._behind
        first = _HEAD + len(before)
        rests: list[bytes] = []
        try:
            for frame in frames[start:] if start else frames:
                if frame[_SIZE] != size or not frame.startswith(before, _HEAD):
                    break
                rests.append(a2b_base64(frame[first : frame.index(b'"', first)], strict_mode=True))
        except ValueError:  # no base64, or no end of it
            pass
        if not rests:
            return 0, b""
        together = _NOWHERE.join(rests)
        if not together.startswith(lead) or not together.endswith(behind):
            return 0, b""
        return len(rests), together[len(lead) : -len(behind)].replace(self._joint, BETWEEN)
