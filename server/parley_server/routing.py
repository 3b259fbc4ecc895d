"""The routes of one configuration: as the router asks them, and as they are listed among the models."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeAlias

from parley_server.config_routes import RouteSettings
from parley_server.core.context import Operation
from parley_server.core.errors import GatewayError
from parley_server.core.routes import Candidate, Entry, Route
from parley_server.core.strategies import Spread
from parley_server.providers.directory import Directory
from parley_server.providers.route_list import RouteList, Shown

Resolve: TypeAlias = Callable[[str, Operation], Candidate | Route]


class Routing:
    """Builds routes by name. What a route remembers from call to call, its place in the sequence of weighted choices,
    is here."""

    def __init__(self, settings: Mapping[str, RouteSettings]) -> None:
        self._settings = settings
        self._draws = {name: Spread(random.random) for name in settings}

    def route(self, name: str, operation: Operation, resolve: Resolve) -> Route:
        """The route `name`, with what `resolve` makes of its targets; those that are not there say so when asked."""
        settings = self._settings[name]
        entries: list[Entry] = []
        for target in settings.targets:
            option: Candidate | Route | GatewayError
            try:
                option = resolve(target.model, operation)
            except GatewayError as error:
                option = error
            entries.append(Entry(option, weight=target.weight, overrides=target.overrides.value()))
        return Route(name, tuple(entries), settings.order(), frozenset(settings.fallback_on), self._draws[name])

    def listed(self, directory: Directory) -> RouteList:
        """`directory`, and the routes beside its models."""
        shown = {
            name: Shown(tuple(dict.fromkeys(self._leaves(name))), route.display_name)
            for name, route in self._settings.items()
        }
        return RouteList(directory, shown)

    def _leaves(self, name: str) -> list[str]:
        found: list[str] = []
        for target in self._settings[name].targets:
            found += self._leaves(target.model) if target.model in self._settings else [target.model]
        return found
