"""Which models there are: configured, listed by providers, known to the catalogue; merged and kept in memory."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from typing import Protocol

import structlog

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.steps import SteppedModels
from parley_server.providers import stepped
from parley_server.providers.base import Provider
from parley_server.providers.endpoint import Wire
from parley_server.transports.base import Transport

_PAGES = 100
_PAGE_BYTES = 16 * 1024 * 1024
_TIMEOUT = 15.0

log = structlog.get_logger("parley.models")


class Catalog(Protocol):
    """Limits, capabilities and prices of well-known models, and what the operator says of those of provider `owner`."""

    def get(self, provider: str, model: str, owner: str) -> v1.Model | None: ...
    def models(self, provider: str, owner: str) -> Iterable[v1.Model]: ...
    def own(self, model: str, owner: str) -> v1.Model | None: ...
    def today(self) -> int: ...


class Directory:
    """Answers from memory; `refresh()` asks the providers. A provider that is down keeps the models it last listed."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        catalog: Catalog,
        transport: Transport | None = None,
        *,
        on_change: Callable[[], object],
    ) -> None:
        self._on_change = on_change
        self._providers = dict(providers)
        self._catalog = catalog
        self._transport = transport
        self._listed: dict[str, list[v1.Model]] = {}
        self._down: set[str] = set()
        self._models: dict[str, v1.Model] = {}
        self._ids: list[str] = []
        self._bare: dict[str, list[str]] = {}
        self._merge()

    def get(self, model_id: str) -> v1.Model | None:
        """The model with this ID, if known. One that nobody lists may still be in the catalogue under a dated name."""
        known = self._models.get(model_id)
        if known is not None:
            return known
        provider, _, name = model_id.partition("/")
        return self._card(provider, name) if provider in self._providers else None

    def lists(self, model_id: str) -> bool:
        """Whether it is among those that are listed."""
        return model_id in self._models

    def ids_of(self, bare_name: str) -> list[str]:
        """IDs of the models that providers call `bare_name`."""
        return self._bare.get(bare_name, [])

    def ids(self) -> list[str]:
        """All IDs, in order."""
        return self._ids

    def after(self, model_id: str) -> Iterable[v1.Model]:
        """The models behind `model_id` in order of ID; all for an empty one."""
        return (self._models[i] for i in self._ids[bisect.bisect_right(self._ids, model_id) :])

    def adopt(self, other: Directory, names: Collection[str]) -> None:
        """Take over what `other` was told by the providers that go by `names`."""
        self._listed |= {name: models for name, models in other._listed.items() if name in names}
        self._down |= other._down & set(names)
        self._merge()

    async def refresh(self, names: Collection[str] | None = None) -> None:
        """Ask every provider (those that go by `names`) that has a listing, all at once; each answer counts at once.

        Failures are logged and remembered, never raised.
        """
        async with asyncio.TaskGroup() as group:
            for provider in self._providers.values():
                if provider.models is not None and (names is None or provider.name in names):
                    group.create_task(self._refresh(provider))
        if self._catalog.today() != self._merged_on:  # a new day: models are deprecated, shut down, have another price
            self._merge()

    async def keep_fresh(self, interval: float) -> None:
        """Refresh now and every `interval` seconds, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(interval)

    async def _refresh(self, provider: Provider) -> None:
        listed, down = self._listed.get(provider.name), provider.name in self._down
        try:
            async with asyncio.timeout(_TIMEOUT):
                self._listed[provider.name] = await list_models(provider, self._transport)
            self._down.discard(provider.name)
        except Exception as error:  # whatever one provider answers, the others are listed, and it is asked again
            unexpected = not isinstance(error, GatewayError | TimeoutError)
            if unexpected or not down:
                why = str(error) or "no answer in time"
                log.warning("models_not_listed", provider=provider.name, error=why, exc_info=unexpected)
            self._down.add(provider.name)
        if (self._listed.get(provider.name), provider.name in self._down) != (listed, down):
            self._merge()

    def _merge(self) -> None:
        self._merged_on = self._catalog.today()
        models: dict[str, v1.Model] = {}
        for provider in self._providers.values():
            listed = {model.provider_model: model for model in self._listed.get(provider.name, ())}
            names = listed.keys() | set(provider.known_models)
            if provider.name not in self._listed and not provider.own_names:  # never reached: this is to be expected
                names |= {model.provider_model for model in self._catalog.models(provider.catalog, provider.name)}
            for name in names:
                models[f"{provider.name}/{name}"] = self._merged(provider, name, listed.get(name))
        self._models = models
        self._ids = sorted(models)
        self._bare = {}
        for model_id in self._ids:
            self._bare.setdefault(models[model_id].provider_model, []).append(model_id)
        self._on_change()

    def _merged(self, provider: Provider, name: str, listed: v1.Model | None) -> v1.Model:
        """Facts of the catalogue, overlaid with what the provider says, and that with what the operator says."""
        model = self._card(provider.name, name) or v1.Model()
        if listed is not None:
            _overlay(model, listed)
            own = self._catalog.own(provider.base_models.get(name, name), provider.name)
            if own is not None:
                _overlay(model, own)
        model.id, model.provider, model.provider_model = f"{provider.name}/{name}", provider.name, name
        if not model.operations:
            operations = provider.operations()  # nobody says what it does: whatever its provider does may work
            named = [operation for operation in ("embed", "rerank") if operation in name.lower()]
            model.operations.extend([o for o in named if o in operations] or operations)
        if provider.name in self._down:
            model.state = v1.Model.STATE_UNAVAILABLE
        elif not model.state:
            model.state = v1.Model.STATE_ACTIVE
        return model

    def _card(self, provider: str, name: str) -> v1.Model | None:
        owner = self._providers[provider]
        card = self._catalog.get(owner.catalog, owner.base_models.get(name, name), owner.name)
        if card is None:
            return None
        model = v1.Model()
        model.CopyFrom(card)
        model.id, model.provider, model.provider_model = f"{provider}/{name}", provider, name
        return model


def _overlay(model: v1.Model, facts: v1.Model) -> None:
    """Put `facts` on top of `model`, each list as a whole."""
    for repeated in ("operations", "capabilities", "input_modalities", "output_modalities"):
        if getattr(facts, repeated):
            model.ClearField(repeated)
    if facts.HasField("pricing"):
        model.ClearField("pricing")  # one price list or the other, never lines of both
    model.MergeFrom(facts)


async def probe(provider: Provider, transport: Transport | None = None) -> None:
    """Raises what the provider's dialect or the transport raises, unless the provider answers as one of its kind."""
    if isinstance(provider.models, SteppedModels):
        wire = Wire(provider, Target(provider.name, ""), transport, connect_timeout=5)
        await stepped.probe(wire, provider.models)
    else:
        await list_models(provider, transport)


async def list_models(provider: Provider, transport: Transport | None = None) -> list[v1.Model]:
    """All models the provider lists, page by page. Raises what the provider's dialect or the transport raises."""
    dialect = provider.models
    if dialect is None:
        return []
    wire = Wire(provider, Target(provider.name, ""), transport, connect_timeout=5)
    if isinstance(dialect, SteppedModels):
        return await stepped.converse_models(wire, dialect)
    models: list[v1.Model] = []
    cursor = ""
    for _ in range(_PAGES):
        incoming = await wire.send(dialect.encode(cursor), dialect)
        async with aclosing(incoming):
            body = await incoming.read(_PAGE_BYTES)
        page, cursor = dialect.decode(body, provider.name)
        models += page
        if not cursor:
            break
    return models
