"""Properties of the Responses dialect: cut anywhere, a stream adds up to what the whole response comes to."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import StreamInterrupted
from parley_server.dialects.openai_responses import OpenAIResponses
from tests.dialects.responses_wire import OPENAI, function_call, incomplete, message, reasoning, response, stream, words

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NOTE = st.builds(
    lambda url, start: {"type": "url_citation", "url": url, "title": "t", "start_index": start, "end_index": start + 1},
    _TEXT,
    st.integers(0, 9),
)


def _tokens(text: str) -> list[dict[str, Any]]:
    return [{"token": c, "logprob": -0.25, "bytes": list(c.encode()), "top_logprobs": []} for c in text]


_PIECE = st.one_of(
    st.builds(lambda text, notes: words(text, annotations=notes), _TEXT, st.lists(_NOTE, max_size=2)),
    st.builds(lambda text: words(text, logprobs=_tokens(text)), _TEXT),
    st.builds(lambda text: {"type": "refusal", "refusal": text}, _TEXT),
)
_ITEM = st.one_of(
    st.builds(lambda pieces: message(*pieces), st.lists(_PIECE, max_size=3)),
    st.builds(lambda pieces, phase: message(*pieces, phase=phase), st.lists(_PIECE, min_size=1, max_size=2), _TEXT),
    st.builds(lambda texts: reasoning(*texts, encrypted_content="x"), st.lists(_TEXT, max_size=3)),
    st.builds(lambda texts, content: reasoning(*texts, content=content), *[st.lists(_TEXT, max_size=2)] * 2),
    st.builds(lambda name, arguments: function_call(f"f{name}", arguments), _TEXT, _TEXT),
    st.builds(lambda query: {"type": "web_search_call", "id": "ws", "action": {"query": query}}, _TEXT),
    st.builds(lambda input: {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": input}, _TEXT),
)
_USAGE = st.one_of(st.none(), st.fixed_dictionaries({"input_tokens": st.integers(0, 99)}))
_RESPONSE = st.one_of(
    st.builds(lambda items, usage: response(*items, usage=usage), st.lists(_ITEM, max_size=4), _USAGE),
    st.builds(lambda items: incomplete("max_output_tokens", *items), st.lists(_ITEM, max_size=3)),
)


def _wire(frames: list[bytes]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (json.loads(frame)["type"].encode(), frame) for frame in frames)


def _read(pieces: Iterator[bytes] | list[bytes]) -> list[v1.StreamChatResponse]:
    dialect = OpenAIResponses()
    framing, decoder = dialect.framing(), dialect.decoder(OPENAI)
    events = [event for piece in pieces for event in decoder.feed(framing.feed(piece))]
    return [*events, *decoder.feed(framing.finish()), *decoder.finish()]


@given(whole=_RESPONSE, data=st.data())
def test_a_stream_adds_up_to_the_whole_however_it_is_cut(whole: dict[str, Any], data: st.DataObject) -> None:
    sizes = iter(lambda: data.draw(st.integers(1, 8)), 0)
    body = _wire(stream(whole, sizes))
    cuts = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=8))})
    events = _read([body[start:end] for start, end in itertools.pairwise(cuts)])
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "completed")
    assert fold(events) == OpenAIResponses().decode(json.dumps(whole).encode(), OPENAI)


@given(whole=_RESPONSE)
def test_a_stream_adds_up_to_the_same_byte_by_byte(whole: dict[str, Any]) -> None:
    body = _wire(stream(whole))
    assert fold(_read([body[at : at + 1] for at in range(len(body))])) == fold(_read([body]))


@given(whole=_RESPONSE, data=st.data())
def test_a_strict_prefix_is_interrupted(whole: dict[str, Any], data: st.DataObject) -> None:
    frames = stream(whole)
    body = _wire(frames)
    end = data.draw(st.integers(0, len(body) - 3))  # a whole last event without its blank line is an end
    with pytest.raises(StreamInterrupted):
        _read([body[:end]])


@given(
    frames=st.lists(st.sampled_from(stream(response(reasoning("a"), message(words("b")), function_call()))), max_size=9)
)
def test_events_in_any_order_fail_in_known_ways_or_give_an_answer(frames: list[bytes]) -> None:
    try:
        events = _read([_wire(frames)])
    except StreamInterrupted:
        return
    assert events[-1].HasField("completed")
