"""Server and clients are released together, under one version."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import parley_server

CLIENTS = Path(__file__).parents[1] / "clients"


def test_all_have_one_version() -> None:
    python = tomllib.loads((CLIENTS / "python" / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    typescript = json.loads((CLIENTS / "typescript" / "package.json").read_text("utf-8"))["version"]
    [go] = re.findall(r'^\s*version\s+= "(.+)"$', (CLIENTS / "go" / "dial.go").read_text("utf-8"), re.MULTILINE)
    [readme] = re.findall(r"clients/go@v(\S+)$", (CLIENTS / "go" / "README.md").read_text("utf-8"), re.MULTILINE)
    assert {python, typescript, go, readme} == {parley_server.__version__}
