"""How text is counted and cut. A token is a word, with the white space before it; white space at the end counts as part
of the last word."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, Literal

_WORD = re.compile(r"\s*\S+")

Chunking = Literal["words", "whole"] | int


def words(text: str) -> Iterator[str]:
    """The tokens of `text`; together they are `text` again."""
    stem = text.rstrip()  # before matching: a long run of white space at the end would be searched again and again
    for match in _WORD.finditer(stem):
        yield text[match.start() :] if match.end() == len(stem) else match[0]
    if text and not stem:
        yield text


def count(text: str) -> int:
    """Number of tokens in `text`."""
    return len(text.split()) or bool(text)


def pieces(text: str, chunking: Chunking) -> Iterator[str]:
    """`text` cut as a stream does; no empty pieces."""
    match chunking:
        case "words":
            yield from words(text)
        case "whole":
            if text:
                yield text
        case length:
            for start in range(0, len(text), length):
                yield text[start : start + length]


def logprobs(text: str, alternatives: int) -> list[dict[str, Any]]:
    """OpenAI's entries for the tokens of `text`, each with so many alternatives, the token itself first. Made up from a
    checksum of the token: -1 < logprob <= 0."""
    entries: list[dict[str, Any]] = []
    for token in words(text):
        logprob = -(zlib.crc32(token.encode()) % 1000) / 1000
        best = [(token, logprob)] + [(f"{token}~{rank}", logprob - rank) for rank in range(1, alternatives)]
        entry = _entry(token, logprob)
        entry["top_logprobs"] = [_entry(*other) for other in best[:alternatives]]
        entries.append(entry)
    return entries


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
