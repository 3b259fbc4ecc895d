"""Changes of the files that a configuration comes from: noticed, read whole, refused in words; digests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from parley_server.config import Config, load
from parley_server.config_revision import NEEDS_RESTART, carried, digest
from parley_server.config_sources import ConfigError
from parley_server.config_watch import Source
from parley_server.reload import Reloader

OVERLAY = 'version: "1"\nproviders: {mock: {echo: {context_tokens: 1000}}}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration that refers to a secret and to an overlay."""
    (tmp_path / "key").write_text("sk-one")
    (tmp_path / "models.yaml").write_text(OVERLAY)
    path = tmp_path / "parley.yaml"
    path.write_text(
        f"providers: {{mock: {{}}, openai: {{api_key: 'file:{tmp_path}/key'}}}}\n"
        f"catalog: {{overlay: {tmp_path}/models.yaml}}\n"
    )
    return path


def test_all_files_that_are_referred_to_count(file: Path) -> None:
    source = Source(file)
    source.read()
    assert source.files == sorted([file, file.parent / "key", file.parent / "models.yaml"])
    assert not source.changed()


@pytest.mark.parametrize("name", ["parley.yaml", "key", "models.yaml"])
def test_a_change_is_a_change_of_content(file: Path, name: str) -> None:
    source = Source(file)
    source.read()
    path = file.parent / name
    text = path.read_text()
    os.utime(path, (1, 1))
    assert not source.changed(), "only its time is another"
    before = path.stat()
    path.write_text(text.replace("o", "0", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.changed(), "size and time are the same, the content is not"
    path.write_text(text)
    assert not source.changed(), "it is what was read"
    path.unlink()
    assert source.changed()


def test_a_mounted_secret_is_swapped_by_a_link(file: Path) -> None:
    """As Kubernetes does it: key -> ..data/key, ..data -> a folder, replaced at once by another link."""
    mount = file.parent / "mount"
    for version in ("one", "two"):
        (mount / version).mkdir(parents=True)
        (mount / version / "key").write_text(f"sk-{version}")
    (mount / "..data").symlink_to("one")
    (mount / "key").symlink_to("..data/key")
    file.write_text(f"providers: {{openai: {{api_key: 'file:{mount}/key'}}}}")
    source = Source(file)
    first = digest(source.read())
    (mount / "..new").symlink_to("two")
    (mount / "..new").rename(mount / "..data")
    assert source.changed()
    assert digest(source.read()) != first
    assert not source.changed()


def test_a_refused_configuration_is_refused_once_and_its_files_are_watched(file: Path) -> None:
    source = Source(file)
    source.read()
    (file.parent / "key").unlink()
    assert source.changed()
    with pytest.raises(ConfigError, match="cannot read the secret file"):
        source.read()
    assert not source.changed()
    (file.parent / "key").write_text("sk-two")
    assert source.changed()


def test_files_that_change_while_they_are_read_are_read_again(file: Path) -> None:
    reads = 0

    def slow(path: Path | None, files: set[Path]) -> Config:
        nonlocal reads
        reads += 1
        assert path is not None
        config = load(path.read_text(), {}, files=files)
        if reads < 3:
            (file.parent / "key").write_text(f"sk-rotated-{reads}")
        return config

    source = Source(file, slow)
    last = source.read()
    assert reads == 3
    assert digest(last) == digest(load(file.read_text(), {}))


def test_without_a_file_the_secrets_are_watched(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PROVIDERS__OPENAI__API_KEY", f"file:{file.parent}/key")
    source = Source(None)
    source.read()
    assert source.files == [file.parent / "key"]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"providers: {mock: {}}")
    os.close(write)
    source = Source(Path(f"/dev/fd/{read}"))
    assert list(source.read().providers) == ["mock"]
    assert not source.changed()
    with pytest.raises(ConfigError, match="is not a file that can be read again"):
        source.read()
    os.close(read)


# ------------------------------------------------------------------------------------------------- what is another one


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# a comment\nproviders: {openai: {api_key: env:OTHER_NAME}, mock: {}}", True),
        ("providers: {mock: {}, openai: {api_key: env:KEY}}\nretry: {attempts_per_target: 3}", True),
        ("providers: {mock: {}, openai: {api_key: env:ANOTHER}}", False),
        ("providers: {mock: {}, openai: {api_key: env:KEY, base_url: 'https://eu.example/v1'}}", False),
        ("providers: {mock: {}, openai: {api_key: env:KEY}}\nretry: {attempts_per_target: 2}", False),
        ("providers: {openai: {api_key: env:KEY}}", False),
    ],
)
def test_the_digest_is_of_what_counts(text: str, same: bool) -> None:
    environ = {"KEY": "sk-1", "OTHER_NAME": "sk-1", "ANOTHER": "sk-2"}
    first = load("providers: {mock: {}, openai: {api_key: env:KEY}}", environ)
    assert (digest(load(text, environ)) == digest(first)) is same
    assert len(digest(first)) == 64


def test_what_needs_a_restart_stays() -> None:
    old = load("providers: {mock: {}}", {})
    new = load("server: {address: '127.0.0.1:6000', drain: 7}\nadmin: {enabled: false}\nproviders: {mock: {}}", {})
    effective, waiting = carried(old, new)
    assert waiting == ["server.address", "admin.enabled"]
    assert effective.server.address == old.server.address
    assert effective.admin.enabled
    assert effective.server.drain == 7
    assert carried(old, old) == (old, [])


@pytest.mark.parametrize("path", NEEDS_RESTART)
def test_such_settings_are_there(path: str) -> None:
    section, _, name = path.partition(".")
    assert hasattr(getattr(Config(), section), name)


# ------------------------------------------------------------------------------------------------------- the reloader


class Reloaded:
    """Stands for the gateway."""

    def __init__(self, interval: float) -> None:
        self.settings = load(f"providers: {{mock: {{}}}}\nreload: {{interval: {interval}}}", {})
        self.given: list[Config] = []
        self.refused = 0
        self.error: Exception | None = None
        self.told = asyncio.Event()

    async def reload(self, settings: Config) -> None:
        self.given.append(settings)
        self.told.set()
        if self.error is not None:
            raise self.error

    def refuse(self) -> None:
        self.refused += 1
        self.told.set()

    async def hears(self, what: Callable[[], object]) -> None:
        self.told.clear()
        what()
        await asyncio.wait_for(self.told.wait(), 10)


@contextmanager
def watching(source: Source, gateway: Reloaded) -> Iterator[Reloader]:
    reloader = Reloader(source, gateway, settle=0.01)
    task = asyncio.create_task(reloader.run())
    try:
        yield reloader
    finally:
        assert not task.done()
        task.cancel()


async def test_a_change_is_noticed(file: Path) -> None:
    source, gateway = Source(file), Reloaded(interval=0.01)
    source.read()
    with watching(source, gateway):
        await gateway.hears(lambda: file.write_text("providers: {mock: {}}"))
    assert [list(config.providers) for config in gateway.given] == [["mock"]]


async def test_a_signal_counts_without_a_change(file: Path) -> None:
    source, gateway = Source(file), Reloaded(interval=0)
    source.read()
    with watching(source, gateway) as reloader:
        await gateway.hears(reloader.ask)
        await gateway.hears(reloader.ask)
    assert len(gateway.given) == 2


async def test_a_bad_file_is_told_once_and_a_good_one_is_taken_after_it(file: Path) -> None:
    source, gateway = Source(file), Reloaded(interval=0.01)
    source.read()
    with structlog.testing.capture_logs() as lines, watching(source, gateway):
        await gateway.hears(lambda: file.write_text("providers: {openia: {}}\nretry: {max_attempts: 0, tries: 3}"))
        for _ in range(10):  # further looks at the same bad file
            await asyncio.sleep(0.01)
        await gateway.hears(lambda: file.write_text("providers: {mock: {}}"))
    [refused] = [line for line in lines if line["event"] == "config_refused"]
    assert [problem.partition(":")[0] for problem in refused["problems"]] == [
        "providers.openia.kind",
        "retry.max_attempts",
        "retry.tries",
    ]
    assert refused["file"] == str(file)
    assert (gateway.refused, len(gateway.given)) == (1, 1)


async def test_what_providers_make_of_their_settings_is_survived(file: Path) -> None:
    source, gateway = Source(file), Reloaded(interval=0)
    source.read()
    gateway.error = RuntimeError("no such region")
    with structlog.testing.capture_logs() as lines, watching(source, gateway) as reloader:
        await gateway.hears(reloader.ask)
        await asyncio.sleep(0)
        gateway.error = None
        await gateway.hears(reloader.ask)
    [refused] = [line for line in lines if line["event"] == "config_refused"]
    assert refused["problems"] == ["no such region"]
    assert gateway.refused == 1


async def test_who_runs_without_a_file_is_told_what_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source, gateway = Source(None, lambda _path, _files: Config()), Reloaded(interval=0)
    source.read()
    with structlog.testing.capture_logs() as lines, watching(source, gateway) as reloader:
        await gateway.hears(reloader.ask)
    assert lines[0]["event"] == "config_asked"
    assert "only secrets are read again" in lines[0]["note"]
