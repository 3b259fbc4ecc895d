"""The command line: what it prints where, and how it exits."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parley_server import __version__
from parley_server.cli import app
from parley_server.core.scrub import scrub

KEY = "sk-proj-0123456789abcdefXYZ"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A runner in an environment that configures nothing."""
    for name in list(os.environ):
        if name.startswith(("PARLEY_", "OTEL_", "OLLAMA_")) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    return CliRunner()


def test_check_of_nothing_is_ok(cli: CliRunner) -> None:
    result = cli.invoke(app, ["check"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ok: listens on 127.0.0.1:50051; providers: mock, ollama\n"


def test_check_reads_file_and_variables(cli: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "parley.yaml"
    path.write_text("providers: {mock: {}}\nserver: {drain: 1}")
    for arguments, environ in ((["-c", str(path)], {}), ([], {"PARLEY_CONFIG": str(path)})):
        result = cli.invoke(app, ["check", *arguments], env={**environ, "PARLEY_SERVER__ADDRESS": "127.0.0.1:7"})
        assert result.exit_code == 0
        assert result.stdout == "ok: listens on 127.0.0.1:7; providers: mock\n"
    path.write_text("providers: {}")
    assert "providers: none" in cli.invoke(app, ["check", "-c", str(path)]).stdout


def test_check_tells_every_problem_on_standard_error_a_line_each(cli: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "parley.yaml"
    path.write_text(f"server: {{adress: x}}\nlog: {{level: loud}}\nproviders: {{openai: {{api_key: {KEY}}}}}")
    result = cli.invoke(app, ["check", "--config", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert f"{path}: server.adress: unknown key; did you mean address?" in lines
    assert KEY not in result.output


def test_problems_without_a_file_are_those_of_the_environment(cli: CliRunner) -> None:
    result = cli.invoke(app, ["check"], env={"PARLEY_SERVER__DRAIM": "1"})
    assert result.exit_code == 2
    assert result.stderr.startswith("environment: server.draim (PARLEY_SERVER__DRAIM): unknown key")


def test_a_file_that_is_not_there(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["check", "-c", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/none: cannot be read: No such file or directory\n"


def test_serve_refuses_what_check_refuses(cli: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "parley.yaml"
    path.write_text("server: {address: 0.0.0.0:0}")
    result = cli.invoke(app, ["serve", "-c", str(path)])
    assert result.exit_code == 2
    assert "insecure: true" in result.stderr


def test_version(cli: CliRunner) -> None:
    result = cli.invoke(app, ["version"])
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


def test_a_new_key_comes_with_its_digest(cli: CliRunner) -> None:
    first, second = cli.invoke(app, ["new-key"]).stdout, cli.invoke(app, ["new-key"]).stdout
    assert first != second
    key, digest = first.split("\n")[:2]
    key = key.removeprefix("key: ")
    assert digest == f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert scrub(key) == "[redacted]"


def test_without_a_command_there_is_help_and_unknown_ones_are_refused(cli: CliRunner) -> None:
    assert "check" in cli.invoke(app, []).output
    assert cli.invoke(app, ["serv"]).exit_code == 2


def test_an_address_in_use_ends_serve_with_a_plain_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "parley.yaml"
        for section, other in (("server", "admin"), ("admin", "server")):
            path.write_text(
                f"providers: {{mock: {{}}}}\n{section}: {{address: '{address}'}}\n{other}: {{address: '127.0.0.1:0'}}"
            )
            done = subprocess.run(
                [sys.executable, "-m", "parley_server", "serve", "-c", str(path)],
                env={name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")},
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.returncode == 1, done.stderr
            assert address in done.stderr
            assert "Traceback" not in done.stderr
