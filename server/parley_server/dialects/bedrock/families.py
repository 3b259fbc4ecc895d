"""What the families of models behind Converse take: one API, but not one set of wishes.

Bedrock tells none of this in its listing, and answers a wish that a model does not take with 400; so here is a table,
by the vendor's part of the model's name. What is not in it (an application profile's ARN names no model) is `_UNKNOWN`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Literal

Thinking = Literal["", "claude", "nova", "effort", "qwen"]
"""How a family is asked to think, in `additionalModelRequestFields`; empty: it cannot be."""

Kind = Literal["text", "image", "document", "video", "audio"]
ALL: frozenset[Kind] = frozenset(("text", "image", "document", "video", "audio"))


@dataclass(frozen=True, slots=True)
class Family:
    """The traits of one family."""

    thinking: Thinking = ""
    top_k: tuple[str, ...] = ()
    """Where `top_k` goes in `additionalModelRequestFields`; empty: nowhere."""
    forced_tools: bool = False
    """Takes `toolChoice` any and tool."""
    system: bool = True
    """Takes instructions; otherwise they go as text of the user."""
    starts_with_assistant: bool = False
    """A conversation may begin with a turn of the model."""
    beside_results: frozenset[Kind] = ALL
    """What may share a turn with results of tools; the rest follows in a turn of its own."""
    result_media: frozenset[Kind] = ALL
    """What a result may hold besides text."""
    result_documents: tuple[str, ...] = ()
    """Formats that documents in a result may have; empty: any."""
    results_as_json: bool = False
    """Results go as JSON objects: it refuses text."""
    result_status: bool = True
    """Takes the status of a result."""
    cache_points: Literal["", "prompt", "all"] = "all"
    """Where cache points may stand: nowhere, in messages and instructions, behind tools too."""
    cache_lifetimes: bool = True
    """Cache points can be told how long to live."""
    unsigned_reasoning: bool = False
    """Takes back reasoning that nobody signed."""


_UNKNOWN = Family(forced_tools=True)
_NOTHING: frozenset[Kind] = frozenset()
_IMAGES: frozenset[Kind] = frozenset(("image",))

_CLAUDE = Family(
    thinking="claude",
    top_k=("top_k",),
    forced_tools=True,
    starts_with_assistant=True,
    beside_results=frozenset(("text", "image")),
    result_media=frozenset(("image", "document")),
)
_NOVA = Family(
    top_k=("inferenceConfig", "topK"),
    forced_tools=True,
    result_documents=("csv", "txt"),
    cache_points="prompt",
    cache_lifetimes=False,
)
_PLAIN = Family(result_media=_IMAGES, cache_points="")

# First match wins. From Bedrock's pages on Converse and on the models, November 2026, and what its errors say.
_TABLE: tuple[tuple[str, Family], ...] = (
    (r"anthropic\.claude-(v2|instant)", Family(starts_with_assistant=True, cache_points="")),
    (r"anthropic\.", _CLAUDE),
    (r"amazon\.nova-2", replace(_NOVA, thinking="nova")),
    (r"amazon\.nova", _NOVA),
    (r"amazon\.titan", Family(system=False, cache_points="")),
    (r"openai\.gpt-oss", Family(thinking="effort", result_media=_NOTHING, cache_points="")),
    (r"qwen\.", Family(thinking="qwen", starts_with_assistant=True, result_media=_NOTHING, cache_points="")),
    (r"deepseek\.r1", Family(unsigned_reasoning=True, result_media=_NOTHING, cache_points="")),
    (r"meta\.llama", Family(beside_results=_NOTHING, result_media=_IMAGES, cache_points="")),
    (
        r"mistral\.(mistral-7b|mixtral-8x7b)",
        Family(system=False, beside_results=_NOTHING, results_as_json=True, cache_points=""),
    ),
    (
        r"mistral\.pixtral",
        Family(
            forced_tools=True,
            beside_results=_NOTHING,
            result_media=frozenset(("document",)),
            results_as_json=True,
            cache_points="",
        ),
    ),
    (r"mistral\.", Family(forced_tools=True, beside_results=_NOTHING, results_as_json=True, cache_points="")),
    (r"cohere\.", Family(top_k=("k",), result_media=_IMAGES, cache_points="")),
    (r"writer\.", Family(result_status=False, result_media=_IMAGES, cache_points="")),
    (r"(ai21|deepseek|zai|moonshot|minimax|google|nvidia)\.", _PLAIN),
)
_COMPILED = tuple((re.compile(rf"(^|[./]){pattern}"), family) for pattern, family in _TABLE)


@functools.lru_cache(maxsize=1024)
def family(model: str) -> Family:
    """The family of `model`: a base ID, an inference profile's ID or ARN ("us.anthropic.claude-…", "arn:…/us.…")."""
    return next((row for pattern, row in _COMPILED if pattern.search(model)), _UNKNOWN)


def is_claude(model: str) -> bool:
    """Whether `model` is one of Anthropic's that speak the Messages API too."""
    return family(model) is _CLAUDE
