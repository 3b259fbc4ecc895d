"""Reads the catalogue; a model becomes a message when somebody first asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Self

import orjson

from parley import v1

_LIMITS = ("context_tokens", "max_input_tokens", "max_output_tokens", "embedding_dimensions", "max_embed_inputs")
_SNAPSHOT = re.compile(r"(?:[-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest|:[\w.-]+)$")


class Catalog:
    """Looks models up by the provider's own names.

    Exact names come first. A name the catalogue does not have is looked up once more without its snapshot: a date
    ("-2026-03-05", "-20251001", "@20251001"), "-latest", or the tag of a local model (":8b"). Nothing else is guessed.
    """

    def __init__(self, data: dict[str, Any], clock: Callable[[], float] = time.time) -> None:
        self.version: str = data["version"]
        """Day of the data, and version of its price list."""
        self._clock = clock
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        for row in data["models"]:
            self._rows.setdefault(row["provider"], {})[row["model"]] = row
        self._built: dict[tuple[str, str], v1.Model] = {}

    @classmethod
    def load(cls) -> Self:
        """The catalogue that comes with the gateway."""
        return cls(orjson.loads(resources.files(__package__).joinpath("models.json").read_bytes()))

    def get(self, provider: str, model: str) -> v1.Model | None:
        """The model, if known, under the name it has in the catalogue. Shared: copy it before you change it."""
        row = self._row(provider, model)
        return None if row is None else self._model(row)

    def models(self, provider: str) -> list[v1.Model]:
        """What the provider offers today: without models that were shut down, and without local ones."""
        now = self._clock()
        return [
            self._model(row)
            for row in self._rows.get(provider, {}).values()
            if not row.get("local") and ("shutdown" not in row or _day(row["shutdown"]).timestamp() > now)
        ]

    def price_up_to(self, provider: str, model: str) -> int | None:
        """Input tokens up to which the model's price holds; None: any number."""
        row = self._row(provider, model)
        return None if row is None else row.get("price_up_to")

    def _row(self, provider: str, model: str) -> dict[str, Any] | None:
        rows = self._rows.get(provider, {})
        return rows.get(model) or rows.get(_SNAPSHOT.sub("", model))

    def _model(self, row: dict[str, Any]) -> v1.Model:
        key = (row["provider"], row["model"])
        model = self._built.get(key)
        if model is None:
            model = self._built[key] = self._build(row)
        return model

    def _build(self, row: dict[str, Any]) -> v1.Model:
        model = v1.Model(
            id=f"{row['provider']}/{row['model']}",
            provider=row["provider"],
            provider_model=row["model"],
            operations=row["operations"],
            capabilities=row.get("capabilities", ()),
            input_modalities=[v1.Modality.Value(f"MODALITY_{kind.upper()}") for kind in row["input"]],
            output_modalities=[v1.Modality.Value(f"MODALITY_{kind.upper()}") for kind in row.get("output", ())],
            limits=v1.ModelLimits(**{name: row[name] for name in _LIMITS if name in row}),
        )
        if "price" in row:
            prices = {f"{kind}_nano_usd": price for kind, price in row["price"].items()}
            model.pricing.CopyFrom(v1.ModelPricing(**prices, price_version=self.version))
        if "shutdown" in row:
            day = _day(row["shutdown"])
            model.shutdown_time.FromDatetime(day)
            if day.timestamp() > self._clock():
                model.state = v1.Model.STATE_DEPRECATED
        return model


def _day(date: str) -> datetime:
    return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
