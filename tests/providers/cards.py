"""Calling cards as the gateway makes them, from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.transports.base import Outgoing


class Unreachable:
    """A transport for cards that are only looked at."""

    async def send(self, request: Outgoing, *, connect_timeout: float) -> Any:
        raise AssertionError(f"nobody should have called {request.url}")

    async def aclose(self) -> None:
        """Nothing is open."""


def made(kind: Kind, name: str, *, environ: Mapping[str, str] | None = None, **settings: Any) -> Provider:
    """The card of `kind` for settings as a configuration has them; `k` is the key where one is needed."""
    given = {"kind": kind.name, **settings}
    if "api_key" in kind.settings.model_fields:
        given.setdefault("api_key", "env:KEY")
    context = {"environ": {"KEY": "k", **(environ or {})}}
    return kind.card(name, kind.settings.model_validate(given, context=context), Shared(Unreachable()))
