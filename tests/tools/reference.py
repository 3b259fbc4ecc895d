"""Write the reference pages that are told by the code: settings, kinds of providers, reasons of errors.

    python -m tests.tools.reference            writes docs/reference/ anew
    python -m tests.tools.reference --check    writes nothing; lists what is stale and exits with 1

The API's page is written by `protos/reference.py`, which knows the comments of the protos.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from parley_server.config import Config
from parley_server.core import errors
from parley_server.core.errors import GatewayError
from parley_server.core.secret import Secret
from parley_server.providers.kind import Kind
from parley_server.providers.kinds import BUILT_IN
from parley_server.settings import KeyedSettings, KindSettings, ProviderSettings
from tests.tools.providers import example

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
_NOTE = "<!-- Written by `make gen`; do not edit. -->"
_HEAD = ("| setting | type | default | |", "|---|---|---|---|")
_ABOUT_SETTINGS = """\
All there is to set, by its path in the YAML file. Any of it can be a variable instead: `PARLEY_` and the path in
capitals, levels joined by two underscores. `parley-server check --config FILE` says what is wrong with a file.
Which changes need a restart: [reloading](../reloading.md). Secrets are references, `env:NAME` or `file:/path`.
Settings of each kind of provider: [providers](providers.md)."""
_ABOUT_KINDS = """\
The kinds that are built in, and what can be set below `providers.NAME`; a name that is a kind needs no `kind`.
Variables are those that fill a setting which the file leaves out. How to add a kind:
[adding a provider](../adding-a-provider.md)."""
_ABOUT_REASONS = """\
Every failure has a canonical gRPC code and, in `google.rpc.ErrorInfo` with the domain `parley`, a reason. The
pair never changes. *Again*: whether the same call may do better in a moment; `google.rpc.RetryInfo` tells when,
where that is known. *Elsewhere*: whether the gateway asks the next target of a route, or a fallback. The SDKs
have a class for each reason:
[Python](../../clients/python/src/parley/errors.py), [Go](../../clients/go/reasons.go),
[TypeScript](../../clients/typescript/src/reasons.ts)."""
_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
_COMMON = {
    "Every kind takes these:": (KindSettings, frozenset[str]()),
    "Those that are asked over the network:": (ProviderSettings, frozenset(KindSettings.model_fields)),
    "Those that are shown keys:": (KeyedSettings, frozenset(ProviderSettings.model_fields)),
}


def configuration() -> str:
    """The page of all settings."""
    lines = [
        "# Configuration reference",
        "",
        _NOTE,
        "",
        _ABOUT_SETTINGS,
        "",
        *_HEAD,
        *_rows("", Config),
    ]
    for path, section in _sections("", Config):
        lines += ["", f"## {path}", "", _said(section), "", *_HEAD]
        lines += _rows(path, section)
    return "\n".join(lines) + "\n"


def providers() -> str:
    """The page of the kinds of providers."""
    lines = [
        "# Providers reference",
        "",
        _NOTE,
        "",
        _ABOUT_KINDS,
        "",
    ]
    for heading, (settings, without) in _COMMON.items():
        lines += [heading, "", *_HEAD, *_rows("", settings, without=without), ""]
    for path, section in _sections("", KindSettings):
        lines += [f"`{path}`: {_said(section)}", "", *_HEAD, *_rows(path, section), ""]
    for kind in sorted(BUILT_IN, key=lambda kind: kind.name):
        lines += [f"## {kind.name}", "", _said(kind.settings), "", _who(kind), ""]
        common = {name for base, _ in _COMMON.values() if issubclass(kind.settings, base) for name in base.model_fields}
        if own := [*_rows("", kind.settings, variables=kind.settings.variables, without=frozenset(common))]:
            lines += [*_HEAD, *own, ""]
    del lines[-1]
    return "\n".join(lines) + "\n"


def reasons() -> str:
    """The page of the reasons that errors carry."""
    lines = [
        "# Errors reference",
        "",
        _NOTE,
        "",
        _ABOUT_REASONS,
        "",
        "| reason | code | again | elsewhere | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{kind.reason}` | {kind.code} | {_yes(kind.retryable)} | {_yes(kind.falls_back)} | {_said(kind)} |"
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, GatewayError) and kind is not GatewayError
    ]
    return "\n".join(lines) + "\n"


def _yes(truth: bool) -> str:
    return "yes" if truth else ""


def _said(documented: Any) -> str:
    return " ".join(inspect.cleandoc(documented.__doc__ or "").split()).replace("|", "\\|")


def _who(kind: Kind) -> str:
    """What it does, and which common settings it takes."""
    *first, last = example(kind).operations()
    does = f"{', '.join(first)} and {last}" if first else last
    takes = [
        what
        for what, base in (("network", ProviderSettings), ("keys", KeyedSettings))
        if issubclass(kind.settings, base)
    ]
    return f"Operations: {does}. Takes the settings of every kind{''.join(f', of {one}' for one in takes)}."


def _sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section below `model` that is not of providers, with its path; NAME stands for names of one's own."""
    for name, field in model.model_fields.items():
        inner, below = _section(field.annotation)
        if inner is None or issubclass(inner, KindSettings):
            continue
        here = f"{path}.{name}".removeprefix(".") + below
        yield here, inner
        yield from _sections(here, inner)


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that an annotation holds, and what stands in its path: nothing, a name, or the place in a list."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _section(arguments[0])
    if origin in (Union, types.UnionType):
        return next((found for one in arguments if (found := _section(one))[0]), (None, ""))
    if origin is dict:
        inner, below = _section(arguments[1])
        return inner, f".NAME{below}"
    if origin in (tuple, list):
        inner, below = _section(arguments[0])
        return inner, f"[]{below}"
    return None, ""


def _rows(
    path: str,
    model: type[BaseModel],
    *,
    variables: Mapping[str, tuple[str, ...]] | None = None,
    without: frozenset[str] = frozenset(),
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in without:
            continue
        about = field.description or ""
        inner, below = _section(field.annotation)
        if inner is not None and not about:
            about = _said(inner)
        if inner is not None and not path and model is Config:
            link = f"{name}{below}".replace(".", "").replace("[]", "").lower()
            about += " [Providers](providers.md)." if issubclass(inner, KindSettings) else f" [More](#{link})."
        names = (variables or {}).get(name, ())
        if names:
            about += f" Variable: {' or '.join(f'`{one}`' for one in names)}."
        shown = f"`{f'{path}.' if path else ''}{field.alias or name}`"
        kind = _kind(field.annotation, field.metadata)
        yield f"| {shown} | {kind} | {_default(field)} | {' '.join(about.split()).replace('|', chr(92) + '|')} |"


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """A type and its bounds, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one, metadata) for one in arguments if one is not type(None)))
    if origin is dict:
        return f"by name: {_kind(arguments[1], [])}"
    if origin in (tuple, list, frozenset):
        return f"list of {_kind(arguments[0], [])}"
    if annotation is Secret:
        return "secret"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    name = _PLAIN.get(annotation) or getattr(annotation, "__name__", str(annotation)).lower()
    bounds = _bounds(metadata) if annotation in (int, float) else ""
    return f"{name}{bounds}"


def _bounds(metadata: list[Any]) -> str:
    low = high = ""
    for one in metadata:
        for bound in getattr(one, "metadata", None) or [one]:  # a FieldInfo inside of Annotated has some of its own
            match bound:
                case annotated_types.Gt(gt):
                    low = f"above {gt:g}"
                case annotated_types.Ge(ge):
                    low = f"from {ge:g}"
                case annotated_types.Lt(lt):
                    high = f"below {lt:g}"
                case annotated_types.Le(le):
                    high = f"to {le:,}"
    words = " ".join(word for word in (low, high) if word)
    return f", {words}" if words else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    plain = isinstance(value, bool | int | float | str | Path | tuple | frozenset | list)
    if not plain or value in ("", (), []):
        return ""
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case frozenset():
            return ", ".join(f"`{one}`" for one in sorted(value))
        case tuple() | list():
            return ", ".join(f"`{one}`" for one in value)
        case _:
            return f"`{value}`"


PAGES = {"configuration.md": configuration, "providers.md": providers, "errors.md": reasons}


def main(*, check: bool) -> int:
    """Write the pages, or say which are stale."""
    stale = 0
    for name, page in PAGES.items():
        path, wanted = REFERENCE / name, page()
        if path.exists() and path.read_text("utf-8") == wanted:
            continue
        stale += 1
        if check:
            print(f"{path.relative_to(ROOT)}: not what the code says; run `make gen` and commit the result")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted, "utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    sys.exit(main(check=parser.parse_args().check))
