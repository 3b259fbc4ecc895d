"""What chunks of a stream are pieces of: tool calls, blocks that must go back unchanged, and bare words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Call:
    """A tool call that is arriving. `held` are arguments that came before the name."""

    key: tuple[str, int]
    id: str
    opened: bool = False
    filled: bool = False
    held: str = ""
    extra: Any = None
    block: dict[str, Any] = field(default_factory=dict)
    """Of a call that is no function: what has come so far."""


def only_words(chunk: dict[str, Any]) -> str | None:
    """The text of a chunk that is a fragment of text and nothing else, as nearly all are; None for any other."""
    choices = chunk.get("choices")
    if not choices or chunk.get("usage") or "error" in chunk or "x_groq" in chunk:
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not delta or len(delta) != 1 or choice.get("finish_reason") is not None:
        return None
    if choice.get("index") or choice.get("logprobs"):
        return None
    words = delta.get("content")
    return words if words.__class__ is str else None


def join_details(kept: list[Any], pieces: Any) -> None:
    """Add streamed pieces of blocks to those they belong to: by index and type, or without index to the last one.

    A block without index is over with its signature.
    """
    for piece in pieces if isinstance(pieces, list) else ():
        if not isinstance(piece, dict):
            continue
        index, kind = piece.get("index"), piece.get("type")
        block = None
        if index is not None:
            block = next((b for b in kept if (b.get("index"), b.get("type")) == (index, kind)), None)
        elif kind == "thinking" and kept and kept[-1].get("type") == kind and not kept[-1].get("signature"):
            block = kept[-1]
        if block is None:
            kept.append(dict(piece))
        else:
            grow(block, piece)


def grow(block: dict[str, Any], piece: dict[str, Any]) -> None:
    """Append the growing texts of `piece`, take over its other values."""
    for name, value in piece.items():
        match value:
            case dict():
                grow(block.setdefault(name, {}), value)
            case str() if name in _GROWING:
                block[name] = (block.get(name) or "") + value
            case None:
                block.setdefault(name, None)
            case _:
                block[name] = value


_GROWING = frozenset({"text", "thinking", "summary", "data", "signature", "input", "transcript"})
