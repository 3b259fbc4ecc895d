"""From a model name to the target it means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from parley import v1
from parley_server.core.context import Operation
from parley_server.core.errors import InvalidRequest, ModelNotFound, OperationUnsupported, Violation
from parley_server.core.target import Target
from parley_server.providers.base import Provider


class Listing(Protocol):
    """What is known about models now."""

    def get(self, model_id: str) -> v1.Model | None: ...
    def ids_of(self, bare_name: str) -> list[str]: ...
    def ids(self) -> list[str]: ...


class Registry:
    """Resolves model names: `provider/name`, or a bare name that exactly one configured provider lists."""

    def __init__(self, providers: Mapping[str, Provider], listing: Listing) -> None:
        self.providers = dict(providers)
        self._listing = listing

    def resolve(self, model: str, operation: Operation) -> tuple[Provider, Target]:
        """The provider and target that `model` names.

        Raises ModelNotFound, InvalidRequest for an ambiguous bare name, OperationUnsupported. A model that a configured
        provider does not list is passed on to it: lists lag behind, and the provider has the last word.
        """
        prefix, _, name = model.partition("/")
        if not name or prefix not in self.providers:
            prefix, _, name = self._by_bare_name(model).partition("/")
        provider = self.providers[prefix]
        card = self._listing.get(f"{prefix}/{name}")
        if operation not in provider.operations() or (card is not None and operation not in card.operations):
            raise OperationUnsupported(
                f"the model {prefix}/{name} does not {operation}", facts={"model": f"{prefix}/{name}"}
            )
        target = Target(prefix, name, card, provider.base_models.get(name, ""))
        return provider, replace(target, region=provider.region_of(target))

    def _by_bare_name(self, model: str) -> str:
        match self._listing.ids_of(model):
            case [one]:
                return one
            case []:
                near = difflib.get_close_matches(model, self._listing.ids(), n=3, cutoff=0.4)
                hint = (
                    f"; did you mean {' or '.join(near)}?"
                    if near
                    else f"; providers: {', '.join(sorted(self.providers))}"
                )
                raise ModelNotFound(f"no model goes by the name {model!r}{hint}", facts={"model": model})
            case several:
                message = f"several providers have {model!r}: write {' or '.join(several)}"
                raise InvalidRequest(message, violations=[Violation("model", message, "AMBIGUOUS_MODEL")])
