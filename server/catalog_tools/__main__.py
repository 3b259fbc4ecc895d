"""`python -m catalog_tools`: refresh `parley_server/catalog/models.json`. Run by `make catalog`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from catalog_tools import changes, genai, litellm_map
from catalog_tools.merge import merged

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "parley_server" / "catalog" / "models.json"


def main() -> int:
    """Merge, show what changes, and write it unless it is refused."""
    parser = argparse.ArgumentParser(prog="make catalog ARGS=", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and write nothing")
    parser.add_argument("--full", action="store_true", help="show every line of every list")
    parser.add_argument("--accept", action="store_true", help="write absurd changes too")
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date(), help="the day it is")
    options = parser.parse_args()

    corrections = yaml.safe_load((HERE / "corrections.yaml").read_text("utf-8"))
    result = merged(litellm_map.entries(), genai.offers(options.date), corrections, options.date)
    old = changes.rows(json.loads(TARGET.read_text("utf-8"))) if TARGET.exists() else {}
    found = changes.compared(old, result.rows)
    print(f"{len(result.conflicts)} differences between the sources")
    for conflict in sorted(result.conflicts)[: None if options.full else 40]:
        print(f"  {conflict}")
    print(found.summary(options.full))
    print(f"{len(result.rows)} models of {len({provider for provider, _ in result.rows})} providers")
    if found.absurd and not options.accept:
        print("Refused: look at what is absurd. If it is right: make catalog ARGS=--accept", file=sys.stderr)
        return 1
    rows = changes.dated(old, result.rows, options.date.isoformat())
    if rows == list(old.values()):
        print("Nothing to write.")
    elif not options.dry_run:
        TARGET.write_text(_text(options.date, rows), "utf-8")
    return 0


def _text(day: date, rows: list[dict[str, Any]]) -> str:
    """JSON with one model a line, so that a diff shows models."""
    sources = {
        "genai-prices": f"{metadata.version('genai-prices')}: prices, context windows",
        "litellm": f"{metadata.version('litellm')}, the map: limits, capabilities, shutdown days; prices compared",
        "corrections": "server/catalog_tools/corrections.yaml: reviewed by us",
    }
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = f'{{"version": {json.dumps(day.isoformat())},\n "sources": {json.dumps(sources)},\n "models": ['
    return f"{head}\n{lines}\n]}}\n"


if __name__ == "__main__":
    sys.exit(main())
