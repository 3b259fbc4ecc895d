"""Models as a table for people: `parley-server models`."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from parley import v1

_HEAD = ("model", "operations", "context", "input $", "output $", "cached $", "other prices", "state")
_NANO = 10**9


def table(models: Iterable[v1.Model]) -> str:
    """One line a model under a heading; prices are dollars for a million tokens. `-` is for what nobody says."""
    rows = [_HEAD, *(_cells(model) for model in models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    right = range(2, 6)  # numbers
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _cells(model: v1.Model) -> tuple[str, ...]:
    price, limits = model.pricing, model.limits
    return (
        model.id,
        ",".join(model.operations) or "-",
        str(limits.context_tokens) if limits.HasField("context_tokens") else "-",
        _usd(price.input_nano_usd) if price.HasField("input_nano_usd") else "-",
        _usd(price.output_nano_usd) if price.HasField("output_nano_usd") else "-",
        _usd(price.cache_read_nano_usd) if price.HasField("cache_read_nano_usd") else "-",
        _others(price) or "-",
        _state(model),
    )


def _usd(nano: int) -> str:
    """At least two decimals, and as many as it takes."""
    digits = f"{Decimal(nano) / _NANO:f}"
    whole, _, decimals = digits.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _others(price: v1.ModelPricing) -> str:
    """Where other lists apply: prompt sizes, service tiers, media."""
    sizes = sorted({tier.above_input_tokens for tier in price.tiers if not tier.service_tier})
    services = sorted({tier.service_tier for tier in price.tiers if tier.service_tier})
    media = [v1.Modality.Name(kind).removeprefix("MODALITY_").lower() for kind in price.unpriced_modalities]
    searches = [f"{_usd(price.search_nano_usd)} a search"] if price.HasField("search_nano_usd") else []
    return ",".join([*searches, *(f">{size}" for size in sizes), *services, *(f"no {medium}" for medium in media)])


def _state(model: v1.Model) -> str:
    state = v1.Model.State.Name(model.state).removeprefix("STATE_").lower()
    if model.HasField("shutdown_time"):
        state += f" until {model.shutdown_time.ToDatetime():%Y-%m-%d}"
    return state
