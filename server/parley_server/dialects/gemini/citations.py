"""Sources of an answer. The API counts in bytes of UTF-8, we count code points."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parley import v1


class Ruler:
    """Measures a growing text: which code point a byte belongs to. Keeps only the fragments that are not ASCII."""

    __slots__ = ("_at", "_odd", "bytes", "chars")

    def __init__(self) -> None:
        self.bytes = 0
        self.chars = 0
        self._at: list[int] = []
        """Where, in bytes, each of the odd fragments begins."""
        self._odd: list[tuple[int, str]] = []
        """In code points, where it begins, and what it is."""

    def add(self, text: str) -> None:
        """The text goes on with `text`."""
        chars = len(text)
        if text.isascii():
            self.bytes += chars
        else:
            self._at.append(self.bytes)
            self._odd.append((self.chars, text))
            self.bytes += len(text.encode())
        self.chars += chars

    def index(self, offset: int) -> int:
        """The code point at byte `offset`; one inside of a character counts as its beginning."""
        last = bisect_right(self._at, offset) - 1
        if last < 0:
            return min(offset, self.chars)
        start, text = self._odd[last]
        encoded = text.encode()
        inside = offset - self._at[last]
        if inside < len(encoded):
            return start + len(encoded[:inside].decode("utf-8", "ignore"))
        return min(start + len(text) + inside - len(encoded), self.chars)


Rulers = Sequence["Ruler | None"]
"""By index of the part; None for what is no text of the answer."""


def citations(
    grounding: Mapping[str, Any], cited: Sequence[Mapping[str, Any]], rulers: Rulers
) -> Iterator[tuple[int, v1.Citation]]:
    """Citations, each with the index of the text part that it is of; none if there is no text."""
    texts = [index for index, ruler in enumerate(rulers) if ruler is not None]
    if not texts:
        return
    chunks = grounding.get("groundingChunks") or ()
    supports = grounding.get("groundingSupports") or ()
    for support in supports:
        segment = support.get("segment") or {}
        part = segment.get("partIndex") or 0
        index = next((text for text in texts if text >= part), texts[-1])
        for number in support.get("groundingChunkIndices") or ():
            if 0 <= number < len(chunks):
                yield index, _spanned(_source(chunks[number]), segment, rulers[index])
    if not supports:  # sources of the whole: of its last text
        for chunk in chunks:
            yield texts[-1], _source(chunk)
    for one in cited:
        yield _recited(one, texts, rulers)


def _source(chunk: Mapping[str, Any]) -> v1.Citation:
    """What a chunk of grounding was taken from: the web, a map, a file or a data store."""
    said = next((value for value in chunk.values() if isinstance(value, dict)), {})
    return v1.Citation(
        uri=said.get("uri") or said.get("sourceUri") or "",
        title=said.get("title") or "",
        cited_text=said.get("text") or "",
    )


def _spanned(citation: v1.Citation, segment: Mapping[str, Any], ruler: Ruler | None) -> v1.Citation:
    start, end = segment.get("startIndex") or 0, segment.get("endIndex") or 0
    if ruler is not None and 0 <= start <= end <= ruler.bytes and end:
        citation.start_index, citation.end_index = ruler.index(start), ruler.index(end)
    return citation


def _recited(said: Mapping[str, Any], texts: Sequence[int], rulers: Rulers) -> tuple[int, v1.Citation]:
    """What the answer repeats word for word. It is measured from the beginning of all text."""
    citation = v1.Citation(uri=said.get("uri") or "", title=said.get("title") or "")
    start, end = said.get("startIndex") or 0, said.get("endIndex") or 0
    for index in texts:
        ruler = rulers[index]
        size = ruler.bytes if ruler is not None else 0
        if start < size:
            return index, _spanned(citation, {"startIndex": start, "endIndex": min(end, size)}, ruler)
        start, end = start - size, end - size
    return texts[-1], citation


def recited(candidate: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The entries of `citationMetadata`, by either of its two names."""
    metadata = candidate.get("citationMetadata") or {}
    return metadata.get("citationSources") or metadata.get("citations") or ()
