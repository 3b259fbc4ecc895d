"""Reads the catalogue; a provider's models are parsed, and each becomes a message, when somebody first asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Self

import orjson

from parley import v1
from parley_server.catalog.names import candidates

_LIMITS = ("context_tokens", "max_input_tokens", "max_output_tokens", "embedding_dimensions", "max_embed_inputs")
_DAY = 86_400
_NOTICE = 180 * _DAY
_LINE = b'{"provider": "'

Row = dict[str, Any]
"""A model as the package's docstring has it."""


class Catalog:
    """Looks models up by the provider's own names, or by what `names.candidates` makes of them.

    `text`: a file such as `models.json`, one model a line, those of a provider together. `overlay`: what the operator
    says (`Overlay.rows`), by short name of a provider in the configuration; questions name it as `owner`. Days are in
    UTC, and decide at midnight what is deprecated, shut down or has another price.
    """

    def __init__(
        self,
        text: bytes,
        overlay: Mapping[str, Mapping[str, Row]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        head, _, body = text.partition(b'"models": [\n')
        self.version: str = orjson.loads(head.rstrip(b" ,\n") + b"}")["version"]
        """Day of the data, and version of its price list."""
        self._clock = clock
        self._text = _by_provider(body)
        self._overlay = overlay or {}
        self._rows: dict[tuple[str, str], dict[str, Row]] = {}
        self._built: dict[tuple[str, str, str, bool], v1.Model] = {}
        self._built_on = self.today()

    @classmethod
    def load(cls, overlay: Mapping[str, Mapping[str, Row]] | None = None) -> Self:
        """The catalogue that comes with the gateway, with the operator's `overlay`."""
        return cls(resources.files(__package__).joinpath("models.json").read_bytes(), overlay)

    def today(self) -> int:
        """The day it is, as a number. With it changes what the catalogue says."""
        return int(self._clock() // _DAY)

    def providers(self) -> list[str]:
        """Whose models are in the file."""
        return list(self._text)

    def get(self, provider: str, model: str, owner: str = "") -> v1.Model | None:
        """The model, if known, under the name it has in the catalogue. Shared: copy it before you change it."""
        for candidate in candidates(provider, model):
            whose = owner if candidate.provider == provider else ""
            row = self._of(candidate.provider, whose).get(candidate.name.lower())
            if row is not None:
                return self._model(row, whose, priced=candidate.priced)
        return None

    def models(self, provider: str, owner: str = "") -> list[v1.Model]:
        """What the provider offers today: without models that were shut down, local ones, and unlisted ones."""
        now = self._clock()
        return [
            self._model(row, owner)
            for row in self._of(provider, owner).values()
            if not (row.get("local") or row.get("unlisted"))
            and ("shutdown" not in row or _day(row["shutdown"]).timestamp() > now)
        ]

    def own(self, model: str, owner: str) -> v1.Model | None:
        """What the operator alone says of a model, under the name that the overlay has."""
        row = self._overlay.get(owner, {}).get(model.lower())
        if row is None:
            return None
        return self._build({"provider": owner, **{field: value for field, value in row.items() if value is not None}})

    def _of(self, provider: str, owner: str) -> dict[str, Row]:
        """The provider's rows by name in lower case: no two models differ in case alone."""
        rows = self._rows.get((provider, owner))
        if rows is None:
            parsed = orjson.loads(b"[" + self._text.get(provider, b"") + b"]")
            rows = {row["model"].lower(): row for row in parsed}
            for name, own in self._overlay.get(owner, {}).items():
                row = {"provider": provider, **rows.get(name, {}), **own}
                rows[name] = {field: value for field, value in row.items() if value is not None}
            self._rows[provider, owner] = rows
        return rows

    def _model(self, row: Row, owner: str, *, priced: bool = True) -> v1.Model:
        today = self.today()
        if today != self._built_on:
            self._built, self._built_on = {}, today
        key = (row["provider"], owner, row["model"], priced)
        model = self._built.get(key)
        if model is None:
            model = self._built[key] = self._build(row)
            if not priced:
                model.ClearField("pricing")
        return model

    def _build(self, row: Row) -> v1.Model:
        model = v1.Model(
            id=f"{row['provider']}/{row['model']}",
            provider=row["provider"],
            provider_model=row["model"],
            operations=row.get("operations", ()),
            capabilities=row.get("capabilities", ()),
            input_modalities=_modalities(row.get("input", ())),
            output_modalities=_modalities(row.get("output", ())),
            limits=v1.ModelLimits(**{name: row[name] for name in _LIMITS if name in row}),
        )
        now = self._clock()
        prices = row
        for later in row.get("later", ()):
            if _day(later["from"]).timestamp() <= now:
                prices = later
        if "price" in prices:
            model.pricing.CopyFrom(_pricing(prices, row.get("price_version", self.version)))
        self._set_dates(model, row, now)
        return model

    def _set_dates(self, model: v1.Model, row: Row, now: float) -> None:
        """Days, and the state they make. `deprecated: true` means on a day that nobody knows."""
        deprecated, shutdown = row.get("deprecated"), row.get("shutdown")
        is_deprecated = deprecated is True
        if "released" in row:
            model.create_time.FromDatetime(_day(row["released"]))
        if isinstance(deprecated, str):
            model.deprecate_time.FromDatetime(_day(deprecated))
            is_deprecated = _day(deprecated).timestamp() <= now
        if shutdown is not None:
            end = _day(shutdown)
            model.shutdown_time.FromDatetime(end)
            if end.timestamp() <= now:
                return  # whether somebody still serves it, only its provider can say
            # many publish the day with the release: it means something when it comes near
            is_deprecated = is_deprecated or (deprecated is None and end.timestamp() - now <= _NOTICE)
        if is_deprecated:
            model.state = v1.Model.STATE_DEPRECATED


def _by_provider(body: bytes) -> dict[str, bytes]:
    """Lines of each provider, joined by commas as they stand in the file."""
    parts: dict[str, bytes] = {}
    start = 0
    while body.startswith(_LINE, start):
        name = body[start + len(_LINE) : body.index(b'"', start + len(_LINE))]
        mark = _LINE + name + b'"'
        end = start
        while body.startswith(mark, end):
            end = body.index(b"\n", end) + 1
        parts[name.decode()] = body[start:end].rstrip(b",\n")
        start = end
    return parts


def _modalities(names: list[str]) -> list[v1.Modality.ValueType]:
    return [v1.Modality.Value(f"MODALITY_{name.upper()}") for name in names]


def _pricing(prices: Row, version: str) -> v1.ModelPricing:
    pricing = v1.ModelPricing(
        **_nano(prices["price"]), price_version=version, unpriced_modalities=_modalities(prices.get("unpriced", []))
    )
    for tier in prices.get("tiers", ()):
        pricing.tiers.add(
            above_input_tokens=tier.get("above", 0), service_tier=tier.get("service_tier", ""), **_nano(tier)
        )
    return pricing


def _nano(prices: Row) -> dict[str, Any]:
    return {f"{kind}_nano_usd": price for kind, price in prices.items() if kind not in ("above", "service_tier")}


def _day(date: str) -> datetime:
    return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
