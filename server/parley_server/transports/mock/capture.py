"""Remember what was asked, so that a test can look at it: in memory, or in a file that another process reads."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from parley_server.transports.base import Outgoing

_CREDENTIAL = re.compile(r"auth|key|token|secret|password|cookie|credential|signature")
_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Captured:
    """One request as the mock provider got it, without the headers that carry credentials. `time` is Unix time."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    time: float

    @classmethod
    def of(cls, request: Outgoing, time: float) -> Captured:
        """`request`, with credentials left out."""
        headers = {name: value for name, value in request.headers.items() if not _CREDENTIAL.search(name)}
        return cls(request.method, request.url, headers, request.body, time)

    @property
    def path(self) -> str:
        """Path of the URL."""
        return "/" + self.url.partition("://")[2].partition("/")[2].partition("?")[0]

    @property
    def body(self) -> Any:
        """The parsed JSON body; None if there is none or it is not JSON."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return None


class Recent(deque[Captured]):
    """The latest requests, oldest first: at most so many, and at most 4 MiB of bodies (or one larger body)."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._held = 0

    def add(self, request: Captured) -> None:
        """Remember `request`, and forget what there is no room for."""
        self.append(request)
        self._held += len(request.content)
        while len(self) > self._most or (self._held > _BYTES and len(self) > 1):
            self._held -= len(self.popleft().content)


class CaptureFile:
    """Adds each request to a file as a line of JSON. The file is readable by its owner alone: it holds prompts."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600, exist_ok=True)
        self._path = path

    def __call__(self, request: Captured) -> None:
        fields = {"time": request.time, "method": request.method, "url": request.url, "headers": dict(request.headers)}
        line = orjson.dumps({**fields, "body": request.body}) + b"\n"
        with self._path.open("ab", buffering=0) as file:  # one write: readers never see half a line for long
            file.write(line)


def read_captured(path: Path) -> Iterator[Captured]:
    """The requests in a file that a `CaptureFile` has written; a last line that is still being written is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            entry = orjson.loads(line)
            content = b"" if entry["body"] is None else orjson.dumps(entry["body"])
            yield Captured(entry["method"], entry["url"], entry["headers"], content, entry["time"])
