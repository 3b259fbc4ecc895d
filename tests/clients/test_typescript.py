"""The TypeScript SDK: its own tests, the scenarios of all clients, its examples, what its README tells a newcomer."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from tests.clients.scene import scenarios
from tests.clients.toolchain import CLIENTS, needs, run

pytestmark = pytest.mark.timeout(600)
TYPESCRIPT = CLIENTS / "typescript"
README = (TYPESCRIPT / "README.md").read_text("utf-8")
NAMES = "GatewayError, RateLimited, Client, image, system, user"


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The compiled package: type checks are part of that. Workers that share a run build it once."""
    needs("node", "npm")
    worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.mktemp("build")
    with (folder / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "typescript.built"
        if not done.exists():
            run("npm", "ci", "--ignore-scripts", "--loglevel=error", cwd=TYPESCRIPT)
            run("npm", "run", "build", cwd=TYPESCRIPT)
            done.touch()


def test_its_tests_and_the_scenarios_pass(addresses: dict[str, str]) -> None:
    written = run(
        "node", "--test", "dist/test/", cwd=TYPESCRIPT, environ={"PARLEY_SCENE": json.dumps(addresses)}, timeout=300
    )
    passed = {line.partition(" - ")[2] for line in written.splitlines() if re.match(r"\s*ok \d+ - ", line)}
    assert {scenario["name"] for scenario in scenarios()} <= passed
    assert "# SKIP" not in written


@pytest.mark.parametrize("name", sorted(path.stem for path in (TYPESCRIPT / "examples").iterdir()))
def test_example(name: str, addresses: dict[str, str]) -> None:
    environ = {"PARLEY_ADDRESS": addresses["gateway"]}
    assert run("node", f"dist/examples/{name}.js", cwd=TYPESCRIPT, environ=environ).strip()


def test_a_newcomer_gets_a_streamed_answer(tmp_path: Path, addresses: dict[str, str]) -> None:
    """The README's commands, in an empty folder beside a checkout, and its program."""
    start = README.partition("## Start")[2].partition("\n## ")[0]
    [commands, start_it] = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    [program] = re.findall(r"```ts\n(.*?)```", start, re.DOTALL)
    (tmp_path / "parley").symlink_to(CLIENTS.parent)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "main.js").write_text(program)
    run("sh", "-ec", commands, cwd=folder)
    written = run("sh", "-ec", start_it, cwd=folder, environ={"PARLEY_ADDRESS": addresses["gateway"]})
    assert written.strip() == "one two three"


def test_the_code_of_the_readme_compiles() -> None:
    """Each further block, in a function that has a client. What only it compiles is taken away again."""
    blocks = re.findall(r"```ts\n(.*?)```", README.partition("\n## Chat")[2], re.DOTALL)
    assert blocks
    program = f'import {{ {NAMES} }} from "@parley-gateway/client";\n\nvoid [{NAMES}];\n'
    for number, block in enumerate(blocks):
        program += f"\nexport async function block{number}(client: Client): Promise<void> {{\n{block}}}\n"
    source = TYPESCRIPT / "test" / "readme_blocks.ts"
    source.write_text(program)
    try:
        run("npx", "tsc", "--noEmit", cwd=TYPESCRIPT)
    finally:
        source.unlink()
