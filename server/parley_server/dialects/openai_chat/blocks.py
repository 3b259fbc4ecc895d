"""Reasoning as a block of a message's content, which is how Mistral and Claude behind Databricks show it.

    {"type": "thinking",  "thinking": [{"type": "text", "text": …}], "closed": …}
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": …, "signature": …}]}

Such a block goes back as it came. What is kept for that is the block without its text, which is in the reasoning part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Block = dict[str, Any]

DETAILS = ("reasoning_details", "thinking_blocks")
"""Fields of messages with blocks that must go back unchanged: of OpenRouter, and of a LiteLLM proxy."""

_LISTS = {"thinking": ("thinking", "text"), "reasoning": ("summary", "summary_text")}
"""By type of the block: the field with its pieces, and the type of those that are text."""


def split_block(block: Mapping[str, Any]) -> tuple[str, Block] | None:
    """The text of a reasoning block, and what is left of the block without it; None for any other block."""
    shape = _shape(block.get("type"))
    if shape is None:
        return None
    field, kind = shape
    match block.get(field):
        case [*pieces]:
            texts = [piece for piece in pieces if isinstance(piece, dict) and isinstance(piece.get("text"), str)]
        case str(words):
            texts = [{"type": kind, "text": words}]
        case _:
            return None
    rest: Block = {}
    for piece in texts:
        rest |= {name: value for name, value in piece.items() if value is not None}
    words = "".join(piece["text"] for piece in texts)
    return words, {**block, field: [rest | {"type": kind, "text": ""}]}


def join_blocks(kept: Block, piece: Block) -> None:
    """What a further piece of a streamed block adds to `kept`, both without text."""
    field, _ = _LISTS[kept["type"]]
    inner = kept[field][0] | {name: value for name, value in piece[field][0].items() if value is not None}
    kept.update({name: value for name, value in piece.items() if value is not None})
    kept[field] = [inner]


def fill_block(block: Mapping[str, Any], text: str) -> Block:
    """A block that was kept, with its text again. One that is no reasoning block comes back as it is."""
    shape = _shape(block.get("type"))
    match block.get(shape[0]) if shape is not None else None:
        case [dict() as piece] if shape is not None:
            return {**block, shape[0]: [piece | {"text": text}]}
        case _:
            return dict(block)


def bare_block(kind: Any, text: str) -> Block:
    """A reasoning block that holds text and nothing else; of Mistral's type unless `kind` is another that is known."""
    shape = _shape(kind)
    kind, (field, inner) = (kind, shape) if shape is not None else ("thinking", _LISTS["thinking"])
    return {"type": kind, field: [{"type": inner, "text": text}]}


def _shape(kind: Any) -> tuple[str, str] | None:
    return _LISTS.get(kind) if isinstance(kind, str) else None
