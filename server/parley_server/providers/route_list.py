"""Routes as they are listed among the models: each says what is true of all its targets."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from parley import v1

_LIMITS: tuple[Literal["context_tokens", "max_input_tokens", "max_output_tokens", "max_embed_inputs"], ...] = (
    "context_tokens",
    "max_input_tokens",
    "max_output_tokens",
    "max_embed_inputs",
)
_LISTS = ("operations", "capabilities", "input_modalities", "output_modalities")


class Models(Protocol):
    """The models there are."""

    def get(self, model_id: str) -> v1.Model | None: ...
    def ids_of(self, bare_name: str) -> list[str]: ...
    def ids(self) -> list[str]: ...
    def after(self, model_id: str) -> Iterable[v1.Model]: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What a route is listed with: IDs of the models it stands for, each once."""

    targets: tuple[str, ...]
    display_name: str = ""


class RouteList:
    """Models and routes under one roof. A route wins over models of that name: bare names are only a convenience."""

    def __init__(self, models: Models, routes: Mapping[str, Shown]) -> None:
        self._models = models
        self._routes = dict(sorted(routes.items()))

    def get(self, model_id: str) -> v1.Model | None:
        """The route or model with this ID, if there is one."""
        shown = self._routes.get(model_id)
        return self._models.get(model_id) if shown is None else self._model(model_id, shown)

    def ids_of(self, bare_name: str) -> list[str]:
        """IDs of what goes by `bare_name`."""
        return [bare_name] if bare_name in self._routes else self._models.ids_of(bare_name)

    def ids(self) -> list[str]:
        """All IDs, in order."""
        return list(heapq.merge(self._routes, self._models.ids()))

    def after(self, model_id: str) -> Iterable[v1.Model]:
        """What is behind `model_id` in order of ID; all for an empty one."""
        if not self._routes:
            return self._models.after(model_id)
        routes = (self._model(name, shown) for name, shown in self._routes.items() if name > model_id)
        return heapq.merge(routes, self._models.after(model_id), key=lambda model: model.id)

    def _model(self, name: str, shown: Shown) -> v1.Model:
        route = v1.Model(id=name, display_name=shown.display_name, targets=shown.targets)
        found = [model for model in map(self._models.get, shown.targets) if model is not None]
        route.state = v1.Model.STATE_ACTIVE
        if all(model.state == v1.Model.STATE_UNAVAILABLE for model in found) and found:
            route.state = v1.Model.STATE_UNAVAILABLE
        if len(found) < len(shown.targets):  # of the others nothing is known, so neither is what all have in common
            return route
        for name in _LISTS:
            first, *others = (getattr(model, name) for model in found)
            getattr(route, name).extend(one for one in first if all(one in other for other in others))
        for name in _LIMITS:
            if all(model.limits.HasField(name) for model in found):
                setattr(route.limits, name, min(getattr(model.limits, name) for model in found))
        dimensions = {model.limits.embedding_dimensions for model in found}
        if len(dimensions) == 1 and dimensions != {0}:
            route.limits.embedding_dimensions = dimensions.pop()
        return route
