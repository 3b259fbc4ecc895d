"""Price lists in whole numbers: billionths of a US dollar for a million tokens, exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

KINDS = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
SEARCH = "search"
"""One search: the price of a reranker that bills no tokens."""
NANO = 10**9

Prices = dict[str, int]
"""By kind of tokens, those of `KINDS`; or of a search."""


@dataclass(slots=True)
class PriceList:
    """What one source says of a model's prices."""

    base: Prices
    """The standard prices; without `input` or `search` the source knows none that can be used."""
    tiers: list[dict[str, Any]] = field(default_factory=list)
    """Lists of their own: `above` (input tokens) or `service_tier`, or both, and prices."""
    unpriced: list[str] = field(default_factory=list)
    """Media whose tokens have other prices."""

    def row(self) -> dict[str, Any]:
        """The fields of a catalogue row."""
        if SEARCH in self.base:
            return {"price": {SEARCH: self.base[SEARCH]}}
        if "input" not in self.base:
            return {}
        fields: dict[str, Any] = {"price": ordered(self.base)}
        if self.tiers:
            fields["tiers"] = sorted(self.tiers, key=lambda tier: (tier.get("service_tier", ""), tier.get("above", 0)))
        if self.unpriced:
            fields["unpriced"] = sorted(set(self.unpriced))
        return fields


def tier(prices: Mapping[str, int], above: int = 0, service_tier: str = "") -> dict[str, Any]:
    """An entry of `PriceList.tiers`."""
    head: dict[str, Any] = {"above": above} if above else {}
    if service_tier:
        head["service_tier"] = service_tier
    return head | ordered(prices)


def ordered(prices: Mapping[str, int]) -> Prices:
    """The prices in the order of `KINDS`."""
    return {kind: prices[kind] for kind in KINDS if kind in prices}


def nano(usd: Decimal, tokens: int) -> int:
    """Billionths of a dollar for a million tokens, where `usd` dollars are asked for `tokens`. Rounds half up."""
    return int((usd * NANO * 1_000_000 / tokens).to_integral_value(ROUND_HALF_UP))


def differing(one: Mapping[str, int], other: Mapping[str, int], by: Decimal) -> list[str]:
    """Kinds of tokens that both price, and whose prices differ by more than the share `by` of the larger."""
    return [
        kind
        for kind in KINDS
        if kind in one and kind in other and abs(one[kind] - other[kind]) > by * max(one[kind], other[kind])
    ]


def factor(one: int, other: int) -> Decimal:
    """By how much the larger of two prices is larger; infinite where only one is nothing."""
    low, high = sorted((one, other))
    if low == high:
        return Decimal(1)
    return Decimal("Infinity") if low == 0 else Decimal(high) / Decimal(low)


def spelt(prices: Mapping[str, int]) -> str:
    """Prices for people, in dollars for a million tokens."""
    return ", ".join(f"{kind} ${Decimal(price) / NANO:f}" for kind, price in prices.items())
