"""A file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class GrowingFile:
    """A file that is being written: calling it adds text, at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()  # so that others can watch it grow

    def become(self, text: str) -> None:
        """Have this text instead of all that was written."""
        self._file.seek(0)
        self._file.truncate()
        self(text)


@contextmanager
def growing_file(path: Path) -> Iterator[GrowingFile]:
    """Write text to `<path>.part` piece by piece, each at once; it becomes `path` if the block ends without exception.

    Otherwise `<path>.part` stays, with everything that was written.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        yield GrowingFile(file)
    part.replace(path)
