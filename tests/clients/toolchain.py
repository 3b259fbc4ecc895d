"""The toolchains of other languages: suites that need one say so where it is missing, and fail where CI misses it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[2] / "clients"


def needs(*programs: str) -> None:
    """Skip, with the reason, where one of the programs is not on the search path. In CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    reason = f"{' and '.join(missing)} not found: this suite was not run"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI runs all of them")
    pytest.skip(reason)


def run(*command: str, cwd: Path, environ: Mapping[str, str] | None = None, timeout: float = 300) -> str:
    """What a command writes. Fails, with all of it, if that takes too long or it does not exit with 0."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    written = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{written}"
    return written
