"""One recorded exchange with a provider, as the files have it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Recording:
    """A request and its response. `request` is parsed JSON (None: not recorded); `body` is as on the wire."""

    file: str
    """`<provider>/<api>--<scenario>--<seq>.json`"""
    provider: str
    api: str
    model: str
    path: str
    tags: frozenset[str]
    request: Any
    status: int
    headers: Mapping[str, str]
    """Of the response, names in lower case."""
    body: bytes
    note: str

    @property
    def folder(self) -> str:
        """Name of the folder that the file is in."""
        return self.file.partition("/")[0]

    @property
    def streamed(self) -> bool:
        """Whether the answer came as a stream: server-sent events, JSON lines, or frames of an AWS event stream."""
        content_type = self.headers.get("content-type", "")
        told = any(kind in content_type for kind in ("event-stream", "eventstream", "ndjson"))
        return self.status < 400 and (told or (not content_type and self.api.endswith("-stream")))


def load(path: Path) -> Recording:
    """The recording in a file; endpoint and provider are told by its path where it does not tell them itself.

    Raises ValueError, LookupError, TypeError, AttributeError or OSError if it is none.
    """
    raw = json.loads(path.read_text("utf-8"))
    response = raw["response"]
    body = response.get("body") or ""
    binary = response.get("body_encoding") == "base64"
    return Recording(
        file=f"{path.parent.name}/{path.name}",
        provider=raw.get("provider") or path.parent.name,
        api=raw.get("api") or path.name.partition("--")[0],
        model=raw.get("model") or "",
        path=raw.get("path") or "",
        tags=frozenset(raw.get("tags") or ()),
        request=(raw.get("request") or {}).get("body"),
        status=response["status"],
        headers={name.lower(): str(value) for name, value in (response.get("headers") or {}).items()},
        body=base64.b64decode(body) if binary else body.encode(),
        note=raw.get("note") or "",
    )


def paths(folder: Path) -> list[Path]:
    """The files of a provider's folder that should be recordings, in the order of their names."""
    return sorted(path for path in folder.glob("*.json") if path.name != "index.json")
