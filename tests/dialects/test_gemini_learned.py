"""Chunks of text that differ in nothing but text and counts are not parsed whole, which must make no difference."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parley.fold import fold
from parley_server.core.errors import GatewayError
from parley_server.dialects.learned import run
from tests.dialects.gemini_wire import DIALECT, TARGET, chunk

TRICKY = [
    '","',
    '"',
    "\\",
    "\n",
    ",",
    ":",
    "}",
    "text",
    "model",
    "0",
    "7",
    "é",
    "😀",
    '"usageMetadata"',
    "STOP",
    '"}],"role"',
]
texts = st.sampled_from(TRICKY) | st.text(max_size=6)
ways = st.sampled_from([(",", ":"), (", ", ": "), (",\n  ", ": ")])


def said(text: str, written: int, odd: int) -> dict[str, Any]:
    """A chunk; some are not plain: another candidate, no counts, other counts, a signature."""
    made: dict[str, Any] = chunk({"text": text})
    made["usageMetadata"] = {"promptTokenCount": 12, "candidatesTokenCount": written, "totalTokenCount": 12 + written}
    match odd:
        case 1:
            made["candidates"][0]["index"] = 1
        case 2:
            del made["usageMetadata"]
        case 3:
            made["usageMetadata"]["thoughtsTokenCount"] = written
        case 4:
            made["candidates"][0]["content"]["parts"][0]["thoughtSignature"] = "c2ln"
        case 5:
            made["modelVersion"] = f"gemini-{written}"
    return made


def decoded(frames: list[bytes], *, learning: bool) -> Any:
    decoder: Any = DIALECT.decoder(TARGET)
    events = []
    try:
        for frame in frames:
            if not learning:
                decoder._shape = None
            events += decoder.feed([frame])
        return fold(events + decoder.finish())
    except GatewayError as error:
        return type(error)


@given(st.lists(st.tuples(texts, st.integers(0, 5000), st.sampled_from([0] * 12 + [1, 2, 3, 4, 5])), max_size=16), ways)
def test_what_is_learned_changes_nothing(given_chunks: list[tuple[str, int, int]], way: tuple[str, str]) -> None:
    last = chunk({"text": "."}, finishReason="STOP")
    chunks = [*(said(*one) for one in given_chunks), last]
    frames = [json.dumps(one, ensure_ascii=False, separators=way).encode() for one in chunks]
    assert decoded(frames, learning=True) == decoded(frames, learning=False)


def test_a_stream_of_plain_chunks_is_learned() -> None:
    decoder: Any = DIALECT.decoder(TARGET)
    for written in range(4):
        decoder.feed([json.dumps(said("word ", written, 0)).encode()])
    assert decoder._shape is not None
    frames = [json.dumps(said("word ", 1000 + written, 0)).encode() for written in range(5)]
    assert run(decoder._shape, frames, 0) == (5, "word " * 5)
