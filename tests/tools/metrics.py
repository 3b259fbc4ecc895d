"""Write the tables of metrics and of attributes into docs/metrics.md and docs/tracing.md, from those in the code.

python -m tests.tools.metrics            writes them anew
python -m tests.tools.metrics --check    writes nothing; exits with 1 if what is there is stale
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from parley_server import semconv
from parley_server.core.instruments import Instrument
from parley_server.metrics import OBSERVED, RECORDED, Observed

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "metrics.md"
PAGES = {PAGE: ("metrics", "attributes"), DOCS / "tracing.md": ("span attributes",)}
"""The words in the marks of each."""
BEGIN = "<!-- {}: written by `make gen` from the code -->"
END = "<!-- /{} -->"
KINDS = {"up_down_counter": "up-down counter", "counter": "counter", "gauge": "gauge", "histogram": "histogram"}
_UNITS = {"s": "seconds", "By": "bytes"}
ROWS: tuple[Instrument | Observed, ...] = (*RECORDED, *OBSERVED)


def prometheus(row: Instrument | Observed) -> str:
    """What Prometheus calls a metric; of a histogram there are `_bucket`, `_sum` and `_count`."""
    name = row.name.replace(".", "_")
    unit = _UNITS.get(row.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if row.kind == "counter" else name


def label(attribute: str) -> str:
    """What Prometheus calls an attribute."""
    return attribute.replace(".", "_")


def tables() -> dict[str, str]:
    """By the word in their marks."""
    return {"metrics": _metrics(), "attributes": _attributes(), "span attributes": _of_spans()}


def _metrics() -> str:
    lines = ["| name | in Prometheus | instrument | unit | attributes | what |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        attributes = ", ".join(f"`{name}`" for name in row.attributes)
        cells = (
            f"`{row.name}`",
            f"`{prometheus(row)}`",
            KINDS[row.kind],
            f"`{row.unit}`",
            attributes,
            row.description.removesuffix("."),
        )
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines)


def _attributes() -> str:
    described = dict(_described())
    names = sorted({name for row in ROWS for name in row.attributes})
    lines = ["| attribute | what |", "|---|---|"]
    lines += [
        f"| `{name}` | {described.get(name, '').removeprefix('Of metrics: ').removesuffix('.')} |" for name in names
    ]
    return "\n".join(lines).replace("|  |", "| |")


def _of_spans() -> str:
    """Those of our own."""
    lines = ["| attribute | what |", "|---|---|"]
    for name, text in _described():
        if name.startswith("parley.") and not text.startswith("Of metrics: "):
            lines.append(f"| `{name}{'…' if name.endswith('.') else ''}` | {text.removesuffix('.')} |")
    return "\n".join(lines)


def _described() -> Iterator[tuple[str, str]]:
    """What the text below a name in semconv.py says of it."""
    body = ast.parse(Path(semconv.__file__).read_text("utf-8")).body
    for node, following in pairwise(body):
        match node, following:
            case ast.AnnAssign(value=ast.Constant(value=str(name))), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def rewritten(text: str, words: tuple[str, ...] = PAGES[PAGE]) -> str:
    """`text` with these tables as they must be. Raises ValueError without their marks."""
    made = tables()
    for word in words:
        table = made[word]
        begin, end = BEGIN.format(word), END.format(word)
        before, found, rest = text.partition(begin)
        _, closed, behind = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"there is no place for the table: {begin} … {end}")
        text = f"{before}{begin}\n{table}\n{end}{behind}"
    return text


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    check, stale = parser.parse_args().check, False
    for page, words in PAGES.items():
        text = page.read_text("utf-8")
        if not check:
            page.write_text(rewritten(text, words), "utf-8")
        elif rewritten(text, words) != text:
            print(f"docs/{page.name}: a table is stale; run `make gen` and commit the result")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
