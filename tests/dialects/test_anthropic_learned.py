"""Deltas that differ in text and padding are not parsed whole, which must make no difference."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.fold import fold
from parley_server.core.errors import GatewayError
from parley_server.dialects.anthropic.learned import Delta
from parley_server.dialects.learned import run
from parley_server.providers.bedrock import CLAUDE as INVOKED
from tests.dialects.anthropic_wire import DIALECT, TARGET, message, streamed
from tests.dialects.bedrock_wire import CLAUDE, chunk, split

TRICKY = [
    '","',
    '"',
    "\\",
    "\n",
    ",",
    "}",
    "}}",
    "   }",
    "text",
    "text_delta",
    "0",
    "é",
    "😀",
    '"}}',
    '"},"index":0}',
    "\0",
]
texts = st.sampled_from(TRICKY) | st.text(st.characters(codec="utf-8"), max_size=6)
ways = st.sampled_from([(",", ":"), (", ", ": ")])
odd = st.sampled_from([0] * 10 + list(range(1, 9)))


def delta(text: str, way: int = 0) -> dict[str, Any]:
    """A delta of text; some are not plain, some not of that block, some no delta of text."""
    event: dict[str, Any] = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    match way:
        case 1:
            event["index"] = 1
        case 2:
            event["delta"] = {"text": text, "type": "text_delta"}
        case 3:
            event["delta"]["further"] = text
        case 4:
            event["further"] = text
        case 5:
            event["delta"]["type"] = "thinking_delta"
        case 6:
            event["delta"] = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": text}}
        case 7:
            event = {"type": "ping"}
        case 8:
            event = {"delta": event["delta"], "index": 0, "type": "content_block_delta"}
    return event


def stream(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A stream of one block with these deltas in place of its own."""
    events = streamed(message([{"type": "text", "text": "."}]))
    start = next(i for i, event in enumerate(events) if event["type"] == "content_block_delta")
    return [*events[:start], *deltas, *events[start + 1 :]]


def heard(dialect: Any, pieces: list[bytes], *, learning: bool) -> Any:
    """What is made of a stream: an answer, or the class of the error that ends it."""
    framing, decoder = dialect.framing(), dialect.decoder(TARGET)
    events = []
    try:
        for piece in pieces:
            frames = framing.feed(piece)
            for some in [frames] if learning else [[frame] for frame in frames]:
                if not learning:
                    decoder._shape = None
                events += decoder.feed(some)
        return fold(events + decoder.feed(framing.finish()) + decoder.finish())
    except GatewayError as error:
        return type(error)


@given(
    st.lists(st.tuples(texts, odd, st.integers(0, 20)), max_size=14), ways, st.lists(st.integers(0, 10**6), max_size=8)
)
def test_what_is_learned_changes_nothing(
    said: list[tuple[str, int, int]], way: tuple[str, str], cuts: list[int]
) -> None:
    events = stream([delta(text, kind) for text, kind, _ in said])
    padding = {id(event): spaces for event, (_, _, spaces) in zip(events[3:], said, strict=False)}
    data = b"".join(
        b"event: %b\ndata: %b%b}\n\n"
        % (
            event["type"].encode(),
            json.dumps(event, ensure_ascii=False, separators=way).encode()[:-1],
            b" " * padding.get(id(event), 0),
        )
        for event in events
    )
    expected = heard(DIALECT, [data], learning=False)
    assert heard(DIALECT, [data], learning=True) == expected
    assert heard(DIALECT, split(data, cuts), learning=True) == expected


@given(st.lists(st.tuples(texts, odd), max_size=14), st.lists(st.integers(0, 10**6), max_size=8))
def test_nor_where_it_is_packed(said: list[tuple[str, int]], cuts: list[int]) -> None:
    data = b"".join(chunk(event) for event in stream([delta(*one) for one in said]))
    expected = heard(INVOKED, [data], learning=False)
    assert heard(INVOKED, [data], learning=True) == expected
    assert heard(INVOKED, split(data, cuts), learning=True) == expected


@given(st.lists(st.tuples(texts, st.integers(0, 40)), min_size=1))
def test_padding_of_any_length(said: list[tuple[str, int]]) -> None:
    shape = Delta(b'{"delta":{"text":', b'},"index":0  }')
    frames = [b'{"delta":{"text":%b},"index":0%b}' % (orjson.dumps(text), b" " * spaces) for text, spaces in said]
    assert run(shape, frames, 0) == (len(said), "".join(text for text, _ in said))


@pytest.mark.parametrize("dialect", [DIALECT, INVOKED])
def test_a_stream_of_plain_deltas_is_learned_until_its_block_ends(dialect: Any) -> None:
    decoder = dialect.decoder(CLAUDE)
    events = stream([delta(text) for text in ("a", "b", "c")])
    if dialect is INVOKED:
        framing = dialect.framing()
        frames = framing.feed(b"".join(map(chunk, events)))
    else:
        frames = [json.dumps(event).encode() for event in events]
    start, end = 3, 6
    for frame in frames[: start + 1]:
        decoder.feed([frame])
    assert run(decoder._shape, frames, start) == (3, "abc")
    for frame in frames[start + 1 : end + 1]:
        decoder.feed([frame])
    assert decoder._shape is None
