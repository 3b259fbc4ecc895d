"""A file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def growing_file(path: Path) -> Iterator[Callable[[str], object]]:
    """Write text to `<path>.part` piece by piece, each at once; it becomes `path` if the block ends without exception.

    Otherwise `<path>.part` stays, with everything that was written.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:

        def write(text: str) -> None:
            file.write(text)
            file.flush()  # so that others can watch it grow

        yield write
    part.replace(path)
