"""The file that comes with the gateway: every line of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from importlib import resources
from typing import Any

import orjson
import pytest

from parley import v1
from parley_server.catalog import Catalog
from parley_server.core.usage import cost
from parley_server.providers.kinds import known

Row = dict[str, Any]

TEXT = resources.files("parley_server.catalog").joinpath("models.json").read_bytes()
DATA = orjson.loads(TEXT)
ROWS: list[Row] = DATA["models"]

CAPABILITIES = (
    "tools",
    "parallel-tools",
    "json-schema",
    "reasoning",
    "prompt-cache",
    "citations",
    "logprobs",
    "system-turns",
)
MODALITIES = ("text", "image", "document", "audio", "video")
PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
LIMITS = ("context_tokens", "max_input_tokens", "max_output_tokens", "embedding_dimensions", "max_embed_inputs")
FACTS = ("provider", "model", "operations", "capabilities", "input", "output", "price", "tiers", "unpriced", "later")
DAYS_AND_MARKS = ("released", "deprecated", "shutdown", "local", "unlisted", "sources", "checked")


def test_there_are_many_models_of_many_providers() -> None:
    assert len(ROWS) >= 1000
    providers = {row["provider"] for row in ROWS}
    assert len(providers) >= 30
    by_operation = [sum(operation in row["operations"] for row in ROWS) for operation in ("chat", "embed", "rerank")]
    assert all(count >= 20 for count in by_operation)
    assert sum("price" in row for row in ROWS) > 0.9 * len(ROWS)


def test_a_line_is_a_model_and_all_are_in_order() -> None:
    lines = TEXT.decode().splitlines()
    assert [orjson.loads(line.rstrip(",")) for line in lines[3:-1]] == ROWS
    keys = [(row["provider"], row["model"]) for row in ROWS]
    assert keys == sorted(keys)
    assert len({(provider, model.lower()) for provider, model in keys}) == len(keys)  # they are looked up so


def test_the_head_names_day_and_sources() -> None:
    assert date.fromisoformat(DATA["version"])
    assert set(DATA["sources"]) == {"genai-prices", "litellm", "corrections"}


@pytest.mark.parametrize("provider", sorted({row["provider"] for row in ROWS}))
def test_every_line_is_well_formed(provider: str) -> None:
    for row in ROWS:
        if row["provider"] == provider:
            is_well_formed(row)


def is_well_formed(row: Row) -> None:
    assert row.keys() <= {*FACTS, *LIMITS, *DAYS_AND_MARKS}
    assert re.fullmatch(r"[a-z0-9]+", row["provider"])
    assert 0 < len(row["model"]) <= 200
    assert row["model"] == row["model"].strip()
    assert row["operations"] in (["chat"], ["embed"], ["rerank"])
    chats = row["operations"] == ["chat"]
    assert in_order(row.get("capabilities", []), CAPABILITIES)
    assert in_order(row["input"], MODALITIES)
    assert in_order(row.get("output", []), MODALITIES)
    assert "text" in row["input"]
    assert ("output" in row) is chats
    assert chats or "capabilities" not in row
    assert all(isinstance(row[name], int) and 0 < row[name] < 2**31 for name in LIMITS if name in row)
    assert row.get("max_output_tokens", 0) <= row.get("context_tokens", 0)
    assert row.get("max_input_tokens", 0) <= row.get("context_tokens", 0)
    assert ("embedding_dimensions" not in row and "max_embed_inputs" not in row) or row["operations"] == ["embed"]
    assert row.get("local", True) is True
    assert row.get("unlisted", True) is True
    assert row["sources"]
    assert set(row["sources"]) <= set(DATA["sources"])
    for name in ("released", "shutdown", "checked"):
        assert name not in row or date.fromisoformat(row[name])
    assert row.get("deprecated") in (None, True) or date.fromisoformat(row["deprecated"])
    assert row["checked"] <= DATA["version"]
    lists_are_well_formed(row, chats)
    starts = [later["from"] for later in row.get("later", ())]
    assert starts == sorted(set(starts))
    for later in row.get("later", ()):
        assert later.keys() <= {"from", "price", "tiers", "unpriced"}
        assert date.fromisoformat(later["from"])
        lists_are_well_formed(later, chats)


def in_order(names: list[str], order: tuple[str, ...]) -> bool:
    return names == [name for name in order if name in names]


def lists_are_well_formed(row: Row, chats: bool) -> None:
    assert "price" in row or not ({"tiers", "unpriced"} & row.keys())
    if "price" in row:
        assert in_order(list(row["price"]), (*PRICES, "search"))
        assert "input" in row["price"] or (row["price"].keys() == {"search"} and row["operations"] == ["rerank"])
        assert chats or "output" not in row["price"]
    for tier in row.get("tiers", ()):
        assert {"above", "service_tier"} & tier.keys()
        assert tier.keys() <= {"above", "service_tier", *PRICES}
        assert "input" in tier
        assert tier.get("above", 1) > 0
    marks = [(tier.get("service_tier", ""), tier.get("above", 0)) for tier in row.get("tiers", ())]
    assert marks == sorted(set(marks))
    assert all(medium in MODALITIES for medium in row.get("unpriced", ()))
    for prices in (row.get("price", {}), *row.get("tiers", ())):
        given = list({**prices, "above": 0, "service_tier": 0}.values())
        assert all(isinstance(price, int) and 0 <= price <= 10**12 for price in given)  # a thousand dollars


def models() -> Iterator[tuple[Row, v1.Model]]:
    catalog = Catalog.load()
    for row in ROWS:
        model = catalog.get(row["provider"], row["model"])
        assert model is not None
        yield row, model


def test_every_line_becomes_a_message_with_a_price_that_adds_up() -> None:
    usage = v1.Usage(input_tokens=1000, cache_read_input_tokens=10, cache_write_input_tokens=5)
    for row, model in models():
        assert model.id == f"{row['provider']}/{row['model']}"
        assert model.HasField("pricing") is ("price" in row)
        if "price" in row and row["operations"] == ["chat"]:
            assert cost(model.pricing, usage) is not None
            assert model.pricing.price_version == DATA["version"]


def test_every_kind_of_provider_that_names_a_part_of_the_catalogue_has_one() -> None:
    parts = {row["provider"] for row in ROWS}
    cloud = {"openai", "anthropic", "ollama", "gemini", "vertex", "bedrock", "azure", "mistral", "cohere", "groq"}
    cloud |= {"deepseek", "xai", "together", "fireworks", "deepinfra", "perplexity", "openrouter", "cerebras"}
    cloud |= {"sambanova", "nvidia", "moonshot", "dashscope", "zai", "cloudflare", "databricks", "huggingface"}
    cloud |= {"replicate", "watsonx", "voyage"}
    assert cloud <= parts
    assert {"openai", "anthropic", "ollama"} <= known().keys()
