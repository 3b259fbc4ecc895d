"""A credential that does not show itself."""

from __future__ import annotations


class Secret:
    """Text that `repr`, `str`, logs and tracebacks do not show; `reveal()` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()  # files end with a newline, which no header may carry

    def reveal(self) -> str:
        """The credential itself, for the header that carries it and nothing else."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(…)" if self._text else "Secret(empty)"
