"""Processes that are measured: started on a free port, their CPU time and memory read from the kernel, ended by ID."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START = 30.0  # seconds until a process must listen, unless it is one that takes longer
_STOP = 10.0  # seconds it may take to end


class Failed(Exception):
    """A measurement could not be made, or what came back is not what was sent."""


@dataclass(frozen=True)
class Process:
    """A server that listens on 127.0.0.1:`port`."""

    name: str
    pid: int
    port: int

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Seconds of CPU time, user and system, that it and its children have used."""
        return sum(_cpu(pid) for pid in _tree(self.pid))

    def rss(self) -> float:
        """MiB in memory now."""
        return sum(_status(pid, "VmRSS") for pid in _tree(self.pid))

    def peak_rss(self) -> float:
        """Most MiB in memory since it started."""
        return sum(_status(pid, "VmHWM") for pid in _tree(self.pid))


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    log: Path,
    environ: Mapping[str, str] | None = None,
    *,
    start: float = _START,
) -> Iterator[Process]:
    """Run `command` until the block ends; begins once it listens, within `start` seconds.

    Its output goes to the end of the file `log`.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environ or {})}
        )
    try:
        _wait_for(child, name, port, log, start)
        yield Process(name, child.pid, port)
    finally:
        child.terminate()
        try:
            child.wait(_STOP)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of this folder."""
    return [sys.executable, "-m", f"{__package__}.{module}", *map(str, arguments)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _wait_for(child: subprocess.Popen[bytes], name: str, port: int, log: Path, start: float) -> None:
    end = time.monotonic() + start
    while time.monotonic() < end:
        if child.poll() is not None:
            raise Failed(f"{name} ended with status {child.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Failed(f"{name} does not listen after {start:g} s:\n{log.read_text(errors='replace')[-4000:]}")


def _tree(pid: int) -> list[int]:
    """The process and those it has started, as far as they live."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += _tree(int(child))
    return found


def _cpu(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes it: all threads, to the nanosecond


def _status(pid: int, field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
