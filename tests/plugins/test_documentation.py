"""The page on adding a provider: its code is that of tested files, its configuration loads, its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parley_server.config import load
from parley_server.providers.kinds import known

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text()
BLOCKS = re.findall(r"(?:<!-- from (\S+) -->\n)?```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("source", "language", "code"), BLOCKS)
def test_code_stands_in_a_tested_file(source: str, language: str, code: str) -> None:
    if language in ("python", "toml"):
        assert code in (ROOT / source).read_text()
    else:
        assert not source


def test_the_configuration_loads() -> None:
    [text] = [code for _, language, code in BLOCKS if language == "yaml"]
    config = load(text, {"LAB_API_KEY": "k"})
    assert config.providers["lab"].kind == "openai-compatible"


def test_the_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", PAGE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    lines = [line for _, language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    assert [line.split()[-2:] for line in lines] == [
        ["--config", "parley.yaml"],
        ["install", "./parley_provider_example"],
        ["parley-server", "check"],
    ]


def test_what_may_be_built_on_is_there() -> None:
    promised = PAGE.partition("What you may build on are")[2].partition("Until version 1")[0]
    modules = [name for name in re.findall(r"`([\w.]+)`", promised) if name not in ("parley.v1", "parley_server")]
    assert len(modules) > 8
    for name in modules:
        path = ROOT / "server" / "parley_server" / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), name
    used = set()
    for file in (ROOT / "tests/plugins/parley_provider_example/src").rglob("*.py"):
        used |= set(re.findall(r"from parley_server\.([\w.]+) import", file.read_text()))
    assert all(any(name == one or name.startswith(f"{one}.") for one in modules) for name in used), used


def test_kinds_of_the_page_are_none_of_ours() -> None:
    assert not {"acorn", "walnut"} & set(known())
