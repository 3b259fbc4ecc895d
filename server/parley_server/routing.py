"""The routes of one configuration: as the router asks them, and as they are listed among the models."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeAlias

from parley_server.config import Hedging
from parley_server.config_cache import CachePolicySettings
from parley_server.config_revision import digest
from parley_server.config_routes import RouteSettings
from parley_server.core.allowance import Allowance
from parley_server.core.context import Operation
from parley_server.core.errors import GatewayError
from parley_server.core.routes import Candidate, Entry, Race, Route
from parley_server.core.strategies import Spread
from parley_server.pipeline.cache import Target
from parley_server.pipeline.hedge import Hedge, HedgePolicy
from parley_server.providers.directory import Directory
from parley_server.providers.route_list import RouteList, Shown

Resolve: TypeAlias = Callable[[str, Operation], Candidate | Route]


class Routing:
    """Builds routes by name. What a route remembers from call to call, its place in the sequence of weighted choices,
    is here.

    `races`: by route, how its targets are raced, for those with rules of their own.
    """

    def __init__(self, settings: Mapping[str, RouteSettings], races: Mapping[str, Race] | None = None) -> None:
        self._settings = settings
        self._races = races or {}
        self._cache_targets = {name: self._cache_target(name) for name in settings}
        self._targets = {target.model for one in settings.values() for target in one.targets}
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
        on, draw = frozenset(settings.fallback_on), self._draws[name]
        return Route(name, tuple(entries), settings.order(), on, draw, self._races.get(name))

    def names(self, provider: str, model: str) -> bool:
        """Whether a route has this model of this provider among its targets."""
        return f"{provider}/{model}" in self._targets or model in self._targets

    def cache_target(self, name: str) -> Target:
        """What the route `name` is to the cache: another one as soon as its targets are others."""
        return self._cache_targets[name]

    def _cache_target(self, name: str) -> Target:
        same = {"cache": CachePolicySettings(), "display_name": ""}  # what changes no answer
        reached = {one: self._settings[one].model_copy(update=same) for one in self._reached(name, set())}
        return Target(name, digest(reached))

    def _reached(self, name: str, seen: set[str]) -> list[str]:
        """The route and those it leads to."""
        if name in seen or name not in self._settings:
            return []
        seen.add(name)
        return [name, *(one for target in self._settings[name].targets for one in self._reached(target.model, seen))]

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


def hedges(hedging: Hedging, routes: Mapping[str, RouteSettings]) -> tuple[Hedge, dict[str, Hedge]]:
    """How targets are raced everywhere, and in the routes with rules of their own; one allowance for all of them, but
    for routes that have a budget of their own."""
    shared = Allowance(hedging.budget_share, hedging.budget)
    own: dict[str, Hedge] = {}
    for name, route in routes.items():
        if route.hedging is not None:
            given = route.hedging.model_dump(exclude_none=True)
            allowance = shared
            if not given.keys().isdisjoint(("budget", "budget_share")):
                allowance = Allowance(
                    given.get("budget_share", hedging.budget_share), given.get("budget", hedging.budget)
                )
            own[name] = Hedge(_policy(hedging.model_copy(update=given)), allowance)
    return Hedge(_policy(hedging), shared), own


def _policy(hedging: Hedging) -> HedgePolicy:
    return HedgePolicy(hedging.delay, hedging.whole_delay, hedging.percentile, hedging.enabled)
