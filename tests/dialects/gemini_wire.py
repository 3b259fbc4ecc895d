"""Answers of the Gemini API as JSON values, and what the server writes on the wire for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.gemini import GeminiChat
from tests.strategies import texts, words

DIALECT = GeminiChat()
TARGET = Target(provider="gemini", model="gemini-3-flash-preview")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
signatures = st.sampled_from(["c2lnbmVk", "YWdhaW4="])
contents = st.one_of(
    st.builds(lambda text: {"text": text}, texts),
    st.builds(lambda text: {"text": text, "thought": True}, texts),
    st.builds(
        lambda id, name, args: {"functionCall": {"name": name, "args": args} | ({"id": id} if id else {})},
        st.just("") | words,
        words,
        st.dictionaries(words, json_values, max_size=3),
    ),
    st.builds(lambda code: {"executableCode": {"language": "PYTHON", "code": code}}, texts),
    st.builds(lambda text: {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": text}}, texts),
    st.just({"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}),
)
parts = st.builds(
    lambda part, signature: {**part, "thoughtSignature": signature} if signature else part,
    contents,
    st.none() | signatures,
)
counts = st.integers(0, 10**6)
usages = st.fixed_dictionaries(
    {"promptTokenCount": counts, "totalTokenCount": counts},
    optional={
        "candidatesTokenCount": counts,
        "thoughtsTokenCount": counts,
        "toolUsePromptTokenCount": counts,
        "cachedContentTokenCount": counts,
        "serviceTier": st.just("standard"),
    },
)
groundings = st.builds(
    lambda spans: {
        "groundingChunks": [{"web": {"uri": "https://a.test", "title": "a"}}, {"web": {"uri": "https://b.test"}}],
        "groundingSupports": [
            {"segment": {"startIndex": start, "endIndex": end}, "groundingChunkIndices": [0, 1]} for start, end in spans
        ],
        "webSearchQueries": ["a", "b"],
    },
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=2),
)
endings = st.fixed_dictionaries(
    {"finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "SOMETHING_NEW"])},
    optional={
        "groundingMetadata": groundings,
        "citationMetadata": st.just({"citationSources": [{"endIndex": 3, "uri": "https://c.test"}]}),
    },
)
wholes = st.builds(
    lambda parts, usage, ending: answer(parts, usageMetadata=usage, **ending),
    st.lists(parts, max_size=5),
    usages,
    endings,
)


def answer(parts: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A whole answer; fields of the candidate by their names, others beside it."""
    of_candidate = ("finishReason", "groundingMetadata", "citationMetadata", "logprobsResult", "finishMessage")
    ending = {"finishReason": "STOP"} | {name: fields.pop(name) for name in of_candidate if name in fields}
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, **ending}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8},
        "modelVersion": "gemini-3-flash-preview",
        "responseId": "resp-1_A",
        **fields,
    }


def chunk(*parts: dict[str, Any], **ending: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    said = answer(list(parts), **ending)
    if "finishReason" not in ending:
        del said["candidates"][0]["finishReason"]
    return said


def wire(*chunks: Any) -> bytes:
    """Chunks as the server writes them: with CRLF."""
    return "".join(f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n" for one in chunks).encode()


def streamed(whole: dict[str, Any], cut: Callable[[str], list[str]] = list) -> list[dict[str, Any]]:
    """The chunks of a stream that says what the answer `whole` says; `cut` cuts a text into its pieces."""
    (candidate,) = whole["candidates"]
    head = {name: value for name, value in whole.items() if name not in ("candidates", "usageMetadata")}
    pieces = [piece for part in candidate["content"]["parts"] for piece in _cut(part, cut)]
    early = {"promptTokenCount": 3, "totalTokenCount": 3}
    chunks: list[dict[str, Any]] = [
        {"candidates": [{"content": {"role": "model", "parts": [piece]}, "index": 0}], "usageMetadata": early, **head}
        for piece in pieces
    ]
    ending = {name: value for name, value in candidate.items() if name != "content"}
    last = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, **ending}], **head}
    return [*chunks, {**last, "usageMetadata": whole["usageMetadata"]}]


def _cut(part: dict[str, Any], cut: Callable[[str], list[str]]) -> Iterator[dict[str, Any]]:
    """A text without signature in pieces; everything else comes whole."""
    if "text" in part and "thoughtSignature" not in part:
        yield from ({**part, "text": piece} for piece in cut(part["text"]))
    else:
        yield part


def read(data: bytes, cuts: list[int] = []) -> v1.ChatResponse:  # noqa: B006  # never changed
    """The fold of a stream that arrives in pieces, cut at `cuts`."""
    return fold(events_of(data, cuts))


def events_of(data: bytes, cuts: list[int] = []) -> list[v1.StreamChatResponse]:  # noqa: B006  # never changed
    """The events of a stream that arrives in pieces, cut at `cuts`."""
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    events = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        events += decoder.feed(framing.feed(data[start:end]))
    events += decoder.feed(framing.finish())
    events += decoder.finish()
    return events


def decoded(whole: Any) -> v1.ChatResponse:
    """A whole answer, decoded."""
    return DIALECT.decode(json.dumps(whole, ensure_ascii=False).encode(), TARGET)
