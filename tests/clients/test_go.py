"""The Go SDK: its own tests, the scenarios of all clients, its examples, and what its README tells a newcomer to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.scene import scenarios
from tests.clients.toolchain import CLIENTS, needs, run

pytestmark = pytest.mark.timeout(600)
GO = CLIENTS / "go"
README = (GO / "README.md").read_text("utf-8")


@pytest.fixture(scope="module", autouse=True)
def _go() -> None:
    needs("go")


def test_it_is_formatted_and_passes_vet() -> None:
    assert run("gofmt", "-l", ".", cwd=GO) == ""
    run("go", "vet", "./...", cwd=GO)


def test_its_tests_and_the_scenarios_pass(addresses: dict[str, str]) -> None:
    written = run("go", "test", "-count=1", "-json", "./...", cwd=GO, environ={"PARLEY_SCENE": json.dumps(addresses)})
    events = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    ended = {
        (event["Action"], event["Test"]) for event in events if event["Action"] in ("pass", "skip") and "Test" in event
    }
    assert not [test for action, test in ended if action == "skip"]
    passed = [test for action, test in ended if action == "pass" and test.startswith("TestScenarios/")]
    assert len(passed) == len(scenarios())


@pytest.mark.parametrize("name", sorted(path.name for path in (GO / "examples").iterdir()))
def test_example(name: str, addresses: dict[str, str]) -> None:
    written = run("go", "run", f"./examples/{name}", cwd=GO, environ={"PARLEY_ADDRESS": addresses["gateway"]})
    assert written.strip()


def test_a_newcomer_gets_a_streamed_answer(tmp_path: Path, addresses: dict[str, str]) -> None:
    """The README's commands, in an empty folder beside a checkout, and its program."""
    start = README.partition("## Start")[2].partition("\n## ")[0]
    [commands, start_it] = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    [program] = re.findall(r"```go\n(.*?)```", start, re.DOTALL)
    (tmp_path / "parley").symlink_to(CLIENTS.parent)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "main.go").write_text(program)
    run("sh", "-ec", commands, cwd=folder)
    written = run("sh", "-ec", start_it, cwd=folder, environ={"PARLEY_ADDRESS": addresses["gateway"]})
    assert written.strip().endswith("one two three")


def test_the_code_of_the_readme_compiles(tmp_path: Path) -> None:
    """Each further block, in a function that has a client."""
    blocks = re.findall(r"```go\n(.*?)```", README.partition("\n## Chat")[2], re.DOTALL)
    assert blocks
    (tmp_path / "parley").symlink_to(CLIENTS.parent)
    folder = tmp_path / "readme"
    folder.mkdir()
    head = 'package main\n\nimport (\n\t"context"\n\t"errors"\n\t"fmt"\n\t"log"\n\t"time"\n\n'
    head += '\tparley "github.com/parley-gateway/parley/clients/go"\n)\n\n'
    head += "var (\n\t_ = errors.As\n\t_ = fmt.Println\n\t_ = log.Fatal\n\t_ = time.Second\n)\n\nfunc main() {}\n"
    for number, block in enumerate(blocks):
        head += f"\nfunc block{number}(ctx context.Context, client *parley.Client) error {{\n{block}\nreturn nil\n}}\n"
    (folder / "main.go").write_text(head)
    commands = README.partition("## Start")[2].partition("```sh\n")[2].partition("```")[0]
    run("sh", "-ec", commands, cwd=folder)
    run("go", "vet", ".", cwd=folder)
