"""Deltas that differ in nothing but their text are not parsed whole, which must make no difference."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parley.fold import fold
from parley_server.core.errors import GatewayError
from parley_server.dialects.learned import run
from tests.dialects.cohere_wire import DIALECT, TARGET, begin, delta, end, event, text, thinking

TRICKY = ['","', '"', "\\", "\n", ",", "}", "}}", "text", "content-delta", "0", "é", "😀", '"}}}}', "\0"]
texts = st.sampled_from(TRICKY) | st.text(st.characters(codec="utf-8"), max_size=6)
odd = st.sampled_from([0] * 10 + list(range(1, 6)))
ways = st.sampled_from([(",", ":"), (", ", ": ")])


def said(words: str, way: int) -> dict[str, Any]:
    """A delta of the text; some are of the thoughts, some say more."""
    match way:
        case 1:
            return delta(words, index=1)
        case 2:
            return event("content-delta", {"content": {"thinking": words}}, index=1)
        case 3:
            return delta(words, further=words)
        case 4:
            return event("tool-plan-delta", {"tool_plan": words})
        case 5:
            return delta(words, logprobs={"token_ids": [1], "text": words, "logprobs": [-0.5]})
    return delta(words)


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return event("content-start", {"content": block}, index=index)


def heard(frames: list[bytes], *, learning: bool) -> Any:
    """What is made of a stream: an answer, or the class of the error that ends it."""
    decoder: Any = DIALECT.decoder(TARGET)
    events = []
    try:
        for some in [frames] if learning else [[frame] for frame in frames]:
            if not learning:
                decoder._shape, decoder._shape_block = None, -1
            events += decoder.feed(some)
        return fold(events + decoder.finish())
    except GatewayError as error:
        return type(error)


@given(st.lists(st.tuples(texts, odd), max_size=14), ways)
def test_what_is_learned_changes_nothing(deltas: list[tuple[str, int]], way: tuple[str, str]) -> None:
    events = [begin(), start(0, text("")), start(1, thinking("")), *(said(*one) for one in deltas), end()]
    frames = [json.dumps(one, ensure_ascii=False, separators=way).encode() for one in events]
    assert heard(frames, learning=True) == heard(frames, learning=False)


def test_a_stream_of_plain_deltas_is_learned() -> None:
    decoder: Any = DIALECT.decoder(TARGET)
    frames = [json.dumps(delta(words), ensure_ascii=False).encode() for words in TRICKY]
    decoder.feed([json.dumps(one).encode() for one in (begin(), start(0, text("")))])
    decoder.feed(frames[:1])
    assert run(decoder._shape, frames, 0) == (len(TRICKY), "".join(TRICKY))
