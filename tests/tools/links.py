"""Check that every relative link in the repository's Markdown files leads to a file, and every `#anchor` to a heading.

python -m tests.tools.links
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)


def documents() -> list[Path]:
    """Markdown files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).exists()]


def broken(path: Path) -> Iterator[str]:
    """Links of one document that lead nowhere. Links with a scheme are somebody else's to keep alive."""
    text = FENCE.sub("", path.read_text())
    for target in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name) if name else path
        if not place.exists():
            yield f"{target}: no such file"
        elif anchor and place.suffix == ".md" and anchor not in anchors(place):
            yield f"{target}: no such heading"


def anchors(path: Path) -> set[str]:
    """Names of a document's headings as they appear in links."""
    headings = HEADING.findall(FENCE.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def main() -> int:
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in documents() for fault in broken(path)]
    print("\n".join(faults), end="\n" if faults else "")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
