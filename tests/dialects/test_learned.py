"""What is cut out of frames of a shape is text for text what the frames say, or nothing is."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.dialects.learned import Alike, around, run

BEFORE, BEHIND = b'{"delta":{"text":', b'},"n":1}'
SHAPE = Alike(BEFORE, BEHIND)

texts = st.text(max_size=6) | st.sampled_from(['","', '"', "\\", ",", ",\n", "}", '},"n":1}', "text", "\0", "😀", ""])


def written(text: str) -> bytes:
    return BEFORE + orjson.dumps(text) + BEHIND


@given(st.lists(texts, max_size=8), st.integers(0, 8))
def test_texts_of_any_kind(said: list[str], start: int) -> None:
    assert run(SHAPE, [written(text) for text in said], start) == (len(said[start:]), "".join(said[start:]))


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_it_ends_where_frames_differ(said: list[str], rest: list[str]) -> None:
    frames = [*map(written, said), b'{"delta":{"text":"x"},"n":2}', *map(written, rest)]
    assert run(SHAPE, frames, 0) == (len(said), "".join(said))


@pytest.mark.parametrize(
    "insides",
    [
        [b"1"],
        [b"null"],
        [b""],
        [b'"a","b"'],
        [b'"a"', b"null"],
        [b'"a', b'b"'],  # no JSON by themselves, but one text together
        [b'"a', b'b","c"'],  # two texts together, as many as there are frames
        [b'"a","b', b'"'],
        [b'"a","b"', b""],
        [b"", b'"a","b"'],
        [b'"a"],["b"'],
    ],
)
def test_what_is_no_text_is_left_to_the_parser(insides: list[bytes]) -> None:
    assert run(SHAPE, [BEFORE + inside + BEHIND for inside in insides], 0) == (0, "")


def test_every_place_of_a_text_is_found() -> None:
    frame = b'{"a":"x","b":","}'
    assert list(around(frame, ",")) == [(b'{"a":"x', b'b":","}'), (b'{"a":"x","b":', b"}")]
