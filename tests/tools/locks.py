"""Check the lock files: exact versions with hashes, no address of any index, everything there that was asked for.

python -m tests.tools.locks
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SERVER, TESTS, E2E, PROTOS, CATALOG, IMAGE, DEPLOY = (
    ROOT / folder / "requirements.lock"
    for folder in ("server", "tests", "tests/e2e", "protos", "server/catalog_tools", "deploy", "tests/deploy")
)
PEERS, SOAK = (ROOT / "tests/benchmarks" / folder / "requirements.lock" for folder in ("peers", "soak"))
BUILD = ROOT / "deploy" / "build.lock"
NPM = tuple(ROOT / folder / "package-lock.json" for folder in ("clients/typescript", "tests/benchmarks/peers"))
IMAGE_EXTRAS = ("aws", "google", "azure", "redis", "encryption")

Pins = dict[str, str]
"""Version by normalised name."""

OWN = {"parley-client", "parley-server"}
"""Installed from the checkout, so never locked."""

ENTRY = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^ ;]+)( ; [^\\]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def read(text: str) -> tuple[Pins, list[str]]:
    """The pins of a lock file, and what is wrong with its form. Every line must be a comment, a pin or its hash."""
    pins: Pins = {}
    faults: list[str] = []
    for entry in text.replace("\\\n", "").splitlines():
        head, *hashes = re.split(r"\s+(?=--hash)", entry.strip())
        if not head or head.startswith("#"):
            if "://" in head:
                faults.append(f"an address: {head}")
        elif not (match := ENTRY.fullmatch(head)):
            faults.append(f"neither a comment nor `name==version`: {head}")
        elif not hashes or not all(HASH.fullmatch(value.strip()) for value in hashes):
            faults.append(f"no sha256, or something beside it: {head}")
        elif match["name"] in pins:
            faults.append(f"pinned twice: {head}")
        else:
            pins[match["name"]] = match["version"]
    return pins, faults


def missing(wanted: list[str], pins: Mapping[str, str]) -> Iterator[str]:
    """Requirements that the pins do not meet."""
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name in OWN:
            continue
        if name not in pins:
            yield f"{requirement} is not locked"
        elif not requirement.specifier.contains(pins[name], prereleases=True):
            yield f"{requirement} is locked at {pins[name]}"


def differing(pins: Pins, others: Pins) -> Iterator[str]:
    """Packages that are not at the version that the tests' or the server's lock has."""
    for name in sorted(pins.keys() & others.keys()):
        if pins[name] != others[name]:
            yield f"{name} is {pins[name]} here and {others[name]} in the lock of the tests"


def main() -> int:
    faults: list[tuple[Path, str]] = []
    locks: dict[Path, Pins] = {}
    for path in (SERVER, TESTS, E2E, PROTOS, CATALOG, PEERS, SOAK, IMAGE, DEPLOY, BUILD):
        locks[path], wrong = read(path.read_text())
        faults += [(path, fault) for fault in wrong]

    server = tomllib.loads((ROOT / "pyproject.toml").read_text())
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())
    run = server["project"]["dependencies"] + server["dependency-groups"]["build"]
    run += client["project"]["dependencies"] + client["project"]["optional-dependencies"]["cli"]
    test = run + server["dependency-groups"]["test"] + server["dependency-groups"]["lint"]
    extras = server["project"]["optional-dependencies"]
    image = server["project"]["dependencies"] + client["project"]["dependencies"]
    image += [requirement for extra in IMAGE_EXTRAS for requirement in extras[extra]]
    build = server["dependency-groups"]["build"]
    others = [(path, inputs(path)) for path in (E2E, PROTOS, CATALOG, PEERS, SOAK, DEPLOY)]
    for path, wanted in (SERVER, run), (TESTS, test), (IMAGE, image), (BUILD, build), *others:
        faults += [(path, fault) for fault in missing(wanted, locks[path])]
    faults += [(TESTS, f"{name} is in the server's lock only") for name in sorted(locks[SERVER].keys() - locks[TESTS])]
    faults += [(TESTS, fault) for fault in differing(locks[TESTS], locks[SERVER])]
    for path in (E2E, IMAGE, BUILD):  # what the image runs is what was tested
        faults += [(path, fault) for fault in differing(locks[path], locks[TESTS])]

    for path in NPM:  # npm writes whom to give money to, with addresses; it needs none of that to install
        lines = path.read_text().splitlines()
        faults += [(path, f"an address, take it out: {line.strip()}") for line in lines if "://" in line]

    for path, fault in faults:
        print(f"{path.relative_to(ROOT)}: {fault}")
    if faults:
        print("Mend the requirements, then `make lock`.")
    return bool(faults)


def inputs(lock: Path) -> list[str]:
    """The requirements of the `requirements.in` beside a lock file."""
    lines = (line.partition("#")[0].strip() for line in lock.with_suffix(".in").read_text().splitlines())
    return [line for line in lines if line]


if __name__ == "__main__":
    sys.exit(main())
