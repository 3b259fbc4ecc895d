"""An answer in no provider's words, and how one is read out of a `ChatResponse`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

from parley import v1

Lack = Literal[
    "text_with_calls",  # text beside tool calls
    "reasoning",
    "refusal",
    "tool_calls",
    "parallel_calls",
    "usage_unset",  # answers without usage
    "cache_read",
    "cache_write",
    "reasoning_tokens",
    "length",  # a word for having been cut off at the limit
    "broken_stream",  # errors inside a stream
    "end_marker",  # an event that ends a stream, whatever becomes of the connection
    "strange_events",  # room for events of unknown kinds
    "unreadable_events",  # events that cannot be read: any text is one
    "carriage_returns",  # in a stream, whose lines they end
]
"""What a wire format may have no words for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `arguments` is JSON text without white space; empty: the model wrote none."""

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens, as `v1.Usage` counts them: the input contains what the cache did, the output contains the reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a model, its pieces in this order: reasoning, text, refusal, calls."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    cut: bool = False
    """It ended at the limit of tokens."""
    used: Used | None = Used(input=7, output=3)

    @property
    def finish(self) -> v1.FinishReason.ValueType:
        """Why it ended."""
        if self.cut:
            return v1.FINISH_REASON_LENGTH
        if self.calls:
            return v1.FINISH_REASON_TOOL_CALL
        return v1.FINISH_REASON_REFUSAL if self.refusal else v1.FINISH_REASON_STOP


@dataclass(frozen=True, slots=True)
class Turn:
    """What an encoded assistant turn says. Calls have arguments in canonical form."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()


def canonical(arguments: str | Any) -> str:
    """JSON, text or parsed, as the one text that all equal JSON has; empty is the empty object."""
    value = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def turn_of(said: Said) -> Turn:
    """`said` without what is not sent back."""
    calls = tuple(Call(call.id, call.name, canonical(call.arguments)) for call in said.calls)
    return Turn(said.text, said.reasoning, said.refusal, calls)


def heard(response: v1.ChatResponse) -> Turn:
    """What a response says."""
    found: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
    calls = []
    for part in response.message.parts:
        match part.WhichOneof("kind"):
            case "text":
                found["text"].append(part.text)
            case "reasoning":
                found["reasoning"].append(part.reasoning.text)
            case "refusal":
                found["refusal"].append(part.refusal.text)
            case "tool_call":
                call = part.tool_call
                calls.append(Call(call.id, call.name, canonical(call.arguments_json)))
            case kind:
                raise AssertionError(f"an answer of a {kind} was not said")
    return Turn(calls=tuple(calls), **{kind: "".join(texts) for kind, texts in found.items()})


def used(usage: v1.Usage) -> Used | None:
    """The counts of a response; None: nothing was counted."""
    if not usage.HasField("input_tokens") and not usage.HasField("output_tokens"):
        return None
    return Used(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cache_read=usage.cache_read_input_tokens,
        cache_write=usage.cache_write_input_tokens,
        reasoning=usage.reasoning_output_tokens,
    )


def pieces(text: str, size: int = 3) -> Iterator[str]:
    """`text` as a stream cuts it."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


# ---------------------------------------------------------------------------------------------------------- strategies

_CHARACTERS = st.characters(codec="utf-8")
texts = st.text(_CHARACTERS, max_size=24).map(lambda text: text if not text or text.strip() else f"{text}.")
"""Any text, astral characters and controls included; white space alone says nothing to most APIs, so never that."""
_in_lines = texts.map(lambda text: text.replace("\r", "\n"))
_words = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789_"), min_size=1, max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(_CHARACTERS, max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_words, inner, max_size=2),
    max_leaves=6,
)
arguments = st.just("") | st.dictionaries(st.text(_CHARACTERS, max_size=6), _values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
_counts = st.integers(0, 10**6)


@st.composite
def sayings(draw: st.DrawFn, lacks: frozenset[Lack]) -> Said:
    """Answers that a wire format can say which lacks what is in `lacks`."""
    calls: tuple[Call, ...] = ()
    refusal = ""
    if "tool_calls" not in lacks:
        most = 1 if "parallel_calls" in lacks else 3
        ids = draw(st.lists(_words, max_size=most, unique=True))
        calls = tuple(Call(f"call_{id}", f"f_{draw(_words)}", draw(arguments)) for id in ids)
    if not calls and "refusal" not in lacks:
        refusal = draw(st.just("") | texts)
    text = "" if calls and "text_with_calls" in lacks else draw(_in_lines if "carriage_returns" in lacks else texts)
    return Said(
        text=text,
        reasoning="" if "reasoning" in lacks else draw(st.just("") | texts),
        refusal=refusal,
        calls=calls,
        cut=not refusal and not calls and "length" not in lacks and draw(st.booleans()),
        used=draw(usages(lacks) if "usage_unset" in lacks else st.none() | usages(lacks)),
    )


@st.composite
def usages(draw: st.DrawFn, lacks: frozenset[Lack]) -> Used:
    """Counts that a wire format can tell which lacks what is in `lacks`."""
    read = 0 if "cache_read" in lacks else draw(_counts)
    written = 0 if "cache_write" in lacks else draw(_counts)
    thought = 0 if "reasoning_tokens" in lacks else draw(_counts)
    return Used(read + written + draw(_counts), thought + draw(_counts), read, written, thought)
