"""One recorded exchange with a provider, as the files have it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
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
    def streamed(self) -> bool:
        """Whether the answer came as a stream: server-sent events or JSON lines."""
        content_type = self.headers.get("content-type", "")
        return self.status < 400 and ("event-stream" in content_type or "ndjson" in content_type)


def load(path: Path) -> Recording:
    """The recording in a file."""
    raw = json.loads(path.read_text("utf-8"))
    response = raw["response"]
    body = response.get("body") or ""
    binary = response.get("body_encoding") == "base64"
    return Recording(
        file=f"{path.parent.name}/{path.name}",
        provider=raw["provider"],
        api=raw["api"],
        model=raw.get("model") or "",
        path=raw.get("path") or "",
        tags=frozenset(raw.get("tags") or ()),
        request=(raw.get("request") or {}).get("body"),
        status=response["status"],
        headers={name.lower(): str(value) for name, value in (response.get("headers") or {}).items()},
        body=base64.b64decode(body) if binary else body.encode(),
        note=raw.get("note") or "",
    )


def walk(root: Path, provider: str | None = None) -> Iterator[Recording]:
    """The recordings below `root`, in the order of their names; those of one provider if asked."""
    for path in sorted(root.glob(f"{provider or '*'}/*--*.json")):
        yield load(path)
