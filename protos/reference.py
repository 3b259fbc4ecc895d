"""Write the reference page of the API from the protos and their comments, or tell if it is stale.

    python protos/reference.py            writes docs/reference/api.md anew
    python protos/reference.py --check    writes nothing; exits with 1 if it is stale

Runs in the generator's own environment (`make gen`, `make check`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from generate import INCLUDES, ROOT
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

PAGE = ROOT.parent / "docs/reference/api.md"
PACKAGES = {"parley.v1": "what services call", "parley.admin.v1": "what operators call, on the admin port"}
_ABOUT = """\
# API reference

<!-- Written by `make gen`; do not edit. -->

Every service, message and enum, in the words of [the protos](../../protos). Fields marked *optional* tell unset from
zero; all others are as unset with their zero value. In JSON (grpcurl, buf curl) names may be written as here or in
camelCase."""
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6  # numbers of fields in FileDescriptorProto
_FIELD, _NESTED, _NESTED_ENUM = 2, 3, 4  # the same in DescriptorProto
_VALUE = _METHOD = 2  # in EnumDescriptorProto, in ServiceDescriptorProto
_SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


def page() -> str:
    """The page."""
    files = [*_files()]
    lines = [_ABOUT]
    for package, about in PACKAGES.items():
        inside = [file for file in files if file.package == package]
        if not inside:
            continue
        lines += ["", f"## {package}", "", f"{about[0].upper()}{about[1:]}."]
        for file in sorted(inside, key=lambda file: (not file.service, file.name)):
            lines += _file(file)
    return "\n".join(lines) + "\n"


def _files() -> Sequence[FileDescriptorProto]:
    """The protos, with their comments."""
    protos = sorted(path for package in PACKAGES for path in (ROOT / package.replace(".", "/")).glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        arguments = [*(f"-I{path}" for path in INCLUDES), f"--descriptor_set_out={out}", "--include_source_info"]
        if code := protoc.main(["protoc", *arguments, *map(str, protos)]):
            sys.exit(f"protoc failed with exit code {code}; its message stands above.")
        return FileDescriptorSet.FromString(out.read_bytes()).file


class _Comments:
    """What stands above each part of a file, by its path in the descriptor."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._said = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}

    def __call__(self, *path: int) -> str:
        return " ".join(self._said.get(path, "").split()).replace("|", "\\|")


def _file(file: FileDescriptorProto) -> Iterator[str]:
    said = _Comments(file)
    for number, service in enumerate(file.service):
        yield from ("", f"### {service.name}", "", said(_SERVICE, number), "")
        yield from ("| method | request | response | |", "|---|---|---|---|")
        for at, method in enumerate(service.method):
            stream = "stream of " if method.server_streaming else ""
            yield (
                f"| `{method.name}` | {_link(method.input_type)} | {stream}{_link(method.output_type)} "
                f"| {said(_SERVICE, number, _METHOD, at)} |"
            )
    for number, message in enumerate(file.message_type):
        yield from _message(message, "", said, (_MESSAGE, number))
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, "", said, (_ENUM, number))


def _message(message: DescriptorProto, outer: str, said: _Comments, path: tuple[int, ...]) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = f"{outer}{message.name}"
    yield from ("", f"### {name}", "", said(*path))
    if message.field:
        yield from ("", "| field | type | | |", "|---|---|---|---|")
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for at, field in enumerate(message.field):
        yield (
            f"| `{field.name}` = {field.number} | {_type(field, entries)} | {_presence(field, message)} "
            f"| {said(*path, _FIELD, at)} |"
        )
    for at, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{name}.", said, (*path, _NESTED, at))
    for at, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.", said, (*path, _NESTED_ENUM, at))


def _enum(enum: EnumDescriptorProto, outer: str, said: _Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from ("", f"### {outer}{enum.name}", "", said(*path), "", "| value | |", "|---|---|")
    for at, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {said(*path, _VALUE, at)} |"


def _type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {_scalar(key)} to {_scalar(value)}"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"{'list of ' if repeated else ''}{_scalar(field)}"


def _scalar(field: FieldDescriptorProto) -> str:
    return _link(field.type_name) if field.type_name else _SCALARS[field.type]


def _presence(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.proto3_optional:
        return "optional"
    return f"one of `{message.oneof_decl[field.oneof_index].name}`" if field.HasField("oneof_index") else ""


def _link(name: str) -> str:
    """A type, with a link where this page has it."""
    short = name.removeprefix(".")
    for package in sorted(PACKAGES, key=len, reverse=True):
        if short.startswith(f"{package}."):
            short = short.removeprefix(f"{package}.")
            return f"[{short}](#{short.replace('.', '').lower()})"
    return f"`{short}`"


def main(*, check: bool) -> int:
    """Write the page, or say that it is stale."""
    wanted = page()
    if PAGE.exists() and PAGE.read_text("utf-8") == wanted:
        return 0
    if check:
        print(f"{PAGE}: not what the protos say; run `make gen` and commit the result")
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    sys.exit(main(check=parser.parse_args().check))
