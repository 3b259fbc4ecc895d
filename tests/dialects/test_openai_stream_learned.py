"""Chunks that differ in their text alone are read without parsing the rest: with the same result, whatever they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.openai_chat.quirks import Quirks
from parley_server.dialects.openai_chat.stream import ChunkDecoder

LAST = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


def chunk(text: object, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c1", "model": "m", "choices": [choice], **more}


def decoded(frames: Sequence[bytes]) -> v1.ChatResponse:
    decoder = ChunkDecoder(Target("openai", "m"), Quirks.openai())
    events = [event for frame in [*frames, LAST, b"[DONE]"] for event in decoder.feed([frame])]
    return fold(events + decoder.finish())


def compact(value: object) -> bytes:
    return orjson.dumps(value)


def spaced(value: object) -> bytes:
    return json.dumps(value).encode()  # with spaces, and everything but ASCII escaped


def mixed(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ": ")).encode()


texts = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(
        [
            '"',
            "\\",
            '\\"',
            '","delta":{"content":"x"}',
            '"}}',
            "\n",
            "\x00",
            "stop",
            "c1",
            "m",
            "content",
            "",
            ",",
            ":",
            "},{",
        ]
    ),
)


@given(st.lists(texts, max_size=12), st.lists(st.sampled_from([compact, spaced, mixed]), min_size=1, max_size=3))
def test_text_is_what_the_chunks_say(said: list[str], ways: list[Any]) -> None:
    frames = [ways[number % len(ways)](chunk(text)) for number, text in enumerate(said)]
    assert "".join(part.text for part in decoded(frames).message.parts) == "".join(said)


@given(st.lists(st.tuples(texts, st.sampled_from([{}, {"created": 1}, {"created": 2}, {"content": "m"}])), max_size=12))
def test_what_stands_around_the_text_may_change_at_any_time(said: list[tuple[str, dict[str, Any]]]) -> None:
    frames = [compact(chunk(text, **more)) for text, more in said]
    assert "".join(part.text for part in decoded(frames).message.parts) == "".join(text for text, _ in said)


def test_text_that_also_stands_elsewhere_in_the_chunk() -> None:
    frames = [compact(chunk(text, model=text)) for text in ("a", "a", "b", "b", "c")]
    assert decoded(frames).message.parts[0].text == "aabbc"


@pytest.mark.parametrize("inside", [b"null", b"7", b"[]", b'{"a":1}'])
def test_content_that_is_no_text_is_read_the_long_way(inside: bytes) -> None:
    frames = [
        compact(chunk("a")),
        compact(chunk("b")),
        compact(chunk("@")).replace(b'"@"', inside),
        compact(chunk("c")),
    ]
    assert decoded(frames).message.parts[0].text == "abc"


@pytest.mark.parametrize("inside", [b'"a', b'a"', b'"a" "b"', b'"\n"', b'"\xff"', b""])
def test_content_that_is_no_json_is_refused(inside: bytes) -> None:
    frames = [compact(chunk("a")), compact(chunk("b")), compact(chunk("@")).replace(b'"@"', inside)]
    with pytest.raises(ProtocolError):
        decoded(frames)


def test_error_inside_a_chunk_that_looks_like_the_others() -> None:
    frames = [compact(chunk("a")), compact(chunk("b")), compact(chunk("c", error={"message": "broken"}))]
    with pytest.raises(GatewayError):
        decoded(frames)
