"""Programs in C for what must cost next to nothing beside the thing measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.benchmarks.processes import Failed


def compiled(source: Path, folder: Path) -> Path:
    """The program made of `source`, in `folder`. Raises Failed where there is no C compiler, or it is not Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Failed(
            "`make bench` needs a C compiler: in Python the instruments would be slower than what they measure"
        )
    binary = folder / source.stem
    if binary.exists():
        return binary
    built = subprocess.run([compiler, "-O2", "-o", binary, source], capture_output=True, text=True, check=False)
    if built.returncode:
        raise Failed(f"{source.name} does not compile here; it needs Linux:\n{built.stderr}")
    return binary
