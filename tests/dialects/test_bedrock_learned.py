"""Frames that bring text and differ in little else are not parsed whole, which must make no difference."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.fold import fold
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.dialects.bedrock.learned import Packed
from parley_server.dialects.framing.eventstream import EventStream
from parley_server.dialects.learned import run
from tests.dialects.bedrock_wire import CLAUDE, DIALECT, EVENT, event, frame, header, split

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
TRICKY = [
    '","',
    '"',
    "\\",
    "\n",
    ",",
    "}",
    "}}",
    "text",
    "p",
    '"p":"',
    '},"p":"',
    "0",
    "é",
    "😀",
    '"},"p":"abc"}',
    "\0",
]
texts = st.sampled_from(TRICKY) | st.text(st.characters(codec="utf-8"), max_size=6)
odd = st.sampled_from([0] * 10 + list(range(1, 9)))
ways = st.sampled_from([(",", ":"), (", ", ": ")])
END = [event("messageStop", {"stopReason": "end_turn"}), event("metadata", {"usage": {"inputTokens": 1}})]


def delta(text: str, way: int, letters: int, separators: tuple[str, str]) -> bytes:
    """A frame with text; some are not plain, some of another block or another kind."""
    said: dict[str, Any] = {"contentBlockIndex": 0, "delta": {"text": text}, "p": LETTERS[:letters]}
    name = "contentBlockDelta"
    further = {}
    match way:
        case 1:
            said["contentBlockIndex"] = 1
        case 2:
            said["delta"]["further"] = text
        case 3:
            said = {"further": text, **said}
        case 4:
            said["p"] = text
        case 5:
            said["delta"] = {"reasoningContent": {"text": text}}
        case 6:
            del said["p"]
        case 7:
            name = "somethingNew"
        case 8:
            further = {"more": text}
    payload = json.dumps(said, ensure_ascii=False, separators=separators).encode()
    return frame({":event-type": name, **EVENT, **further}, payload)


def heard(pieces: list[bytes], *, learning: bool) -> Any:
    """What is made of a stream: an answer, or the class of the error that ends it."""
    framing, decoder = EventStream(), DIALECT.decoder(CLAUDE)
    events = []
    try:
        for piece in pieces:
            frames = framing.feed(piece)
            for some in [frames] if learning else [[frame] for frame in frames]:
                if not learning:
                    decoder._shape = None  # type: ignore[attr-defined]
                events += decoder.feed(some)
        return fold(events + decoder.finish())
    except GatewayError as error:
        return type(error)


@given(
    st.lists(st.tuples(texts, odd, st.integers(0, len(LETTERS))), max_size=14),
    ways,
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_what_is_learned_changes_nothing(
    said: list[tuple[str, int, int]], way: tuple[str, str], cuts: list[int]
) -> None:
    data = b"".join([event("messageStart", {"role": "assistant"}), *(delta(*one, way) for one in said), *END])
    expected = heard([data], learning=False)
    assert heard([data], learning=True) == expected
    assert heard(split(data, cuts), learning=True) == expected


@pytest.mark.parametrize("way", [0, 6])
def test_plain_frames_are_learned_with_and_without_padding(way: int) -> None:
    frames = EventStream().feed(b"".join(delta(text, way, n, (",", ":")) for n, text in enumerate(TRICKY)))
    decoder: Any = DIALECT.decoder(CLAUDE)
    decoder.feed(frames[:1])
    assert run(decoder._shape, frames, 0) == (len(TRICKY), "".join(TRICKY))


def test_a_frame_with_other_headers_is_read_by_itself() -> None:
    plain = delta("a", 0, 3, (",", ":"))
    decoder: Any = DIALECT.decoder(CLAUDE)
    decoder.feed(EventStream().feed(plain))
    shifted = struct.pack(">II", len(plain), int.from_bytes(plain[4:8], "big") - 1)
    shifted += struct.pack(">I", crc32(shifted)) + plain[12:-4]
    frames = EventStream().feed(shifted + struct.pack(">I", crc32(shifted)))
    assert run(decoder._shape, frames, 0) == (0, "")
    with pytest.raises(ProtocolError):
        decoder.feed(frames)


# ------------------------------------------------------------------------------------------------- packed in base64

BEFORES = [b'{"text":', b'{"n":1,"text":', b'{"nn":1,"text":']  # base64 of all their bytes ends in three places
BEHIND = b',"m":2}'


def packed(inside: bytes, more: bytes = b'","p":"ab"}') -> bytes:
    """A frame around JSON, without its last checksum."""
    block = header(":event-type", "chunk") + header(":message-type", "event")
    (found,) = EventStream().feed(frame(block, b'{"bytes":"' + base64.b64encode(inside) + more))
    return found


@pytest.mark.parametrize("before", BEFORES)
@given(said=st.lists(texts, min_size=1, max_size=8))
def test_texts_of_any_kind(before: bytes, said: list[str]) -> None:
    shape = Packed(packed(before + b'"x"' + BEHIND), before, BEHIND)
    frames = [packed(before + json.dumps(text).encode() + BEHIND) for text in said]
    assert run(shape, frames, 0) == (len(said), "".join(said))


@pytest.mark.parametrize("before", BEFORES)
@pytest.mark.parametrize(
    "change",
    [
        lambda inside: inside.replace(b'"text":', b'"test":'),
        lambda inside: inside.replace(b'"m":2', b'"m":3'),
        lambda inside: inside.replace(b'"a"', b'"a","b"'),
        lambda inside: inside.replace(b'"a"', b'"a\0"'),
        lambda inside: inside.replace(b'"a"', b'"a"' + BEHIND + b"\0" + b'{"text":"b"'),
        lambda inside: inside + b"\0",
        lambda inside: inside[:-1],
        lambda inside: b"",
    ],
)
def test_what_differs_in_more_is_left_to_the_parser(before: bytes, change: Any) -> None:
    shape = Packed(packed(before + b'"x"' + BEHIND), before, BEHIND)
    frame = packed(change(before + b'"a"' + BEHIND))
    plain = packed(before + b'"a"' + BEHIND)
    for frames in ([frame], [frame, plain], [frame, frame], [plain, frame, plain]):
        known, words = run(shape, frames, 0)
        assert known == len(words) < len(frames)


@pytest.mark.parametrize("more", [b"", b'~~~~"}', b'AA"}', b'A"}'])
def test_base64_that_is_broken_is_left_to_the_parser(more: bytes) -> None:
    shape = Packed(packed(BEFORES[0] + b'"x"' + BEHIND), BEFORES[0], BEHIND)
    assert run(shape, [packed(BEFORES[0] + b'"a"' + BEHIND, more)], 0) == (0, "")
