"""Finding what a continuation repeats of the text that it continues.

A model that is asked to go on often begins with the last words it was shown, or with all of them. The repetition is
found while the continuation arrives, holding back no more of it than may still turn out to be one.
"""

from __future__ import annotations

_LEAST = 12
_REACH = 4096


class Overlap:
    """`feed` the continuation of `text`: what comes out is what is new in it. `finish` gives what is still held back.

    The longest end of `text` that the continuation begins with is taken out. Ends shorter than 12 characters are left:
    "hel" and "lo" are "hello", and no repetition. A text shorter than that is one if it comes again as a whole, and has
    4 characters at least. Repetitions are looked for in the last 4096 characters, and of the text as a whole.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._least = min(_LEAST, max(len(text), 4))
        self._held = ""
        self._starts: list[int] | None = None  # where in `text` the continuation may be a repetition from, ascending
        self._repeated = 0
        self.done = False

    def feed(self, more: str) -> str:
        """The next piece of the continuation; gives what is new and known to be so."""
        if self.done:
            return more
        if not more:
            return ""
        text, at = self._text, len(self._held)
        self._held += more
        open_: list[int] = []
        for start in self._candidates() if self._starts is None else self._starts:
            left = text[start + at : start + at + len(more)]
            if not more.startswith(left):
                continue
            if start + at + len(more) < len(text):
                open_.append(start)
            else:  # the whole end of the text from `start` on has come again
                self._repeated = max(self._repeated, len(text) - start)
        self._starts = open_
        if open_ and len(text) - open_[0] > self._repeated:
            return ""  # a longer repetition is still possible
        return self.finish()

    def finish(self) -> str:
        """The continuation is over, or what follows is of another kind: what is new of that which is held back."""
        self.done = True
        held, self._held = self._held, ""
        return held[self._repeated :] if self._repeated >= self._least else held

    def _candidates(self) -> list[int]:
        first, text = self._held[0], self._text
        starts = [0] if text.startswith(first) and len(text) > _REACH else []
        start = text.find(first, max(0, len(text) - _REACH))
        last = len(text) - self._least
        while 0 <= start <= last:
            starts.append(start)
            start = text.find(first, start + 1)
        return starts
