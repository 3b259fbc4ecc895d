"""Event streams of AWS: any split of the bytes gives the same messages, and no damage goes unnoticed."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.errors import GatewayError, ModelNotFound, Overloaded, ProtocolError, RateLimited, Unavailable
from parley_server.dialects.bedrock import PayloadParts, unpacked
from parley_server.dialects.framing.eventstream import MOST_BYTES, EventStream, Head, opened
from tests.dialects.bedrock_wire import CLAUDE, EVENT, chunk, event, exception, frame, header, split

names = st.text(st.characters(codec="ascii", categories=("Ll", "Lu")), min_size=1, max_size=12)
values = st.one_of(st.text(max_size=12), st.binary(max_size=12), st.booleans(), st.integers(-(2**31), 2**31 - 1))
headers = st.fixed_dictionaries(
    {
        ":message-type": st.just("event"),
        ":event-type": names,
        ":content-type": st.sampled_from(["application/json", "application/octet-stream"]),
    }
)
frames = st.tuples(headers, st.dictionaries(names, values, max_size=3), st.binary(max_size=200))
places = st.lists(st.integers(0, 10**6), max_size=12)


def messages(pieces: list[bytes]) -> list[tuple[Head, bytes]]:
    return [opened(frame) for frame in frames_of(pieces)]


def frames_of(pieces: list[bytes]) -> list[bytes]:
    framing = EventStream()
    found = [frame for piece in pieces for frame in framing.feed(piece)]
    return found + framing.finish()


@given(st.lists(frames, max_size=6), places)
def test_any_split_gives_what_botocore_reads(
    sent: list[tuple[dict[str, str], dict[str, str], bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame({**further, **known}, payload) for known, further, payload in sent)
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    expected = [
        (Head("event", read.headers[":event-type"], read.headers[":content-type"]), read.payload) for read in buffer
    ]
    assert messages(split(data, cuts)) == expected
    assert len(expected) == len(sent)


def test_byte_by_byte() -> None:
    data = event("contentBlockDelta", {"delta": {"text": "😀"}}) + event("messageStop", {})
    assert messages([bytes([byte]) for byte in data]) == messages([data])
    assert [head.name for head, _ in messages([data])] == ["contentBlockDelta", "messageStop"]


@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    whole = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hello"}})
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError):
        messages([bytes(broken)])


def test_a_frame_that_was_cut_off_is_none() -> None:
    data = event("messageStart", {"role": "assistant"})
    for length in range(len(data)):
        assert messages([data[:length]]) == []


@pytest.mark.parametrize("total", [0, 15, MOST_BYTES + 1, 2**32 - 1])
def test_impossible_lengths_are_refused_before_anything_is_awaited(total: int) -> None:
    prelude = struct.pack(">II", total, 0)
    with pytest.raises(ProtocolError, match="frame"):
        EventStream().feed(prelude + struct.pack(">I", crc32(prelude)))


def test_headers_longer_than_the_frame_are_refused() -> None:
    prelude = struct.pack(">II", 32, 17)
    with pytest.raises(ProtocolError):
        EventStream().feed(prelude + struct.pack(">I", crc32(prelude)))


def test_headers_of_all_types_are_skipped() -> None:
    others = b"".join(
        bytes([1]) + b"x" + bytes([kind]) + bytes(size)
        for kind, size in ((0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16))
    )
    block = others + header(":message-type", "event") + header(":event-type", "chunk")
    assert messages([frame(block, b"{}")]) == [(Head("event", "chunk", ""), b"{}")]


@pytest.mark.parametrize(
    "block", [b"\x01x\x0a", b"\x01", b"\x05ab", b"\x01x\x07\x00\x09abc", b"\x01x\x07\x00\x01\xff", b"\x01x"]
)
def test_broken_headers_are_refused(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="headers"):
        messages([frame(block, b"")])


def test_exceptions_and_errors() -> None:
    error = {":message-type": "error", ":error-code": "InternalError", ":error-message": "so sorry"}
    data = exception("throttlingException", {"message": "slow down"}) + frame(error, b"")
    assert messages([data]) == [
        (Head("exception", "throttlingException", "application/json"), b'{"message": "slow down"}'),
        (Head("error", "InternalError", "", b"so sorry"), b"so sorry"),
    ]
    with pytest.raises(ProtocolError, match="kind"):
        messages([frame({":message-type": "riddle"}, b"")])


# ------------------------------------------------------------------------------------ streams of others, inside of them


@given(places)
def test_chunks_hold_the_events_of_the_model(cuts: list[int]) -> None:
    data = chunk({"type": "ping"}) + event("initial-response", {}) + chunk({"type": "message_stop"})
    found = [unpacked(frame, CLAUDE) for frame in frames_of(split(data, cuts))]
    assert found == [b'{"type": "ping"}', b"", b'{"type": "message_stop"}']


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("throttlingException", {"message": "slow down"}, RateLimited),
        ("serviceUnavailableException", {"message": "busy"}, Overloaded),
        ("modelStreamErrorException", {"message": "no", "originalStatusCode": 429}, RateLimited),
        ("modelStreamErrorException", {"message": "no"}, Unavailable),
        ("resourceNotFoundException", {"message": "no"}, ModelNotFound),
        ("somethingNewException", {}, Unavailable),
    ],
)
def test_exceptions_inside_are_raised_by_their_class(
    name: str, fields: dict[str, object], expected: type[GatewayError]
) -> None:
    data = exception(name, fields)
    for read in (lambda: unpacked(frames_of([data])[0], CLAUDE), lambda: PayloadParts().feed(data)):
        with pytest.raises(expected) as raised:
            read()
        assert raised.value.provider_error is not None
        assert raised.value.provider_error.type == name[:1].upper() + name[1:]


@pytest.mark.parametrize("payload", [b'{"bytes":"e30="}', b'{"bytes": "e30="}', b'{"p":"ab","bytes":"e30="}'])
def test_chunks_however_they_are_written(payload: bytes) -> None:
    (data,) = frames_of([frame({":event-type": "chunk", **EVENT}, payload)])
    assert unpacked(data, CLAUDE) == b"{}"


@pytest.mark.parametrize(
    "payload",
    [b"{}", b"nonsense", b'{"bytes": 1}', b'{"bytes": "~"}', b'{"bytes":"~"}', b'{"bytes":"e30=', b'{"bytes":1}'],
)
def test_chunks_without_bytes_are_nonsense(payload: bytes) -> None:
    (data,) = frames_of([frame({":event-type": "chunk", **EVENT}, payload)])
    with pytest.raises(ProtocolError):
        unpacked(data, CLAUDE)


@given(places, places)
def test_server_sent_events_are_cut_by_parts_anywhere(inner: list[int], outer: list[int]) -> None:
    text = 'data: {"text":"😀"}\n\n: ping\n\ndata: {"more":1}\n\ndata: [DONE]\n\n'.encode()
    raw = {":event-type": "PayloadPart", ":message-type": "event", ":content-type": "application/octet-stream"}
    data = b"".join(frame(raw, piece) for piece in split(text, inner) if piece)
    framing = PayloadParts()
    found = [payload for piece in split(data, outer) for payload in framing.feed(piece)]
    assert found + framing.finish() == ['{"text":"😀"}'.encode(), b'{"more":1}', b"[DONE]"]


def test_parts_in_json_are_read_as_well() -> None:
    data = frame({":event-type": "PayloadPart", **EVENT}, b'{"Bytes": "ZGF0YToge30KCg=="}')
    assert PayloadParts().feed(data) == [b"{}"]
