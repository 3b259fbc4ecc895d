"""The Python SDK, as its README tells a newcomer to begin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.toolchain import CLIENTS, run

README = (CLIENTS / "python" / "README.md").read_text("utf-8")


@pytest.mark.timeout(600)
def test_a_newcomer_gets_a_streamed_answer(tmp_path: Path, addresses: dict[str, str]) -> None:
    """The README's commands, in an empty folder beside a checkout, and its program."""
    start = README.partition("## Start")[2].partition("\n## ")[0]
    [commands, start_it] = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    [program] = re.findall(r"```python\n(.*?)```", start, re.DOTALL)
    (tmp_path / "parley").symlink_to(CLIENTS.parent)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "main.py").write_text(program)
    environ = {"PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run("sh", "-ec", commands, cwd=folder, environ=environ)
    written = run("sh", "-ec", start_it, cwd=folder, environ={**environ, "PARLEY_ADDRESS": addresses["gateway"]})
    assert written.strip() == "one two three"
