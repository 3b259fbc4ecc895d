"""Write the Python stubs of `protos/parley` into a source tree, or tell which of those there are stale.

    python protos/generate.py clients/python/src            writes parley/v1 and parley/admin/v1 anew
    python protos/generate.py clients/python/src --check    writes nothing; lists what differs and exits with 1

Runs in the generator's own environment (`make gen`, `make check`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from written import settle

ROOT = Path(__file__).resolve().parent
INCLUDES = [ROOT, ROOT / "third_party", Path(grpc_tools.__file__).parent / "_proto"]
BIN = Path(sys.executable).parent
PLUGINS = [f"--plugin={name}={BIN / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]


PACKAGES = {
    "parley/v1": "Every message, enum and enum value of `parley.v1`: `from parley import v1`, then `v1.ChatRequest`.",
    "parley/admin/v1": "Every message of `parley.admin.v1`: `from parley.admin import v1 as admin`.",
}


def generate(out: Path) -> dict[str, bytes]:
    """Every file of the generated packages, by its path in the tree. `out` is an empty folder to work in."""
    protos = sorted(path for package in PACKAGES for path in (ROOT / package).glob("*.proto"))
    _protoc([f"--python_out={out}", f"--mypy_out=quiet:{out}", f"--descriptor_set_out={out / 'set'}"], protos)
    files = FileDescriptorSet.FromString((out / "set").read_bytes()).file
    # Only files with a service get gRPC stubs, so that whoever imports messages does not import grpc.
    services = [ROOT / file.name for file in files if file.service]
    _protoc([f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"], services)
    made: dict[str, bytes] = {}
    for package, title in PACKAGES.items():
        made |= {f"{package}/{path.name}": path.read_bytes() for path in (out / package).iterdir()}
        own = [file for file in files if Path(file.name).parent == Path(package)]
        made[f"{package}/__init__.py"] = _init(title, own).encode()
    return made


def _protoc(outputs: list[str], protos: list[Path]) -> None:
    code = protoc.main(["protoc", *(f"-I{path}" for path in INCLUDES), *PLUGINS, *outputs, *map(str, protos)])
    if code:
        sys.exit(f"protoc failed with exit code {code}; its message stands above.")


def _init(title: str, files: Iterable[FileDescriptorProto]) -> str:
    """A package's `__init__.py`: all names in one place, spelt out so that type checkers and readers see them."""
    lines = [
        f'"""{title}',
        "",
        "Written by `make gen`; do not edit.",
        '"""',
        "",
    ]
    for file in sorted(files, key=lambda file: file.name):
        if names := sorted(_names(file)):
            module = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
            lines += [f"from {module} import (", *(f"    {name} as {name}," for name in names), ")"]
    return "\n".join(lines) + "\n"


def _names(file: FileDescriptorProto) -> Iterator[str]:
    yield from (message.name for message in file.message_type)
    for enum in file.enum_type:
        yield enum.name
        yield from (value.name for value in enum.value)


def main(source: Path, *, check: bool) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        wanted = generate(Path(scratch))
    present = [path for package in PACKAGES for path in (source / package).glob("*.py*")]
    return settle(source, wanted, present, check=check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="source tree that holds the package parley")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    arguments = parser.parse_args()
    sys.exit(main(arguments.source, check=arguments.check))
