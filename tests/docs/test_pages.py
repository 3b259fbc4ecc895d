"""Every code block of the guides is run, or the page says why not. Pages with more to say have tests of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from parley.testing import Gateway
from parley_server.config import load
from tests.docs.blocks import DOCS, Block, blocks

PAGES = ("quickstart.md", "concepts.md", "testing.md", "coming-from.md")
BLOCKS = [block for page in PAGES for block in blocks(page)]
ADDRESS = "127.0.0.1:50051"
VENV = Path(sys.executable).parent
MODELS = {"weather": {"reply": "sunny"}}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(MODELS) as gateway:
        yield gateway


def run(command: list[str], cwd: Path, address: str = "") -> str:
    """What a program says; it must end well within a minute."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "PYTEST_"))}
    environ |= {"PARLEY_ADDRESS": address, "PATH": f"{VENV}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def chosen(language: str, word: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.word.startswith(word)]


def test_every_block_is_run_or_says_why_not() -> None:
    known = {("python", ""), ("yaml", ""), ("sh", ""), ("sh", "background")}
    for block in BLOCKS:
        said = block.word.startswith(("not run: ", "file=")) or block.word == "not ours"
        assert said or (block.language, block.word) in known, block


def test_every_page_has_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in DOCS.parent.glob("tests/**/test_*.py"))
    pages = [path.name for path in DOCS.glob("*.md") if path.name != "README.md" and blocks(path.name)]
    assert [page for page in pages if page not in tests] == []


@pytest.mark.parametrize("block", [block for block in chosen("python") if not block.word], ids=str)
def test_program(block: Block, gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text)
    assert run([sys.executable, "program.py"], tmp_path, gateway.address) or "assert" in block.text


@pytest.mark.parametrize("block", [block for block in chosen("yaml") if not block.word], ids=str)
def test_configuration(block: Block) -> None:
    environ = {name: f"a-key-that-nobody-has-{name}" for name in re.findall(r"env:(\w+)", block.text)}
    config = load(block.text, environ)
    assert yaml.safe_load(block.text).keys() <= config.model_fields_set


@pytest.mark.parametrize(
    ("block", "line"),
    [(block, line) for block in chosen("sh") if not block.word for line in block.text.splitlines()],
    ids=str,
)
def test_command(block: Block, line: str, gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(VENV)
    assert run(["sh", "-ec", line.replace(ADDRESS, gateway.address)], tmp_path, gateway.address)


def test_what_goes_on_in_the_background_is_a_target() -> None:
    makefile = (DOCS.parent / "Makefile").read_text("utf-8")
    for block in chosen("sh", "background"):
        for line in block.text.splitlines():
            assert re.search(rf"^{line.removeprefix('make ')}:", makefile, re.MULTILINE), line


@pytest.mark.parametrize("page", sorted({block.page for block in chosen("python", "file=")}))
def test_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.word.startswith("file="):
            (tmp_path / block.word.removeprefix("file=")).write_text(block.text)
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], tmp_path)
    assert re.search(r"[4-9] passed", said)
