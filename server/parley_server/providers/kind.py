"""Kinds of providers: what a configuration can name, and how its settings become a calling card.

A third party adds kinds by an entry point of the group `parley.providers` that names a `Kind` or a tuple of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parley_server.providers.base import Provider
from parley_server.settings import KindSettings
from parley_server.transports.base import Transport

ENTRY_POINTS = "parley.providers"


class KindError(Exception):
    """An installed package does not bring the kinds of providers that it says it does. Names it, and says why."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the gateway lends to its providers."""

    transport: Transport
    """For flows that fetch tokens."""
    clock: Callable[[], float] = field(default=time.time)
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of provider."""

    name: str
    """Value of `kind` in the configuration, and the name of a provider that has no other."""
    settings: type[KindSettings]
    card: Callable[[str, Any, Shared], Provider]
    """From the provider's name and its settings, an instance of the class above."""
    needs: tuple[str, ...] = ("api_key",)
    """Fields that variables must fill for it to be among the usual providers; empty: never, unless `usual` says so."""
    usual: Callable[[Mapping[str, str]], Mapping[str, Any] | None] | None = None
    """Its settings among the usual providers, from the environment; None: it is not set up. By default by `needs`."""

    def usually(self, environ: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Its settings where a configuration names no providers at all; None: leave it out."""
        if self.usual is not None:
            return self.usual(environ)
        variables = self.settings.variables
        found = all(any(environ.get(name, "").strip() for name in variables.get(field, ())) for field in self.needs)
        return {} if found and self.needs else None
