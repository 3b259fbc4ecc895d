"""`python -m tests.conformance RECORDINGS [--provider NAME]`: the report; exit status 1 below 99 %."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.conformance.registry import adapters
from tests.conformance.report import run


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("recordings", type=Path, help="folder of recorded exchanges, one folder per provider in it")
    parser.add_argument("--provider", help="only the recordings of this provider")
    arguments = parser.parse_args()
    if not arguments.recordings.is_dir():
        print(f"{arguments.recordings} is not a folder")
        return 2
    report = run(arguments.recordings, adapters(), arguments.provider)
    print("\n".join(report.lines()))
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
