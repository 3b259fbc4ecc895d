"""How the catalogue is read: names, prices, and what days make of them."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from parley import v1
from parley_server.catalog import Catalog
from parley_server.core.usage import cost

ACTIVE_OR_UNKNOWN, DEPRECATED = v1.Model.STATE_UNSPECIFIED, v1.Model.STATE_DEPRECATED


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


class Day:
    """A clock that shows midnight of a day."""

    def __init__(self, day: str) -> None:
        self.set(day)

    def set(self, day: str) -> None:
        self.now = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


def small(*models: dict[str, Any], day: Day | None = None, overlay: dict[str, Any] | None = None) -> Catalog:
    """A catalogue of these models of the provider `p`, or of the one they name."""
    rows = [{"provider": "p", "model": "m", "operations": ["chat"], "input": ["text"], **model} for model in models]
    lines = ",\n".join(orjson.dumps(row).decode().replace('":', '": ').replace(',"', ', "') for row in rows)
    return Catalog(f'{{"version": "v7",\n "models": [\n{lines}\n]}}\n'.encode(), overlay, day or Day("2026-11-20"))


@pytest.mark.parametrize(
    ("provider", "model", "known_as"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("openai", "gpt-6.1-sol-2026-10-01", "gpt-6.1-sol"),
        ("openai", "GPT-4o", "gpt-4o"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-opus-5-5@20260901", "claude-opus-5-5"),
        ("anthropic", "claude-opus-5-5-latest", "claude-opus-5-5"),
        ("ollama", "qwen3:8b", "qwen3"),
        ("ollama", "nomic-embed-text:latest", "nomic-embed-text"),
        ("bedrock", "ca.anthropic.claude-opus-5-5", "anthropic.claude-opus-5-5"),
        ("openai", "gpt-4o-turbo-ultra", None),
        ("openai", "claude-opus-5-5", None),
        ("nobody", "gpt-4o", None),
        ("openai", "", None),
        ("", "gpt-4o", None),
    ],
)
def test_lookup(catalog: Catalog, provider: str, model: str, known_as: str | None) -> None:
    found = catalog.get(provider, model)
    assert (found.provider_model if found is not None else None) == known_as


def test_prices_in_billionths_of_a_dollar_per_million_tokens(catalog: Catalog) -> None:
    model = catalog.get("openai", "gpt-4o")
    assert model is not None
    bill = cost(model.pricing, v1.Usage(input_tokens=1_000_000, output_tokens=1_000_000))
    assert bill is not None
    assert bill.total_nano_usd == 12_500_000_000  # $2.50 and $10.00
    assert bill.price_version == catalog.version


def test_prices_of_long_prompts_of_service_tiers_and_of_the_hour_cache(catalog: Catalog) -> None:
    haiku = catalog.get("anthropic", "claude-haiku-5-5")
    assert haiku is not None
    usage = v1.Usage(input_tokens=200_000, cache_write_input_tokens=100_000, cache_write_1h_input_tokens=50_000)
    bill = cost(haiku.pricing, usage)
    assert bill is not None
    assert bill.input_nano_usd == 50_000_000  # $0.50 a million above 100k
    assert bill.cache_write_nano_usd == 31_250_000 + 50_000_000  # $0.625 and $1.00
    sol = catalog.get("openai", "gpt-6.1-sol")
    assert sol is not None
    flex = cost(sol.pricing, v1.Usage(input_tokens=1_000_000, output_tokens=0), "flex")
    assert flex is not None
    assert flex.total_nano_usd == 2_000_000_000  # half of the price above 272k


def test_a_candidate_that_costs_something_else_lends_no_price(catalog: Catalog) -> None:
    region, tuned = catalog.get("bedrock", "ca.anthropic.claude-opus-5-5"), catalog.get("openai", "ft:gpt-4o:us::id")
    own = catalog.get("bedrock", "us.anthropic.claude-opus-5-5")
    assert region is not None
    assert tuned is not None
    assert own is not None
    assert not region.HasField("pricing")
    assert not tuned.HasField("pricing")
    assert own.HasField("pricing")
    assert tuned.limits.context_tokens == 128_000
    base = catalog.get("openai", "gpt-4o")
    assert base is not None
    assert base.HasField("pricing")  # what is shared was not spoilt


def test_local_models_are_known_but_not_offered(catalog: Catalog) -> None:
    model = catalog.get("ollama", "all-minilm")
    assert model is not None
    assert model.limits.embedding_dimensions == 384
    assert not model.HasField("pricing")
    assert catalog.models("ollama") == []


def test_what_only_a_price_list_has_is_known_but_not_offered() -> None:
    catalog = small({"model": "old", "unlisted": True}, {"model": "new"})
    assert catalog.get("p", "old") is not None
    assert [model.provider_model for model in catalog.models("p")] == ["new"]


@pytest.mark.parametrize(
    ("days", "now", "state", "offered"),
    [
        ({"deprecated": "2026-11-30"}, "2026-11-29", ACTIVE_OR_UNKNOWN, True),
        ({"deprecated": "2026-11-30"}, "2026-11-30", DEPRECATED, True),
        ({"deprecated": "2026-11-30", "shutdown": "2027-01-31"}, "2026-11-29", ACTIVE_OR_UNKNOWN, True),
        ({"deprecated": "2026-11-30", "shutdown": "2027-01-31"}, "2027-01-30", DEPRECATED, True),
        ({"deprecated": "2026-11-30", "shutdown": "2027-01-31"}, "2027-01-31", ACTIVE_OR_UNKNOWN, False),
        ({"deprecated": True}, "2026-01-01", DEPRECATED, True),
        ({"deprecated": True, "shutdown": "2027-01-31"}, "2027-01-31", ACTIVE_OR_UNKNOWN, False),
        ({"shutdown": "2026-11-30"}, "2026-11-29", DEPRECATED, True),
        ({"shutdown": "2026-11-30"}, "2026-06-03", DEPRECATED, True),
        ({"shutdown": "2026-11-30"}, "2026-06-02", ACTIVE_OR_UNKNOWN, True),
        ({"shutdown": "2026-11-30"}, "2026-11-30", ACTIVE_OR_UNKNOWN, False),
        ({"shutdown": "2026-11-30"}, "2027-03-01", ACTIVE_OR_UNKNOWN, False),
        ({}, "2027-03-01", ACTIVE_OR_UNKNOWN, True),
    ],
)
def test_days_decide_states(days: dict[str, Any], now: str, state: v1.Model.State.ValueType, offered: bool) -> None:
    catalog = small({"model": "m", "released": "2025-01-01", **days}, day=Day(now))
    model = catalog.get("p", "m")
    assert model is not None
    assert model.state == state
    assert model.create_time.ToDatetime(UTC) == datetime(2025, 1, 1, tzinfo=UTC)
    assert model.HasField("deprecate_time") is isinstance(days.get("deprecated"), str)
    assert model.HasField("shutdown_time") is ("shutdown" in days)
    if "shutdown" in days:
        assert model.shutdown_time.ToDatetime(UTC).date().isoformat() == days["shutdown"]
    assert [m.provider_model for m in catalog.models("p")] == (["m"] if offered else [])


def test_states_and_prices_change_at_midnight_while_it_runs() -> None:
    day = Day("2026-11-29")
    later = [
        {"from": "2026-11-30", "price": {"input": 7}},
        {"from": "2026-12-31", "price": {"input": 9}, "unpriced": ["audio"]},
    ]
    tiers = [{"above": 3, "input": 6}]
    catalog = small({"deprecated": "2026-11-30", "price": {"input": 5}, "tiers": tiers, "later": later}, day=day)

    def seen() -> tuple[int, int, int, int]:
        model = catalog.get("p", "m")
        assert model is not None
        return (
            model.state,
            model.pricing.input_nano_usd,
            len(model.pricing.tiers),
            len(model.pricing.unpriced_modalities),
        )

    before = catalog.today()
    assert seen() == (ACTIVE_OR_UNKNOWN, 5, 1, 0)
    day.set("2026-11-30")
    assert catalog.today() == before + 1
    assert seen() == (DEPRECATED, 7, 0, 0)
    day.set("2027-01-01")
    assert seen() == (DEPRECATED, 9, 0, 1)


def test_what_is_not_known_is_not_set() -> None:
    model = small({"model": "m", "price": {"input": 5}}).get("p", "m")
    assert model is not None
    assert not model.limits.HasField("context_tokens")
    assert not model.pricing.HasField("output_nano_usd")
    assert model.pricing.price_version == "v7"
    assert model.state == ACTIVE_OR_UNKNOWN
    assert not model.HasField("create_time")


def test_providers_are_told_apart_by_their_whole_name() -> None:
    catalog = small({"provider": "p", "model": "a"}, {"provider": "p2", "model": "b"}, {"provider": "q", "model": "c"})
    assert catalog.providers() == ["p", "p2", "q"]
    assert [model.id for model in catalog.models("p")] == ["p/a"]
    assert [model.id for model in catalog.models("p2")] == ["p2/b"]
    assert catalog.models("") == []


def test_it_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        catalog = Catalog.load()
        loaded, _ = tracemalloc.get_traced_memory()
        for provider in catalog.providers():
            catalog.models(provider)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert loaded < 4 * 2**20
    assert used < 30 * 2**20
