"""Write the TypeScript messages of `protos/parley/v1`, or tell which of those there are stale.

    python protos/generate_typescript.py            writes clients/typescript/src/gen anew
    python protos/generate_typescript.py --check    writes nothing; lists what differs and exits with 1

Needs Node.js; the plugin is the one that the client's package-lock.json pins. Google's error details are written beside
them, since JavaScript has no package of those.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

from generate import INCLUDES, ROOT
from grpc_tools import protoc
from written import settle

CLIENT = ROOT.parent / "clients/typescript"
PLUGIN = CLIENT / "node_modules/.bin/protoc-gen-es"
DETAILS = "google/rpc/error_details.proto"


def generate(folder: Path) -> dict[str, bytes]:
    """Every generated file by its path. `folder` is an empty one to work in."""
    [details] = [file.locate() for file in files("googleapis-common-protos") or () if str(file) == DETAILS]
    includes = [*INCLUDES, Path(str(details)).parents[2]]
    protos = [*sorted((ROOT / "parley/v1").glob("*.proto")), Path(DETAILS), Path("google/rpc/status.proto")]
    code = protoc.main(
        [
            "protoc",
            *(f"-I{path}" for path in includes),
            f"--plugin={PLUGIN}",
            f"--es_out={folder}",
            "--es_opt=target=ts,import_extension=js",
            *map(str, protos),
        ]
    )
    if code:
        sys.exit(f"protoc failed with exit code {code}; its message stands above.")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.ts")}


def main(*, check: bool) -> int:
    package = CLIENT / "src/gen"
    subprocess.run(["npm", "ci", "--ignore-scripts", "--loglevel=error"], cwd=CLIENT, check=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = generate(Path(scratch))
    return settle(package, wanted, package.rglob("*.ts"), check=check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    checking = parser.parse_args().check
    if shutil.which("npm") is None:
        sys.exit("npm was not found, so the messages of TypeScript cannot be written. Install Node.js 20 or newer.")
    sys.exit(main(check=checking))
