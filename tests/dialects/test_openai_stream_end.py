"""How streams of OpenAI, and of servers like it, end: well, too early, with an error, in nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    GatewayError,
    Overloaded,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.dialects.framing.sse import SSE
from parley_server.dialects.openai_chat import OpenAIChat
from tests.dialects.openai_wire import (
    COMPATIBLE,
    DONE,
    OPENAI,
    SERVER,
    call,
    calls,
    chunk,
    events,
    kinds,
    streamed,
    texts,
)

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


WHOLE = [*texts("a", "b"), call(0, "{}", id="c", name="f"), chunk({}, "tool_calls"), chunk(usage=USAGE), DONE]


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_without_its_marker_a_stream_of_openai_is_interrupted(length: int) -> None:
    with pytest.raises(StreamInterrupted):
        events(WHOLE[:length])


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_elsewhere_a_finish_reason_is_an_end_too(length: int) -> None:
    if length <= WHOLE.index(chunk({}, "tool_calls")):
        with pytest.raises(StreamInterrupted):
            events(WHOLE[:length], SERVER, COMPATIBLE)
    else:
        assert calls(streamed(WHOLE[:length], SERVER, COMPATIBLE)) == [("c", "f", "{}")]


@given(st.data())
def test_every_strict_prefix_of_the_bytes_is_interrupted(data: st.DataObject) -> None:
    body = b"".join(b"data: " + frame + b"\n\n" for frame in WHOLE)
    end = data.draw(st.integers(0, len(body) - len(b"\n\n") - 1))
    framing, decoder = SSE(), OpenAIChat().decoder(OPENAI)
    decoder.feed(framing.feed(body[:end]))
    decoder.feed(framing.finish())
    with pytest.raises(StreamInterrupted):
        decoder.finish()


def test_nothing_after_the_marker_counts() -> None:
    decoder = OpenAIChat().decoder(OPENAI)
    assert kinds(decoder.feed([*texts("a"), chunk({}, "stop"), DONE, chunk({"content": "b"})]))[-1] == "completed"
    assert decoder.feed([chunk({"content": "c"})]) == []
    assert decoder.finish() == []


def test_marker_without_any_answer_is_nonsense() -> None:
    with pytest.raises(ProtocolError):
        events([DONE])
    assert streamed([*texts("a"), DONE]).native_finish_reason == ""


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ({"error": {"message": "slow down", "code": 429, "type": "x"}}, RateLimited),
        ({"error": {"message": "busy", "code": None, "type": "service_unavailable_error"}}, Overloaded),
        ({"error": {"message": "boom", "type": "server_error", "code": "server_error"}}, Unavailable),
        ({"error": "boom"}, Unavailable),
        ({"error": {"code": 502, "message": "x"}, "choices": [{"index": 0, "delta": {"content": ""}}]}, Unavailable),
    ],
)
@pytest.mark.parametrize("before", [[], texts("a", "b")])
def test_error_inside_the_stream(before: list[bytes], frame: dict[str, Any], error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        events([*before, json.dumps(frame).encode()])
    assert type(raised.value) is error
    assert raised.value.provider_error is not None
    assert raised.value.provider_error.message


@pytest.mark.parametrize(
    "frame", [b"{", b"[]", b"7", b'{"choices":[{"index":0,"delta":{"content":{"a":1}}}]}', b"\xff"]
)
def test_nonsense(frame: bytes) -> None:
    decoder = OpenAIChat().decoder(OPENAI)
    try:
        decoder.feed([*texts("a"), frame])
    except ProtocolError:
        return
    with pytest.raises(StreamInterrupted):
        decoder.finish()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "arguments", "id", "index", "custom", "delta"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
deltas = st.dictionaries(
    st.sampled_from(
        ["role", "content", "refusal", "tool_calls", "annotations", "reasoning", "reasoning_details", "audio"]
    ),
    json_values,
)


@given(st.lists(st.tuples(deltas, json_values, json_values), max_size=4))
def test_any_chunks_give_an_error_of_ours_or_a_well_formed_answer(said: list[tuple[Any, Any, Any]]) -> None:
    frames = [chunk(delta, choice={"finish_reason": finish, "logprobs": rest}) for delta, finish, rest in said]
    try:
        found = events([*texts("a"), *frames, DONE], SERVER, COMPATIBLE)
    except GatewayError:
        return
    assert kinds(found)[-1] == "completed"
    opened = [event.part_started.part_index for event in found if event.HasField("part_started")]
    closed = [event.part_completed.part_index for event in found if event.HasField("part_completed")]
    assert opened == list(range(len(opened)))
    assert sorted(closed) == opened


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8), st.integers(1, 40))
def test_any_cut_of_any_text_folds_to_the_text(words: list[str], size: int) -> None:
    frames = [*texts(*words), chunk({}, "stop"), DONE]
    body = b"".join(b"data: " + frame + b"\n\n" for frame in frames)
    framing, decoder = SSE(), OpenAIChat().decoder(OPENAI)
    found: list[v1.StreamChatResponse] = []
    for start in range(0, len(body), size):
        found += decoder.feed(framing.feed(body[start : start + size]))
    assert fold(found + decoder.finish()).message.parts[0].text == "".join(words)
