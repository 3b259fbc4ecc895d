"""Write the synchronous client from the asynchronous one, or tell which of its files are stale.

    python clients/python/tools/generate_sync.py            writes parley/_sync anew
    python clients/python/tools/generate_sync.py --check    writes nothing; lists what differs and exits with 1

`await` goes, and names change as in the table below. What asyncio and threads do in different ways is in `wire.py`,
which each side has its own of.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src/parley"
BY_HAND = {"__init__.py", "wire.py"}
NOTE = """\
# Generated from parley/_async/{name} by tools/generate_sync.py; do not edit.
# ruff: noqa: I001, UP028
# fmt: off
"""

REPLACEMENTS = [
    (re.compile(pattern), text)
    for pattern, text in [
        (r"\basync (def|for|with)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\bAsync(Client|Events|Iterator|Stream)\b", r"\1"),
        (r"\bStopAsyncIteration\b", "StopIteration"),
        (r"\b_async\b", "_sync"),
        (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
        (r"\ba(iter|next)\(", r"\1("),
    ]
]


def sync(name: str, source: str) -> str:
    """The synchronous twin of a file."""
    for pattern, text in REPLACEMENTS:
        source = pattern.sub(text, source)
    return NOTE.format(name=name) + source


def main(*, check: bool) -> int:
    wanted = {
        path.name: sync(path.name, path.read_text(encoding="utf-8"))
        for path in (PACKAGE / "_async").glob("*.py")
        if path.name not in BY_HAND
    }
    present = {
        path.name: path.read_text(encoding="utf-8")
        for path in (PACKAGE / "_sync").glob("*.py")
        if path.name not in BY_HAND
    }
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    for name in stale:
        path = PACKAGE / "_sync" / name
        if check:
            print(f"{path}: not what parley/_async gives; run `make gen` and commit the result")
        elif name in wanted:
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    if not check:
        print(f"{PACKAGE / '_sync'}: {len(wanted)} files, {len(stale)} changed")
    return int(check and bool(stale))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    sys.exit(main(check=parser.parse_args().check))
