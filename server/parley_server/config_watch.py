"""Where a configuration comes from, and whether it has changed since.

Files are compared by content: their times say little on network mounts, and Kubernetes changes a mounted ConfigMap or
Secret by pointing a symbolic link elsewhere. Everything here blocks, for as long as it takes to read small files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from parley_server.config import Config, read
from parley_server.config_sources import ConfigError

_ROUNDS = 5
Files = dict[Path, bytes | None]
"""What regular files hold, by digest; None for one that is not there."""


class Source:
    """A configuration file, or none, with the files that it refers to: secrets, the overlay of the catalogue."""

    def __init__(self, path: Path | None, load: Callable[[Path | None, set[Path]], Config] = read) -> None:
        self.path = path
        self._load = load
        self._seen: Files = {}
        self._spent = False

    @property
    def files(self) -> list[Path]:
        """The files that count."""
        return sorted(self._seen)

    def read(self) -> Config:
        """The configuration as it is now. Raises ConfigError; the files have been looked at all the same.

        It is read again if a file changed meanwhile, so that what one file says fits to what the others do.
        """
        if self._spent:
            raise ConfigError([f"{self.path} is not a file that can be read again"])
        self._spent = self.path is not None and self.path.exists() and not self.path.is_file()  # a pipe, say
        for _ in range(1 if self._spent else _ROUNDS):
            before = self._seen
            files = set() if self.path is None else {self.path}
            config, problem = None, None
            try:
                config = self._load(self.path, files)
            except ConfigError as error:
                problem = error
            self._seen = look(files)
            if before == self._seen:
                break
        if config is None:
            raise problem or ConfigError(["cannot be read"])
        return config

    def changed(self) -> bool:
        """Whether a file is not what it was when the configuration was read."""
        return look(self._seen) != self._seen

    def look(self) -> Files:
        """What the files hold now."""
        return look(self._seen)


def look(paths: Iterable[Path]) -> Files:
    """What the files at `paths` hold. Pipes and devices are left out: looking would use them up."""
    seen: Files = {}
    for path in paths:
        try:
            if path.is_file():
                seen[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
            elif not path.exists():
                seen[path] = None
        except OSError:
            seen[path] = None
    return seen
