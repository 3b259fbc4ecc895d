"""Generated files beside those that are there: what is stale is written anew, or told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def settle(folder: Path, wanted: dict[str, bytes], present: Iterable[Path], *, check: bool) -> int:
    """Make the files `present` in `folder` those that are `wanted`, by their paths in it.

    With `check` nothing is written, and it gives 1 if anything would have been. Files that are not wanted go.
    """
    there = {str(path.relative_to(folder)): path.read_bytes() for path in present if path.is_file()}
    stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    for name in stale:
        path = folder / name
        if check:
            print(f"{path}: not what protos/ gives; run `make gen` and commit the result")
        elif name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[name])
        else:
            path.unlink()
    if not check:
        print(f"{folder}: {len(wanted)} files, {len(stale)} changed")
    return int(check and bool(stale))
