"""The data that comes with the gateway, and how it is looked up."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from parley import v1
from parley_server.catalog import Catalog
from parley_server.core.usage import cost

CAPABILITIES = {
    "system-turns",
    "tools",
    "parallel-tools",
    "json-schema",
    "reasoning",
    "prompt-cache",
    "citations",
    "logprobs",
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def small(*models: dict[str, Any], now: str = "2026-11-20") -> Catalog:
    rows = [{"provider": "p", "operations": ["chat"], "input": ["text"], **model} for model in models]
    clock = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    return Catalog({"version": "v7", "models": rows}, clock=lambda: clock)


def test_every_row_is_well_formed(catalog: Catalog) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", catalog.version)
    for provider in ("openai", "anthropic"):
        models = catalog.models(provider)
        assert len(models) > 10
        for model in models:
            assert model.id == f"{provider}/{model.provider_model}"
            assert list(model.operations) in (["chat"], ["embed"])
            assert set(model.capabilities) <= CAPABILITIES
            assert v1.MODALITY_TEXT in model.input_modalities
            assert model.limits.context_tokens >= 1000
            assert model.limits.max_output_tokens <= model.limits.context_tokens
            if model.operations == ["embed"]:
                assert model.limits.embedding_dimensions > 0
                assert not model.output_modalities
            if model.HasField("pricing"):
                assert model.pricing.price_version == catalog.version
                assert model.pricing.cache_read_nano_usd <= model.pricing.input_nano_usd
                assert cost(model.pricing, v1.Usage(input_tokens=1000, cache_read_input_tokens=10)) is not None


def test_names_are_unique() -> None:
    from importlib import resources

    import orjson

    rows = orjson.loads(resources.files("parley_server.catalog").joinpath("models.json").read_bytes())["models"]
    names = [(row["provider"], row["model"]) for row in rows]
    assert len(set(names)) == len(names)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("provider", "model", "known_as"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("openai", "gpt-6.1-sol-2026-10-01", "gpt-6.1-sol"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-opus-5-5@20260901", "claude-opus-5-5"),
        ("anthropic", "claude-opus-5-5-latest", "claude-opus-5-5"),
        ("ollama", "qwen3:8b", "qwen3"),
        ("ollama", "nomic-embed-text:latest", "nomic-embed-text"),
        ("openai", "gpt-4o-turbo-ultra", None),
        ("openai", "claude-opus-5-5", None),
        ("nobody", "gpt-4o", None),
        ("openai", "", None),
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


def test_local_models_are_known_but_not_offered(catalog: Catalog) -> None:
    model = catalog.get("ollama", "all-minilm")
    assert model is not None
    assert model.limits.embedding_dimensions == 384
    assert not model.HasField("pricing")
    assert catalog.models("ollama") == []


@pytest.mark.parametrize(
    ("now", "state", "offered"),
    [
        ("2026-11-29", v1.Model.STATE_DEPRECATED, True),
        ("2026-11-30", v1.Model.STATE_UNSPECIFIED, False),
        ("2027-03-01", v1.Model.STATE_UNSPECIFIED, False),
    ],
)
def test_shutdown(now: str, state: v1.Model.State.ValueType, offered: bool) -> None:
    catalog = small({"model": "m", "shutdown": "2026-11-30"}, now=now)
    model = catalog.get("p", "m")
    assert model is not None
    assert model.state == state
    assert model.shutdown_time.ToDatetime(UTC) == datetime(2026, 11, 30, tzinfo=UTC)
    assert [m.provider_model for m in catalog.models("p")] == (["m"] if offered else [])


def test_what_is_not_known_is_not_set() -> None:
    model = small({"model": "m", "price": {"input": 5}}).get("p", "m")
    assert model is not None
    assert not model.limits.HasField("context_tokens")
    assert not model.pricing.HasField("output_nano_usd")
    assert model.pricing.price_version == "v7"
    assert model.state == v1.Model.STATE_UNSPECIFIED


def test_prices_that_hold_for_short_prompts_only(catalog: Catalog) -> None:
    assert catalog.price_up_to("openai", "gpt-6.1-sol") == 272_000
    assert catalog.price_up_to("openai", "gpt-4o") is None
    assert catalog.price_up_to("openai", "unknown") is None


def test_loads_quickly() -> None:
    best = min(_timed() for _ in range(3))
    assert best < 0.02


def _timed() -> float:
    start = time.perf_counter()
    Catalog.load()
    return time.perf_counter() - start
