"""Write the table of providers into README.md, from the kinds that are built in.

python -m tests.tools.providers            writes it anew
python -m tests.tools.providers --check    writes nothing; exits with 1 if what is there is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.providers.kinds import BUILT_IN
from parley_server.transports.http import HttpTransport

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN = "<!-- providers: written by `make gen` from the kinds in server/parley_server/providers -->"
END = "<!-- /providers -->"
_URL = "http://127.0.0.1:9"
_MADE_UP = {"region": "us-east-1"}
"""Values by the name of a field, where not any text will do."""


def table(kinds: tuple[Kind, ...] = BUILT_IN) -> str:
    """The table, a row for each kind in the order of their names."""
    rows = sorted(_row(kind) for kind in kinds)
    return "\n".join(("| kind | operations | usual variables | notes |", "|---|---|---|---|", *rows))


def _row(kind: Kind) -> str:
    about = (kind.settings.__doc__ or "").strip().split("\n\n")[0]
    notes = " ".join(about.split()).removesuffix(".").replace("|", "\\|")
    return f"| `{kind.name}` | {', '.join(example(kind).operations())} | {_variables(kind)} | {notes} |"


def _variables(kind: Kind) -> str:
    """The variables of the fields that are needed, then of the others; alternatives are parted by slashes."""
    variables = kind.settings.variables
    order = [
        *(name for name in kind.needs if name in variables),
        *(name for name in variables if name not in kind.needs),
    ]
    return ", ".join(" / ".join(f"`{variable}`" for variable in variables[name]) for name in order)


def example(kind: Kind) -> Provider:
    """A provider of that kind, with settings made up where something must be said."""
    said, environ = made_up(kind, _URL)
    settings = kind.settings.model_validate(said, context={"environ": environ})
    return kind.card(kind.name, settings, Shared(HttpTransport()))


def made_up(kind: Kind, url: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings of a provider of that kind, everything it asks at `url`, and the variables that fill the rest."""
    variables = kind.settings.variables
    said: dict[str, Any] = {"kind": kind.name}
    for name, field in kind.settings.model_fields.items():
        if name in _MADE_UP:
            said[name] = _MADE_UP[name]
        elif name.endswith(("url", "endpoint")):
            said[name] = url
        elif field.is_required() and name not in said and name not in variables:
            said[name] = "made-up"
    return said, dict.fromkeys((variable for names in variables.values() for variable in names), "made-up")


def rewritten(text: str) -> str:
    """`text` with the table as it must be. Raises ValueError without the two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{behind}"


def problems() -> Iterator[str]:
    """What a check has to say."""
    if rewritten(README.read_text()) != README.read_text():
        yield f"{README.name}: the table of providers is stale; run `make gen` and commit the result"


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the table is stale")
    if parser.parse_args().check:
        found = list(problems())
        print("\n".join(found), end="\n" if found else "")
        return int(bool(found))
    README.write_text(rewritten(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
