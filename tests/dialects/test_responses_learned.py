"""Deltas of text that differ in nothing but text and number are not parsed whole, which must make no difference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.dialects.learned import run
from parley_server.dialects.openai_responses.learned import NumberFirst, NumberLast, learn
from tests.dialects.responses_wire import created, delta, ended, events, message, response, streamed, words

TRICKY = [
    '","',
    '"',
    "\\",
    "\n",
    ",",
    ":",
    "}",
    "output_text",
    "msg_1",
    "é",
    "😀",
    '","item_id":"msg_1"',
    "\u2028",
    "7",
]


def first(text: str, number: int = 7) -> bytes:
    """A delta as others write it: its number first."""
    said = {"sequence_number": number, "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0}
    return json.dumps(said | {"content_index": 0, "delta": text, "logprobs": []}, ensure_ascii=False).encode()


def spaced(text: str, number: int = 7) -> bytes:
    return first(text, number).replace(b'"sequence_number": ', b'"sequence_number":')


def whole(texts: list[str]) -> bytes:
    return ended(response(message(words("".join(texts)))))


@pytest.mark.parametrize("write", [delta, first, spaced])
@given(texts=st.lists(st.one_of(st.text(max_size=6), st.sampled_from(TRICKY)), max_size=12), one_read=st.booleans())
def test_texts_of_any_kind(write: Any, texts: list[str], one_read: bool) -> None:
    frames = [write(text) for text in texts]
    found = events([created(), *frames, whole(texts)], one_read=one_read)
    said = "".join(event.part_delta.text for event in found if event.HasField("part_delta"))
    assert said == "".join(texts)


@pytest.mark.parametrize("text", TRICKY)
def test_any_text_can_be_learned_from(text: str) -> None:
    shape = learn(delta(text, sequence_number=3), text)
    assert isinstance(shape, NumberLast)
    assert run(shape, [delta(word, sequence_number=10**n) for n, word in enumerate(TRICKY)], 0) == (
        len(TRICKY),
        "".join(TRICKY),
    )
    shape = learn(spaced(text, 3), text)
    assert isinstance(shape, NumberFirst)
    assert run(shape, [spaced(word, n) for n, word in enumerate(TRICKY)], 0) == (len(TRICKY), "".join(TRICKY))


@pytest.mark.parametrize(
    "frame",
    [
        delta("a", output=1),
        delta("a", content=1),
        delta("a", logprobs=[{"token": "a", "logprob": -1.0}]),
        delta("a", item_id="msg_2"),
        delta("a", further=1),
        delta("a").replace(b'"a"', b"3"),
        delta("a").replace(b'"a"', b"null"),
        delta("a").replace(b'"a"', b'"a","b"'),
        delta("a").replace(b'"a"', b'"a","b":"c"'),
        delta("a").replace(b"7}", b'7,"x":1}'),
        delta("a").replace(b"7}", b"x}"),
        b"[DONE]",
        b"{}",
    ],
)
def test_what_differs_in_more_is_left_to_the_parser(frame: bytes) -> None:
    shape = learn(delta("x"), "x")
    assert shape is not None
    assert run(shape, [frame], 0) == (0, "")


def test_padding_is_not_learned() -> None:
    padded = delta("x").replace(b'"output_index"', b'"obfuscation":"abc","output_index"')
    other = delta("y").replace(b'"output_index"', b'"obfuscation":"abcdef","output_index"')
    assert streamed([created(), padded, other, padded, whole(["xyx"])]).message.parts[0].text == "xyx"


@pytest.mark.parametrize("frame", [delta("x").replace(b',"sequence_number":7', b""), b'{"delta":"x"', b"[]"])
def test_what_cannot_be_learned(frame: bytes) -> None:
    assert learn(frame, "x") is None


def test_pieces_of_several_messages() -> None:
    texts = [delta(text, output=output, content=content) for output in (0, 1) for content in (0, 1) for text in "abc"]
    items = [message(words("abc"), words("abc"))] * 2
    parts = streamed([created(), *texts, ended(response(*items))]).message.parts
    assert [part.text for part in parts] == ["abc"] * 4
