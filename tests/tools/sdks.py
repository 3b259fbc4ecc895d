"""Write what the SDKs in other languages share with the Python SDK, or tell which of it is stale.

    python -m tests.tools.sdks            writes it anew
    python -m tests.tools.sdks --check    writes nothing; lists what differs and exits with 1

The errors, and what is said of them, are those of `parley/errors.py`, the service config is that of
`parley/channel.py`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from parley import errors, service_config
from parley.errors import BY_REASON, GatewayError

ROOT = Path(__file__).parents[2]
_NOTE = "Written from clients/python/src/parley/errors.py by `make gen`; do not edit."
_BY_CODE = {"INVALID_ARGUMENT": "InvalidRequest", "UNAVAILABLE": "Unavailable", "DEADLINE_EXCEEDED": "DeadlineExceeded"}
_BY_CODE |= {"CANCELLED": "Cancelled"}


def classes() -> Iterator[type[GatewayError]]:
    """Every class below GatewayError, parents first, in the order of the file."""
    found = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, GatewayError)]
    yield from (c for c in found if c is not GatewayError)


def _parent(kind: type[GatewayError]) -> type[GatewayError]:
    [parent] = kind.__bases__
    return parent


def _said(kind: type[GatewayError], first: str, rest: str) -> str:
    """The docstring as a comment: its paragraphs, wrapped."""
    text = inspect.cleandoc(kind.__doc__ or "").replace("`", "")
    lines = [line for paragraph in text.split("\n\n") for line in [*textwrap.wrap(paragraph, 110), ""]][:-1]
    return "\n".join((first if i == 0 else rest) + line for i, line in enumerate(lines))


def _camel(name: str) -> str:
    """A code of gRPC as its Go and TypeScript libraries write it."""
    return {"CANCELLED": "Canceled"}.get(name, "".join(word.title() for word in name.split("_")))


def go() -> str:
    """`clients/go/reasons.go`."""
    head = "// Code generated from clients/python/src/parley/errors.py by make gen. DO NOT EDIT."
    parts = [head, 'package parley\n\nimport "google.golang.org/grpc/codes"\n']
    for kind in classes():
        name, parent = kind.__name__, _parent(kind).__name__
        parts.append(
            f"{_said(kind, f'// {name}: ', '// ')}\n"
            f"type {name} struct{{ {parent} }}\n\n"
            f"// Unwrap gives the more general error, for errors.As.\n"
            f"func (e *{name}) Unwrap() error {{ return &e.{parent} }}\n"
        )
    rows = []
    for reason, kind in BY_REASON.items():
        chain = [kind]
        while _parent(chain[-1]) is not GatewayError:
            chain.append(_parent(chain[-1]))
        made = "base"
        for one in reversed(chain):
            made = f"{one.__name__}{{{made}}}"
        retryable = "base.Retryable = true\n\t\t" if kind.retryable else ""
        rows.append(f'\tcase "{reason}":\n\t\t{retryable}return codes.{_camel(kind.code.name)}, &{made}\n')
    parts.append(
        "// What a reason stands for: its code, and the error with everything in base; nil if it is not known.\n"
        "func byReason(reason string, base GatewayError) (codes.Code, error) {\n\tswitch reason {\n"
        f"{''.join(rows)}\t}}\n\treturn codes.Unknown, nil\n}}\n"
    )
    near = "".join(
        f'\tcase codes.{_camel(code)}:\n\t\treturn "{getattr(errors, name).reason}"\n'
        for code, name in _BY_CODE.items()
    )
    parts.append(
        "// The reason whose error is nearest to one that is not known; empty where none is.\n"
        f'func nearest(code codes.Code) string {{\n\tswitch code {{\n{near}\t}}\n\treturn ""\n}}\n'
    )
    return parts[0] + "\n\n" + "\n".join(parts[1:])


def typescript() -> str:
    """`clients/typescript/src/reasons.ts`."""
    parts = [f'// {_NOTE}\n\nimport {{ GatewayError }} from "./failure.js";']
    for kind in classes():
        said = _said(kind, "/** ", " * ")
        said += " */" if "\n" not in said else "\n */"
        if "\n" in said:
            said = said.replace("/** ", "/**\n * ", 1)
        parts.append(
            f"{said}\nexport class {kind.__name__} extends {_parent(kind).__name__} {{\n"
            f'  override readonly name: string = "{kind.__name__}";\n}}'
        )
    return "\n\n".join(parts) + "\n"


def kinds() -> str:
    """`clients/typescript/src/kinds.ts`."""
    parts = [
        f'// {_NOTE}\n\nimport {{ Code }} from "@connectrpc/connect";\n\n'
        'import { type Facts, GatewayError } from "./failure.js";\n'
        'import * as reasons from "./reasons.js";'
    ]
    rows = "".join(
        f"  {reason}: [Code.{_camel(kind.code.name)}, {str(kind.retryable).lower()}, reasons.{kind.__name__}],\n"
        for reason, kind in BY_REASON.items()
    )
    parts.append(
        "/** By reason: its code, whether the same call may do better in a moment, its class. */\n"
        "export const byReason: Record<string, readonly [Code, boolean, new (facts: Facts) => GatewayError]> = {\n"
        f"{rows}}};"
    )
    near = "".join(f"  [Code.{_camel(code)}]: reasons.{name},\n" for code, name in _BY_CODE.items())
    parts.append(
        "/** The class that is nearest to a reason that is not known, by code. */\n"
        f"export const nearest: Partial<Record<Code, new (facts: Facts) => GatewayError>> = {{\n{near}}};"
    )
    return "\n\n".join(parts) + "\n"


def policies() -> str:
    """`clients/typescript/src/policies.ts`: the retries of the service config, which connect-node does not read."""

    def milliseconds(seconds: str) -> int:
        return round(float(seconds.removesuffix("s")) * 1000)

    parts = [
        "// Written from clients/python/src/parley/channel.py by `make gen`; do not edit.\n\n"
        'import type { RetryPolicy } from "./retry.js";\n'
    ]
    config = service_config()["methodConfig"]
    for name, entry in zip(("forModels", "forLookups"), config, strict=True):
        policy = entry["retryPolicy"]
        parts.append(
            f"export const {name}: RetryPolicy = {{\n"
            f"  maxAttempts: {policy['maxAttempts']},\n"
            f"  initialBackoff: {milliseconds(policy['initialBackoff'])},\n"
            f"  maxBackoff: {milliseconds(policy['maxBackoff'])},\n"
            f"  backoffMultiplier: {policy['backoffMultiplier']},\n}};\n"
        )
    return "\n".join(parts)


def wanted() -> dict[Path, str]:
    """The files, and what they say."""
    return {
        ROOT / "clients/go/reasons.go": go(),
        ROOT / "clients/typescript/src/reasons.ts": typescript(),
        ROOT / "clients/typescript/src/kinds.ts": kinds(),
        ROOT / "clients/typescript/src/policies.ts": policies(),
        ROOT / "clients/go/service_config.json": json.dumps(service_config(), indent=2) + "\n",
    }


def main(*, check: bool) -> int:
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)}: not what the Python SDK gives; run `make gen` and commit the result")
        else:
            path.write_text(wanted()[path], "utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    sys.exit(main(check=parser.parse_args().check))
