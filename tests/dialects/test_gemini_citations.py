"""Sources: the API counts bytes of UTF-8, we count code points."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.dialects.gemini.citations import Ruler
from tests.dialects.gemini_wire import answer, chunk, decoded, read, streamed, wire
from tests.strategies import texts

TEXT = "Öl & 🌍: it is 5 °C in 東京."


def web(name: str) -> dict[str, Any]:
    """A source on the web."""
    return {"web": {"uri": f"https://{name}.test", "title": name}}


def support(part: str, text: str, *numbers: int, **segment: Any) -> dict[str, Any]:
    """What `numbers` say of `part` of `text`, as the API measures it."""
    start = text.encode().index(part.encode())
    span = {"startIndex": start, "endIndex": start + len(part.encode()), "text": part, **segment}
    return {"segment": span, "groundingChunkIndices": list(numbers)}


def grounded(*supports: dict[str, Any], chunks: int = 2, **fields: Any) -> dict[str, Any]:
    """Metadata of an answer that is based on so many sources."""
    return {"groundingChunks": [web("abc"[n]) for n in range(chunks)], "groundingSupports": list(supports), **fields}


@given(st.lists(texts, max_size=6), st.integers(0, 300))
def test_a_byte_belongs_to_the_character_it_is_in(fragments: list[str], offset: int) -> None:
    ruler = Ruler()
    for fragment in fragments:
        ruler.add(fragment)
    data = "".join(fragments).encode()
    assert (ruler.bytes, ruler.chars) == (len(data), len(data.decode()))
    assert ruler.index(offset) == len(data[:offset].decode("utf-8", "ignore"))


@pytest.mark.parametrize("way", ["whole", "in one", "letter by letter"])
def test_spans_count_code_points(way: str) -> None:
    whole = answer(
        [{"text": TEXT}],
        groundingMetadata=grounded(support("it is 5 °C", TEXT, 0, 1), support("東京", TEXT, 1)),
    )
    if way == "whole":
        said = decoded(whole)
    else:
        said = read(wire(*streamed(whole, list if way == "letter by letter" else lambda text: [text])))
    (part,) = said.message.parts
    spans = [(part.text[c.start_index : c.end_index], c.uri, c.title) for c in part.citations]
    assert spans == [
        ("it is 5 °C", "https://a.test", "a"),
        ("it is 5 °C", "https://b.test", "b"),
        ("東京", "https://b.test", "b"),
    ]


def test_segments_belong_to_parts() -> None:
    parts: list[dict[str, Any]] = [
        {"text": "Hm.", "thought": True},
        {"text": "€ one"},
        {"executableCode": {"code": ""}},
        {"text": "€ two"},
    ]
    metadata = grounded(support("one", "€ one", 0, partIndex=1), support("two", "€ two", 1, partIndex=3))
    said = decoded(answer(parts, groundingMetadata=metadata)).message.parts
    assert [[(c.start_index, c.end_index, c.title) for c in part.citations] for part in said] == [
        [],
        [(2, 5, "a")],
        [],
        [(2, 5, "b")],
    ]


def test_sources_come_behind_a_signature() -> None:
    said = read(
        wire(
            chunk({"text": "Öl"}),
            chunk(
                {"text": "", "thoughtSignature": "cw=="},
                finishReason="STOP",
                groundingMetadata=grounded(support("Öl", "Öl", 0)),
            ),
        )
    )
    first, second = said.message.parts
    assert [(c.start_index, c.end_index) for c in first.citations] == [(0, 2)]
    assert (second.text, second.replay_state.data, len(second.citations)) == ("", b"cw==", 0)


def test_metadata_that_is_empty_first_and_whole_at_the_end() -> None:
    said = read(
        wire(
            chunk({"text": "a"}, groundingMetadata={}),
            chunk({"text": "b"}, groundingMetadata={"webSearchQueries": ["q"]}),
            chunk({"text": "c"}, finishReason="STOP", groundingMetadata=grounded(support("abc", "abc", 0))),
        )
    )
    assert [c.end_index for c in said.message.parts[0].citations] == [3]
    assert said.usage.server_tool_calls == {"google_search": 1}


def test_sources_of_the_whole_have_no_span() -> None:
    (part,) = decoded(answer([{"text": "a"}], groundingMetadata=grounded())).message.parts
    assert [(c.title, c.HasField("start_index")) for c in part.citations] == [("a", False), ("b", False)]


def test_sources_other_than_the_web() -> None:
    chunks = [{"retrievedContext": {"uri": "gs://b/f", "title": "f", "text": "words"}}, {"maps": {"title": "Cafe"}}, {}]
    (part,) = decoded(answer([{"text": "a"}], groundingMetadata={"groundingChunks": chunks})).message.parts
    assert [(c.uri, c.title, c.cited_text) for c in part.citations] == [
        ("gs://b/f", "f", "words"),
        ("", "Cafe", ""),
        ("", "", ""),
    ]


def test_spans_that_do_not_fit_are_left_out() -> None:
    beyond = {"segment": {"startIndex": 1, "endIndex": 99}, "groundingChunkIndices": [0, 7]}
    (part,) = decoded(answer([{"text": "abc"}], groundingMetadata=grounded(beyond))).message.parts
    assert part.citations == [v1.Citation(uri="https://a.test", title="a")]


def test_an_answer_without_text_has_no_citations() -> None:
    call = {"functionCall": {"name": "f"}}
    assert not decoded(answer([call], groundingMetadata=grounded(support("a", "a", 0)))).message.parts[0].citations


@pytest.mark.parametrize("name", ["citationSources", "citations"])
def test_words_that_are_recited(name: str) -> None:
    sources = [
        {"startIndex": 3, "endIndex": 6, "uri": "https://a.test"},
        {"startIndex": 8, "endIndex": 11, "title": "b", "license": "mit"},
    ]
    parts = [{"text": "é abc", "thoughtSignature": "cw=="}, {"text": "é def"}]
    whole = answer(parts, citationMetadata={name: sources})
    for said in (decoded(whole), read(wire(*streamed(whole)))):
        first, second = said.message.parts
        assert [(c.start_index, c.end_index, c.uri) for c in first.citations] == [(2, 5, "https://a.test")]
        assert [(c.start_index, c.end_index, c.title) for c in second.citations] == [(1, 4, "b")]
