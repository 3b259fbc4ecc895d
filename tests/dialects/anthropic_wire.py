"""Messages of the Messages API as JSON values, and what the server writes on the wire for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from tests.strategies import texts, words

DIALECT = AnthropicMessages()
TARGET = Target(provider="anthropic", model="claude-sonnet-4-5")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
inputs = st.dictionaries(words, json_values, max_size=3)
citations = st.fixed_dictionaries(
    {
        "type": st.just("char_location"),
        "cited_text": texts,
        "document_index": st.integers(0, 9),
        "document_title": st.none() | words,
        "start_char_index": st.integers(0, 99),
        "end_char_index": st.integers(0, 99),
    }
)
callers = st.sampled_from([{"type": "direct"}, {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}])
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.builds(
        lambda text, cited: {"type": "text", "text": text, "citations": cited}, texts, st.lists(citations, max_size=2)
    ),
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, texts, words),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, words),
    st.builds(
        lambda id, name, input, caller: {"type": "tool_use", "id": id, "name": name, "input": input, "caller": caller},
        words,
        words,
        inputs,
        callers,
    ),
    st.builds(
        lambda id, input: {"type": "server_tool_use", "id": id, "name": "web_search", "input": input}, words, inputs
    ),
    st.builds(lambda id, text: {"type": "web_search_tool_result", "tool_use_id": id, "content": [text]}, words, texts),
)
counts = st.integers(0, 10**6)
usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_creation_input_tokens": counts | st.none(),
        "cache_read_input_tokens": counts | st.none(),
        "output_tokens_details": st.builds(lambda n: {"thinking_tokens": n}, counts),
        "server_tool_use": st.builds(lambda n: {"web_search_requests": n}, counts),
        "service_tier": st.sampled_from(["standard", "priority"]),
    },
)
endings = st.sampled_from(
    [
        {"stop_reason": "end_turn", "stop_sequence": None},
        {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        {"stop_reason": "something_new", "stop_sequence": None},
        {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio", "explanation": "No."}},
        {"stop_reason": "pause_turn", "container": {"id": "container_1", "expires_at": "2026-11-20T00:00:00Z"}},
    ]
)
messages = st.builds(
    lambda content, usage, ending: message(content, usage=usage, **ending),
    st.lists(blocks, max_size=5),
    usages,
    endings,
)


def message(content: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
        **fields,
    }


def wire(*events: dict[str, Any]) -> bytes:
    """Events as the server writes them."""
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events).encode()


def streamed(whole: dict[str, Any], cut: Callable[[str], list[str]] = list) -> list[dict[str, Any]]:
    """The events of a stream that says what the message `whole` says; `cut` cuts a text into its deltas."""
    usage = {**whole["usage"], "output_tokens": 1}
    usage.pop("output_tokens_details", None)
    head = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    head.pop("container", None)
    tail = {
        name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details", "container") if name in whole
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": head}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        start, deltas = _begun(block, cut)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": tail, "usage": whole["usage"]})
    events.append({"type": "message_stop"})
    return events


def _begun(block: dict[str, Any], cut: Callable[[str], list[str]]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    deltas: list[dict[str, Any]] = []
    match block["type"]:
        case "text":
            start = {**block, "text": ""}
            deltas += [{"type": "text_delta", "text": piece} for piece in cut(block["text"])]
            if "citations" in block:
                start["citations"] = []
                deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        case "thinking":
            start = {**block, "thinking": "", "signature": ""}
            deltas += [{"type": "thinking_delta", "thinking": piece} for piece in cut(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use" | "server_tool_use":
            start = {**block, "input": {}}
            text = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *cut(text)]]
        case _:
            start = block
    return start, iter(deltas)


def read(data: bytes, cuts: list[int] = []) -> v1.ChatResponse:  # noqa: B006  # never changed
    """The fold of a stream that arrives in pieces, cut at `cuts`."""
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    events = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        events += decoder.feed(framing.feed(data[start:end]))
    events += decoder.feed(framing.finish())
    events += decoder.finish()
    return fold(events)


def comparable(response: v1.ChatResponse) -> v1.ChatResponse:
    """`response` with the JSON of arguments in one form: a stream has it in the model's own words."""
    for part in response.message.parts:
        if part.HasField("tool_call"):
            part.tool_call.arguments_json = json.dumps(json.loads(part.tool_call.arguments_json))
        if part.HasField("provider_part"):
            part.provider_part.json = json.dumps(json.loads(part.provider_part.json))
    return response
