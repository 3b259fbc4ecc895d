"""Write the Go stubs of `protos/parley/v1`, or tell which of those there are stale.

    python protos/generate_go.py            writes clients/go/parleyv1 anew
    python protos/generate_go.py --check    writes nothing; lists what differs and exits with 1

Needs Go, which builds the plugins that clients/go/tools pins. Runs in the generator's own environment.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from generate import INCLUDES, ROOT
from grpc_tools import protoc
from written import settle

GO = ROOT.parent / "clients/go"
MODULE = "github.com/parley-gateway/parley/clients/go"
PLUGINS = {
    "go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}


def generate(folder: Path) -> dict[str, bytes]:
    """Every generated file by name. `folder` is an empty one to work in."""
    arguments = [f"-I{path}" for path in INCLUDES]
    for name, package in PLUGINS.items():
        plugin = folder / f"protoc-gen-{name}"
        subprocess.run(["go", "build", "-C", GO / "tools", "-o", plugin, package], check=True)
        arguments += [f"--plugin={plugin}", f"--{name}_out={folder}", f"--{name}_opt=module={MODULE}"]
    code = protoc.main(["protoc", *arguments, *map(str, sorted((ROOT / "parley/v1").glob("*.proto")))])
    if code:
        sys.exit(f"protoc failed with exit code {code}; its message stands above.")
    return {path.name: path.read_bytes() for path in (folder / "parleyv1").iterdir()}


def main(*, check: bool) -> int:
    package = GO / "parleyv1"
    with tempfile.TemporaryDirectory() as scratch:
        wanted = generate(Path(scratch))
    return settle(package, wanted, package.glob("*.go"), check=check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    checking = parser.parse_args().check
    if shutil.which("go") is None:
        sys.exit("Go was not found, so its stubs cannot be written. Install Go 1.25 or newer.")
    sys.exit(main(check=checking))
