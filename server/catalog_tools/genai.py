"""Reads genai-prices: prices by day, context windows, and which names mean a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from catalog_tools.pricelist import KINDS, PriceList, Prices, nano, tier

PROVIDERS: dict[str, tuple[str, ...]] = {
    "anthropic": ("anthropic",),
    "arcee": ("arcee",),
    "aws": ("bedrock",),
    "azure": ("azure",),
    "baseten": ("baseten",),
    "cerebras": ("cerebras",),
    "cloudflare": ("cloudflare",),
    "cohere": ("cohere",),
    "databricks": ("databricks",),
    "deepseek": ("deepseek",),
    "doubleword": ("doubleword",),
    "fireworks": ("fireworks",),
    "google": ("gemini", "vertex"),
    "groq": ("groq",),
    "minimax": ("minimax",),
    "mistral": ("mistral",),
    "moonshotai": ("moonshot",),
    "novita": ("novita",),
    "openai": ("openai",),
    "openrouter": ("openrouter",),
    "ovhcloud": ("ovhcloud",),
    "perplexity": ("perplexity",),
    "together": ("together",),
    "voyageai": ("voyage",),
    "x-ai": ("xai",),
    "zai": ("zai",),
}
"""Ours by theirs. `huggingface_x` is the backend x of Hugging Face's router."""

_FIELDS = {kind: f"{kind}_mtok" for kind in KINDS}
_MEDIA = {
    "audio": ("input_audio_mtok", "output_audio_mtok", "cache_audio_read_mtok", "audio_hours", "input_audio_hours"),
    "image": ("input_image_mtok", "output_image_mtok", "cache_image_read_mtok"),
    "video": ("input_video_mtok", "output_video_mtok"),
}
_FEES = ("requests_kcount", "input_mchars", "input_text_messages_kcount", "output_citation_mtok")
_SERVICE_TIERS = {("processing", "batch"): "batch", ("service_tier", "flex"): "flex"}
_SERVICE_TIERS |= {("service_tier", "priority"): "priority", ("service_tier", "fast"): "fast"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One model of genai-prices."""

    provider: str
    """Our key."""
    names: tuple[str, ...]
    """How the API spells it."""
    prices: PriceList
    later: tuple[tuple[date, PriceList], ...]
    """Prices that are known to apply from a day on."""
    context: int | None
    deprecated: bool
    _info: Any
    _suffix: str = ""

    def means(self, name: str) -> bool:
        """Whether `name` means this model."""
        if not name.endswith(self._suffix):
            return False
        return bool(self._info.is_match(name.removesuffix(self._suffix)))

    def names_exactly(self, name: str) -> bool:
        """Whether it does so literally, or by a pattern, rather than because it begins or ends alike."""
        bare = name.removesuffix(self._suffix).lower()
        return bare == self._info.id.lower() or _exact(self._info.match, bare)


def offers(today: date) -> Iterator[Offer]:
    """All models of the providers we speak to, as of `today`."""
    from genai_prices.data import providers

    for provider in providers:
        backend = provider.id.removeprefix("huggingface_") if provider.id.startswith("huggingface_") else ""
        for info in provider.models:
            for ours in PROVIDERS.get(provider.id, ("huggingface",) if backend else ()):
                suffix = f":{backend}" if backend else ""
                yield Offer(
                    ours,
                    tuple(f"{name}{suffix}" for name in _names(info)),
                    price_list(info, today),
                    tuple((day, price_list(info, day)) for day in _changes(info, today)),
                    info.context_window,
                    bool(info.deprecated),
                    info,
                    suffix,
                )


def _names(info: Any) -> list[str]:
    """Its ID, which for some is made up; then what it is equal to."""
    if info.is_match(info.id):
        return [info.id]
    return [name for name in _equals(info.match) if "/" not in name or name.startswith("accounts/")]


def _clauses(match: Any) -> Iterator[Any]:
    inner = getattr(match, "or_", None)
    if inner is None:
        yield match
    else:
        for clause in inner:
            yield from _clauses(clause)


def _equals(match: Any) -> list[str]:
    return [clause.equals for clause in _clauses(match) if hasattr(clause, "equals")]


def _exact(match: Any, name: str) -> bool:
    literal = [clause for clause in _clauses(match) if hasattr(clause, "equals") or hasattr(clause, "regex")]
    return any(clause.is_match(name) for clause in literal)


def _changes(info: Any, today: date) -> list[date]:
    conditions = [price.constraint for price in info.prices] if isinstance(info.prices, list) else []
    conditions += [variant.constraint for variant in info.price_variants or ()]
    return sorted({c.start_date for c in conditions if hasattr(c, "start_date") and c.start_date > today})


def price_list(info: Any, day: date) -> PriceList:
    """The price list of a day; an empty one if it changes with the hour, or has fees that are not for tokens."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    by_hour = [info.get_prices(midnight + timedelta(minutes=30 * half)) for half in range(48)]
    base = by_hour[0]
    if any(_given(prices) != _given(base) for prices in by_hour):
        return PriceList({})
    given = _given(base)
    output = given.get("output_mtok")
    if any(name in given for name in _FEES) or given.get("output_reasoning_mtok", output) != output:
        return PriceList({})
    prices = PriceList(_at(given, 0))
    prices.tiers += [tier(_at(given, start), start) for start in _starts(given)]
    prices.unpriced += [medium for medium, names in _MEDIA.items() if _has_own(given, names)]
    for when, name in _SERVICE_TIERS.items():
        said = _said_of(info, dict([when]), midnight)
        if said & {"input_mtok", "output_mtok"}:
            variant = _given(info.get_prices(midnight, dict([when])))
            # where nobody names a price of the cache at this tier, the standard one is none
            known = {kind: value for kind, value in variant.items() if kind in said or not kind.startswith("cache")}
            for start in (0, *_starts(known)):
                prices.tiers.append(tier(_at(known, start), start, name))
    return prices


def _said_of(info: Any, when: dict[str, str], at: datetime) -> set[str]:
    """Kinds of tokens for which it has a price of its own in this context."""
    variants = [variant for variant in info.price_variants or () if variant.when == when]
    active = [one for one in variants if one.constraint is None or one.constraint.active(at)]
    return {name for variant in active for name in _given(variant.prices)}


def _given(prices: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(prices).items() if value is not None}


def _has_own(given: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Whether one of these prices differs from that of text."""
    for name in names:
        side = "output_mtok" if name.startswith("output") else "cache_read_mtok" if "cache" in name else "input_mtok"
        if name in given and given[name] != given.get(side):
            return True
    return False


def _starts(given: dict[str, Any]) -> list[int]:
    return sorted({step.start for name in _FIELDS.values() for step in getattr(given.get(name), "tiers", ())})


def _at(given: dict[str, Any], start: int) -> Prices:
    """Prices of a prompt just above `start` tokens; of one without tokens for 0."""
    prices: Prices = {}
    for kind, name in _FIELDS.items():
        if (value := given.get(name)) is not None:
            steps = [step.price for step in getattr(value, "tiers", ()) if step.start <= start] if start else []
            usd: Decimal = steps[-1] if steps else getattr(value, "base", value)
            prices[kind] = nano(usd, 1_000_000)
    return prices
