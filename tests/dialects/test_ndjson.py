"""Newline-delimited JSON: any split of the bytes gives the same lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.errors import ProtocolError
from parley_server.dialects.framing.ndjson import MOST_BYTES, NDJSON

lines = st.sampled_from([b'{"a":1}', '{"text":"😀"}'.encode(), b"{}", b"", b" ", b"\r", b"nonsense", b'{"b":"\\n"}\r'])


def framed(pieces: list[bytes]) -> list[bytes]:
    framing = NDJSON()
    return [frame for piece in pieces for frame in framing.feed(piece)]


@given(st.lists(lines, max_size=8), st.data())
def test_any_split_gives_the_lines_that_are_not_blank(body_lines: list[bytes], data: st.DataObject) -> None:
    body = b"".join(line + b"\n" for line in body_lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert framed(pieces) == [line for line in body_lines if line.strip()]


@given(st.binary(max_size=60), st.data())
def test_any_split_of_any_bytes_gives_the_same(body: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(body)))
    whole, halves = NDJSON(), NDJSON()
    assert whole.feed(body) + whole.finish() == halves.feed(body[:cut]) + halves.feed(body[cut:]) + halves.finish()


def test_byte_by_byte_utf8_inside_an_emoji() -> None:
    body = '{"text":"😀"}\n{"done":true}\n'.encode()
    assert framed([bytes([byte]) for byte in body]) == ['{"text":"😀"}'.encode(), b'{"done":true}']


def test_last_line_without_its_newline_counts_if_it_is_whole() -> None:
    framing = NDJSON()
    assert framing.feed(b'{"a":1}\n{"done":true}') == [b'{"a":1}']
    assert framing.finish() == [b'{"done":true}']
    assert framing.finish() == []


@pytest.mark.parametrize("tail", [b"", b"{", b'{"a":', b'{"a":1}}', b"  "])
def test_last_line_that_was_cut_off_is_no_line(tail: bytes) -> None:
    framing = NDJSON()
    assert framing.feed(b'{"a":1}\n' + tail) == [b'{"a":1}']
    assert framing.finish() == []


def test_endless_line_is_refused_in_bounded_memory() -> None:
    framing = NDJSON()
    block = b"x" * (1 << 20)
    framing.feed(block)
    with pytest.raises(ProtocolError):
        for _ in range(MOST_BYTES // len(block)):
            framing.feed(block)
