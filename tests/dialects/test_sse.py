"""Server-sent events: any split of the bytes gives the frames that a slow reading of the standard gives."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.errors import ProtocolError
from parley_server.dialects.framing.sse import MOST_BYTES, SSE


def reference(body: bytes) -> list[bytes]:
    """The standard, word by word, on the whole text; events without payload left out, as ours are."""
    lines = re.split(r"\r\n|\r|\n", body.decode("latin-1").removeprefix("\xef\xbb\xbf"))
    events: list[str] = []
    data: list[str] = []
    for line in lines[:-1]:  # what is behind the last line end is no line yet
        field, colon, value = line.partition(":")
        if line == "":
            events.append("\n".join(data))
            data = []
        elif field == "data" and colon:
            data.append(value.removeprefix(" "))
    return [event.encode("latin-1") for event in events if event]


def framed(pieces: list[bytes]) -> list[bytes]:
    framing = SSE()
    return [frame for piece in pieces for frame in framing.feed(piece)]


lines = st.sampled_from(
    [
        b'data: {"a":1}',
        b"data:no space",
        b"data:  two spaces",
        b"data:",
        b"data: ",
        b"data: \xf0\x9f\x98\x80",
        b"event: ping",
        b"event: ping\ndata: {}\n",
        b"id: 7",
        b"retry: 10",
        b": keep-alive",
        b"",
        b"",
        b"nonsense",
        b"data: [DONE]",
    ]
)
bodies = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(st.sampled_from([b"", b"\xef\xbb\xbf"]), bodies, st.data())
def test_any_split_gives_the_frames_of_the_standard(mark: bytes, body: bytes, data: st.DataObject) -> None:
    body = mark + body
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert framed(pieces) == reference(body)


named = b"event: a\ndata: 1\n\n"
odd = st.sampled_from(
    [named, named, b"data: 2\n\n", b"data: 3\ndata: 4\n\n", b": c\n", b"event: b\n", b"id: 1\n", b"\n"]
)


@given(st.lists(odd | st.sampled_from([b"event:b\ndata: \n\n", b"event: d\ndata:5\n\n"]), max_size=12), st.data())
def test_runs_of_named_events_with_something_between_them(between: list[bytes], data: st.DataObject) -> None:
    """Runs take a short cut, which must notice where they end."""
    body = b"".join(named * data.draw(st.integers(0, 6)) + one for one in between) + named * 4
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=3)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert framed(pieces) == reference(body)


usual = st.sampled_from(
    [
        b"data: 1%(e)s%(e)s",
        b"data: {}%(e)s%(e)s",
        b"id: 7%(e)sdata: 2%(e)s%(e)s",
        b"id: 8%(e)sevent: a%(e)sdata: 3%(e)s%(e)s",
    ]
)


@given(st.lists(usual, max_size=12), st.lists(odd, max_size=2), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_events_written_the_usual_ways(
    events: list[bytes], between: list[bytes], end: bytes, data: st.DataObject
) -> None:
    """Such events are cut all at once, however the reads fall, and what comes between them is not lost."""
    run = b"".join(event % {b"e": end} for event in events)
    body = run + b"".join(between) + run
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert framed(pieces) == reference(body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_counts_with_its_empty_line(end: bytes) -> None:
    framing = SSE()
    for _ in range(3):
        assert framing.feed(b"event: a" + end) == []
        assert framing.feed(b"data: 1" + end) == []
        assert framing.feed(end) == [b"1"]


@given(st.binary(max_size=60), st.data())
def test_any_split_of_any_bytes_gives_the_same(body: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(body)))
    whole, halves = SSE(), SSE()
    assert whole.feed(body) + whole.finish() == halves.feed(body[:cut]) + halves.feed(body[cut:]) + halves.finish()


def test_byte_by_byte_utf8_inside_an_emoji() -> None:
    body = 'data: {"text":"😀"}\r\n\r\ndata: [DONE]\n\n'.encode()
    assert framed([bytes([byte]) for byte in body]) == ['{"text":"😀"}'.encode(), b"[DONE]"]


def test_several_data_lines_are_one_payload() -> None:
    assert framed([b"data: a\ndata: b\n\n"]) == [b"a\nb"]


def test_comments_between_events_say_nothing() -> None:
    assert framed([b": OPENROUTER PROCESSING\n\n: again\n\ndata: {}\n\n"]) == [b"{}"]


def test_line_feed_of_a_pair_that_was_cut_apart_ends_no_event() -> None:
    assert framed([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [b"a\nb"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_last_event_without_its_blank_line_counts_if_it_is_whole(end: bytes) -> None:
    framing = SSE()
    assert framing.feed(b"data: [DONE]" + end) == []
    assert framing.finish() == [b"[DONE]"]


@pytest.mark.parametrize("tail", [b'data: {"a":', b"data: [DON", b"data: ", b"dat", b": comm", b'data: {"a":1}}'])
def test_last_event_that_was_cut_off_is_no_event(tail: bytes) -> None:
    framing = SSE()
    assert framing.feed(b'data: {"a":1}\n\n' + tail) == [b'{"a":1}']
    assert framing.finish() == []


def test_endless_line_is_refused_in_bounded_memory() -> None:
    framing = SSE()
    block = b"x" * (1 << 20)
    for _ in range(MOST_BYTES // len(block)):
        framing.feed(block)
    with pytest.raises(ProtocolError):
        framing.feed(block)


def test_endless_event_of_short_lines_is_refused() -> None:
    framing = SSE()
    block = b"data: " + b"x" * (1 << 20) + b"\n"
    for _ in range(MOST_BYTES // (1 << 20)):
        framing.feed(block)
    with pytest.raises(ProtocolError):
        framing.feed(block)
