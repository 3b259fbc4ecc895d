"""Reasoning that stands between <think> and </think> at the beginning of a text."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"
IN_TAGS = "<think>"
"""Stands where otherwise the name of the field is kept that reasoning came in."""


class Splitter:
    """Cuts a text that arrives in pieces into reasoning and answer; any pieces of the same text give the same cut.

    White space around the tags belongs to neither side, except behind the last word of the reasoning. A text that does
    not begin with <think> is answer from its first character on.
    """

    def __init__(self) -> None:
        self._held = ""  # what may turn out to be a tag, or space around one
        self._within = False
        self._trims = True  # space at the beginning of what is being read is left out
        self.open = True
        """Whether it still looks for a tag; once not, all that comes is answer."""

    def feed(self, text: str) -> tuple[str, str]:
        """The reasoning and the answer that are certain now."""
        if not self.open:
            return "", self._trimmed(text)
        self._held += text
        thought = ""
        if not self._within:
            begun = self._held.lstrip()
            if not begun.startswith(OPEN):
                if OPEN.startswith(begun):
                    return "", ""
                return "", self.finish()[1]
            self._within, self._held = True, begun[len(OPEN) :]
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        end = self._held.find(CLOSE)
        if end < 0:
            certain = len(self._held) - _overlap(self._held)
            thought, self._held = self._held[:certain], self._held[certain:]
            return thought, ""
        thought, answer = self._held[:end], self._held[end + len(CLOSE) :]
        self.open, self._held, self._trims = False, "", True
        return thought, self._trimmed(answer)

    def finish(self) -> tuple[str, str]:
        """What was held back, now that nothing more comes."""
        held, self._held, self.open = self._held, "", False
        if self._within:
            return held, ""
        self._trims = False
        return "", held

    def _trimmed(self, text: str) -> str:
        if self._trims:
            text = text.lstrip()
            self._trims = not text
        return text

    @property
    def settled(self) -> bool:
        """Whether texts from now on pass through unchanged."""
        return not self.open and not self._trims


def split(text: str) -> tuple[str, str]:
    """The reasoning and the answer of a whole text."""
    splitter = Splitter()
    first, last = splitter.feed(text), splitter.finish() if splitter.open else ("", "")
    return first[0] + last[0], first[1] + last[1]


def _overlap(text: str) -> int:
    """Characters at the end of `text` that may be the beginning of the closing tag."""
    return next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
