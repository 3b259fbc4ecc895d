"""The operator's own file on top of the catalogue: models it does not have, negotiated prices, other limits.

    version: "2026-11"                 # of the prices; in `price_version`
    providers:
      openai:                          # short name of a provider in the configuration
        gpt-4.1:
          prices: {input: "1.80", output: "7.20", cache_read: "0.45"}
      my-vllm:
        llama-local:
          context_tokens: 32768
          capabilities: [tools, json-schema]
          prices: {input: "0", output: "0"}

What a row leaves out, the catalogue says. Prices come as a whole list: one that is given replaces all the catalogue's.
"""

from __future__ import annotations

import hashlib
from datetime import date
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from parley_server.settings import Name, Section

_NANO = Decimal(10**9)
_MODALITIES = Literal["text", "image", "audio", "video", "document"]
_Tokens = Annotated[int, Field(ge=1, lt=2**31)]


def _usd(value: object) -> Decimal:
    """Dollars as written: a text, or a number as YAML has it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError('dollars for a million tokens, such as "2.50"')
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f'{value!r} is no number of dollars; write it as "2.50"') from None
    if not (usd.is_finite() and 0 <= usd <= 1_000_000):
        raise ValueError("dollars for a million tokens: 0 to 1000000")
    if usd * _NANO != (usd * _NANO).to_integral_value(ROUND_DOWN):
        raise ValueError("prices have at most nine decimals")
    return usd


Usd = Annotated[Decimal, BeforeValidator(_usd)]


class TokenPrices(Section):
    """US dollars for a million tokens."""

    input: Usd | None = Field(None, description="Input.")
    output: Usd | None = Field(None, description="Output.")
    cache_read: Usd | None = Field(None, description="Cache reads; what input costs if left out.")
    cache_write: Usd | None = Field(None, description="Cache writes; what input costs if left out.")
    cache_write_1h: Usd | None = Field(None, description="Cache writes that live for an hour.")

    def nano(self) -> dict[str, int]:
        """Billionths of a dollar, as rows have them."""
        given = {name: getattr(self, name) for name in TokenPrices.model_fields}
        return {name: int(usd * _NANO) for name, usd in given.items() if usd is not None}


class Prices(TokenPrices):
    """US dollars for a million tokens, or for one search."""

    search: Usd | None = Field(None, description="One search, not a million, of a reranker that bills no tokens.")

    @model_validator(mode="after")
    def _searches_or_tokens(self) -> Prices:
        if self.search is not None and any(getattr(self, name) is not None for name in TokenPrices.model_fields):
            raise ValueError("a model bills searches or tokens, not both")
        return self

    def all_nano(self) -> dict[str, int]:
        """Billionths of a dollar, that of a search among them."""
        return self.nano() if self.search is None else {"search": int(self.search * _NANO)}


class Tier(TokenPrices):
    """A price list of its own: above a prompt size, at a service tier, or both."""

    above_input_tokens: int = Field(0, ge=0, lt=2**31, description="Applies to requests with more input tokens.")
    service_tier: str = Field("", max_length=64, description='Applies at this service tier, such as "flex".')

    @model_validator(mode="after")
    def _applies_somewhere(self) -> Tier:
        if not self.above_input_tokens and not self.service_tier:
            raise ValueError("says neither above_input_tokens nor service_tier: when does it apply?")
        return self


class OwnModel(Section):
    """What the operator says of a model."""

    operations: tuple[Literal["chat", "embed", "rerank"], ...] = Field((), description="What can be asked of it.")
    capabilities: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")], ...] = Field(
        (), description="What it can do, such as tools, json-schema, reasoning."
    )
    input: tuple[_MODALITIES, ...] = Field((), description="Media it takes.")
    output: tuple[_MODALITIES, ...] = Field((), description="Media it gives.")
    context_tokens: _Tokens | None = Field(None, description="Context window.")
    max_input_tokens: _Tokens | None = Field(None, description="Most input tokens.")
    max_output_tokens: _Tokens | None = Field(None, description="Most output tokens.")
    embedding_dimensions: _Tokens | None = Field(None, description="Dimensions of an embedding.")
    max_embed_inputs: _Tokens | None = Field(None, description="Most inputs of one provider call of Embed.")
    prices: Prices | None = Field(None, description="Standard prices.")
    tiers: tuple[Tier, ...] = Field((), description="Price lists above a prompt size or at a service tier.")
    unpriced: tuple[_MODALITIES, ...] = Field((), description="Media whose tokens cost something else.")
    released: date | None = Field(None, description="Day of release.")
    deprecated: date | None = Field(None, description="Deprecated from this day on.")
    shutdown: date | None = Field(None, description="Gone from this day on; null: the catalogue is wrong, it stays.")

    @model_validator(mode="after")
    def _tiers_need_prices(self) -> OwnModel:
        if (self.tiers or self.unpriced) and self.prices is None:
            raise ValueError("tiers and unpriced belong to prices, which are not given")
        return self

    def row(self, version: str) -> dict[str, Any]:
        """The fields that are given, as rows of the catalogue have them; None takes a field away."""
        priced = {"prices", "tiers", "unpriced"}
        row = {name: _plain(getattr(self, name)) for name in self.model_fields_set - priced}
        if self.prices is not None:
            tiers = [
                {"above": tier.above_input_tokens, "service_tier": tier.service_tier, **tier.nano()}
                for tier in self.tiers
            ]
            row |= {"price": self.prices.all_nano(), "tiers": tiers, "unpriced": list(self.unpriced), "later": None}
            row["price_version"] = version
        return row


class Overlay(Section):
    """The file."""

    version: str = Field("", max_length=64, description="Version of the prices, for price_version.")
    providers: dict[Name, dict[str, OwnModel]] = Field({}, description="Models by provider and name.")

    def rows(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Rows by short name of the provider and the provider's own name of the model, in lower case."""
        version = self.version or f"overlay-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"
        return {
            provider: {name.lower(): {"model": name, **model.row(version)} for name, model in models.items()}
            for provider, models in self.providers.items()
        }


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def text_of(path: str) -> str:
    """The file's text. Raises ValueError in words for whoever wrote the path."""
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8 text") from None
