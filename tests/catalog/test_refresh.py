"""`make catalog`: how two sources and our corrections become one file. The sources are small inventions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from catalog_tools import changes, genai, litellm_map
from catalog_tools.genai import Offer
from catalog_tools.merge import Merged, merged
from catalog_tools.pricelist import PriceList, nano

TODAY = date(2026, 11, 20)

Rows = dict[tuple[str, str], dict[str, Any]]


def litellm(*, key: str = "m", **fields: Any) -> dict[tuple[str, str], litellm_map.Entry]:
    """The map with one model of OpenAI."""
    said = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06, **fields}
    return litellm_map.read(json.dumps({key: said}))


@dataclass
class Info:
    """A model as genai-prices has it."""

    id: str = "m"
    prices: Callable[[datetime, Mapping[str, str]], dict[str, Any]] = lambda at, context: {"input_mtok": Decimal(2)}
    equal: tuple[str, ...] = ()
    start: str | None = None
    price_variants: list[Any] | None = None
    deprecated: bool = False
    context_window: int | None = None
    conditions: list[Any] = field(default_factory=list)

    @property
    def match(self) -> Any:
        clauses = [SimpleNamespace(equals=name, is_match=name.__eq__) for name in self.equal or (self.id,)]
        if self.start is not None:
            begin = self.start
            clauses = [SimpleNamespace(starts_with=begin, is_match=lambda name: name.startswith(begin))]
        return SimpleNamespace(or_=clauses)

    def is_match(self, name: str) -> bool:
        return any(clause.is_match(name) for clause in self.match.or_)

    def get_prices(self, at: datetime, context: Mapping[str, str] | None = None) -> Any:
        return SimpleNamespace(**self.prices(at, context or {}))


def offer(info: Info, provider: str = "openai", day: date = TODAY) -> Offer:
    return Offer(provider, (info.id,), genai.price_list(info, day), (), info.context_window, info.deprecated, info)


def constant(**usd: Any) -> Callable[[datetime, Mapping[str, str]], dict[str, Any]]:
    return lambda at, context: {f"{kind}_mtok": price for kind, price in usd.items()}


def steps(base: str, *later: tuple[int, str]) -> Any:
    tiers = [SimpleNamespace(start=start, price=Decimal(price)) for start, price in later]
    return SimpleNamespace(base=Decimal(base), tiers=tiers)


def result(entries: Any, *offers: Offer, **corrections: Any) -> Merged:
    return merged(entries, offers, corrections, TODAY)


@pytest.mark.parametrize(
    ("usd", "tokens", "units"),
    [("2.5", 1_000_000, 2_500_000_000), ("0.0000025", 1, 2_500_000_000), ("5.5e-8", 1, 55_000_000), ("1e-16", 1, 0)],
)
def test_money_is_exact(usd: str, tokens: int, units: int) -> None:
    assert nano(Decimal(usd), tokens) == units


def test_prices_are_those_of_genai_prices_and_capabilities_those_of_litellm() -> None:
    entries = litellm(
        output_cost_per_token=9e-06,
        supports_function_calling=True,
        supports_vision=True,
        max_input_tokens=1000,
        max_output_tokens=100,
        deprecation_date="2027-01-01",
    )
    done = result(entries, offer(Info(prices=constant(input=Decimal(3), output=Decimal(12)))))
    assert done.rows["openai", "m"] == {
        "provider": "openai",
        "model": "m",
        "operations": ["chat"],
        "capabilities": ["tools"],
        "input": ["text", "image"],
        "output": ["text"],
        "context_tokens": 1000,
        "max_output_tokens": 100,
        "price": {"input": 3_000_000_000, "output": 12_000_000_000},
        "shutdown": "2027-01-01",
        "sources": ["litellm", "genai-prices"],
    }
    [conflict] = done.conflicts
    assert conflict == "openai/m: genai-prices input $3, output $12; litellm input $2, output $9; taken: genai-prices"


def test_differences_of_a_percent_are_none() -> None:
    done = result(litellm(), offer(Info(prices=constant(input=Decimal("2.02")))))
    assert done.conflicts == []
    assert done.rows["openai", "m"]["price"] == {"input": 2_020_000_000}


def test_a_source_that_names_the_model_beats_one_that_knows_how_it_begins() -> None:
    vague = offer(Info(id="gpt", prices=constant(input=Decimal(7)), start="m"))
    done = result(litellm(key="m-mini"), vague)
    assert done.rows["openai", "m-mini"]["price"] == {"input": 2_000_000_000}
    assert done.conflicts[0].endswith("taken: litellm, which names the model")
    exact = offer(Info(id="m-mini", prices=constant(input=Decimal(8))))
    assert result(litellm(key="m-mini"), vague, exact).rows["openai", "m-mini"]["price"] == {"input": 8_000_000_000}


def test_our_corrections_can_prefer_a_source() -> None:
    other = offer(Info(prices=constant(input=Decimal(7))))
    done = result(litellm(), other, prefer=[{"provider": "openai", "name": "^m$", "source": "litellm"}])
    assert done.rows["openai", "m"]["price"] == {"input": 2_000_000_000}
    assert done.conflicts[0].endswith("taken: litellm, by our corrections")


def test_what_only_one_source_has() -> None:
    alone = result({}, offer(Info(id="new-1-20261101", prices=constant(input=Decimal(1), output=Decimal(2)))))
    row = alone.rows["openai", "new-1-20261101"]
    assert (row["operations"], row["released"], row["sources"]) == (["chat"], "2026-11-01", ["genai-prices"])
    assert "unlisted" not in row  # LiteLLM has nothing of this provider
    beside = result(litellm(), offer(Info(id="n", prices=constant(input=Decimal(1), output=Decimal(2)))))
    assert beside.rows["openai", "n"]["unlisted"] is True
    assert beside.rows["openai", "m"]["sources"] == ["litellm"]
    embeds = result({}, offer(Info(id="text-embed-9", prices=constant(input=Decimal(1)))))
    assert embeds.rows["openai", "text-embed-9"]["operations"] == ["embed"]
    assert result({}, offer(Info(id="whisper-9", prices=constant(input=Decimal(1), output=Decimal(2))))).rows == {}
    assert result({}, offer(Info(id="unpriced", prices=constant()))).rows == {}


def test_windows_of_input_and_of_input_with_output() -> None:
    entries = litellm(max_input_tokens=272_000, max_output_tokens=128_000)
    row = result(entries, offer(Info(context_window=400_000))).rows["openai", "m"]
    assert (row["context_tokens"], row["max_input_tokens"], row["max_output_tokens"]) == (400_000, 272_000, 128_000)
    done = result(entries, offer(Info(context_window=200_000)))
    assert done.rows["openai", "m"]["context_tokens"] == 272_000
    assert done.conflicts == ["openai/m: context 200000; LiteLLM 272000; taken: LiteLLM"]


def test_long_prompts_and_service_tiers_are_complete_lists() -> None:
    standard = {
        "input_mtok": steps("2", (200, "4")),
        "output_mtok": Decimal(10),
        "cache_read_mtok": Decimal("0.2"),
        "cache_write_1h_mtok": Decimal(5),
    }
    flex = {"input_mtok": Decimal(1), "output_mtok": steps("5", (200, "8"))}
    variant = SimpleNamespace(when={"service_tier": "flex"}, prices=SimpleNamespace(**flex), constraint=None)

    def prices(at: datetime, context: Mapping[str, str]) -> dict[str, Any]:
        return standard | (flex if context == variant.when else {})

    row = result({}, offer(Info(prices=prices, price_variants=[variant]))).rows["openai", "m"]
    base = {"output": 10 * 10**9, "cache_read": 200_000_000, "cache_write_1h": 5 * 10**9}
    assert row["price"] == {"input": 2 * 10**9, **base}
    assert row["tiers"] == [
        {"above": 200, "input": 4 * 10**9, **base},
        {"service_tier": "flex", "input": 10**9, "output": 5 * 10**9},  # of the cache at flex nobody says a price
        {"above": 200, "service_tier": "flex", "input": 10**9, "output": 8 * 10**9},
    ]


@pytest.mark.parametrize(
    "prices",
    [
        lambda at, context: {"input_mtok": Decimal(1 if at.time() < time(16, 30) else 2)},
        lambda at, context: {"input_mtok": Decimal(1), "requests_kcount": Decimal(5)},
        lambda at, context: {"input_mtok": Decimal(1), "output_mtok": Decimal(2), "output_reasoning_mtok": Decimal(3)},
    ],
    ids=["by_the_hour", "by_request", "reasoning_apart"],
)
def test_what_cannot_be_said_in_these_numbers_is_not_priced(prices: Any) -> None:
    assert genai.price_list(Info(prices=prices), TODAY).row() == {}
    entries = litellm(max_input_tokens=10)
    assert "price" not in result(entries, offer(Info(prices=prices))).rows["openai", "m"]


def test_media_with_prices_of_their_own() -> None:
    prices = constant(input=Decimal(1), output=Decimal(2), input_audio=Decimal(3), input_image=Decimal(1))
    assert genai.price_list(Info(prices=prices), TODAY).unpriced == ["audio"]
    entry = litellm(input_cost_per_audio_token=3e-05, input_cost_per_image_token=2e-06)["openai", "m"]
    assert entry.prices.unpriced == ["audio"]


def test_litellm_lists() -> None:
    entry = litellm(
        output_cost_per_token=1e-05,
        cache_read_input_token_cost=1e-07,
        cache_creation_input_token_cost=0.0,
        cache_creation_input_token_cost_above_1hr=4e-06,
        input_cost_per_token_above_200k_tokens=4e-06,
        output_cost_per_token_above_200k_tokens=1.5e-05,
        input_cost_per_token_flex=1e-06,
        output_cost_per_token_flex=5e-06,
        input_cost_per_token_batches=1e-06,
    )["openai", "m"]
    assert entry.prices.row() == {
        "price": {"input": 2 * 10**9, "output": 10**10, "cache_read": 10**8, "cache_write_1h": 4 * 10**9},
        "tiers": [
            {"above": 200_000, "input": 4 * 10**9, "output": 15 * 10**9},
            {"service_tier": "flex", "input": 10**9, "output": 5 * 10**9},
        ],
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
        {"off_peak_pricing": {"input_cost_per_token": 1e-06}},
        {"input_cost_per_request": 0.01},
        {"output_cost_per_token": 1e-06, "output_cost_per_reasoning_token": 3e-06},
        {"input_cost_per_token": 3.2},
    ],
    ids=["nothing_but_zeros", "by_the_hour", "by_request", "reasoning_apart", "a_thousand_times_too_much"],
)
def test_litellm_prices_that_cannot_be_used(fields: dict[str, Any]) -> None:
    assert litellm(**fields)["openai", "m"].prices.row() == {}


def test_rerankers_bill_searches_or_tokens() -> None:
    by_search = litellm(mode="rerank", input_cost_per_query=0.002, input_cost_per_token=0.0)
    assert result(by_search).rows["openai", "m"]["price"] == {"search": 2_000_000}
    assert result(litellm(mode="rerank")).rows["openai", "m"]["price"] == {"input": 2 * 10**9}
    done = result(by_search, offer(Info(prices=constant(input=Decimal(1)))))
    assert done.rows["openai", "m"]["price"] == {"search": 2_000_000}


def test_prices_by_steps() -> None:
    ranges = [
        {"range": [0, 32_000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        {"range": [32_000.0, 64_000.0], "input_cost_per_token": 2e-06, "output_cost_per_token": 4e-06},
    ]
    text = json.dumps({"dashscope/q": {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": ranges}})
    assert litellm_map.read(text)["dashscope", "q"].prices.row() == {
        "price": {"input": 10**9, "output": 2 * 10**9},
        "tiers": [{"above": 32_000, "input": 2 * 10**9, "output": 4 * 10**9}],
    }


@pytest.mark.parametrize(
    ("key", "provider", "name"),
    [
        ("gpt-5", "openai", ("openai", "gpt-5")),
        ("gemini/gemini-2.5-pro", "gemini", ("gemini", "gemini-2.5-pro")),
        ("vertex_ai/claude-opus-5@default", "vertex_ai-anthropic_models", ("vertex", "claude-opus-5@default")),
        ("us.anthropic.claude-opus-5", "bedrock_converse", ("bedrock", "us.anthropic.claude-opus-5")),
        ("bedrock/moonshotai.kimi-k2-thinking", "bedrock", ("bedrock", "moonshotai.kimi-k2-thinking")),
        ("together_ai/Qwen/Qwen3.6-Plus", "together_ai", ("together", "Qwen/Qwen3.6-Plus")),
        ("fireworks_ai/accounts/fireworks/models/x", "fireworks_ai", ("fireworks", "accounts/fireworks/models/x")),
        ("azure/gpt-4o", "azure", ("azure", "gpt-4o")),
        ("azure/eu/gpt-4o", "azure", None),
        ("bedrock/us-east-1/1-month-commitment/anthropic.claude-v2:1", "bedrock", None),
        ("together-ai-4.1b-8b", "together_ai", None),
        ("sample_spec", "one of many", None),
    ],
)
def test_keys_of_the_map_and_names_of_models(key: str, provider: str, name: tuple[str, str] | None) -> None:
    found = litellm_map.read(json.dumps({key: {"litellm_provider": provider, "mode": "chat"}}))
    assert list(found) == ([name] if name is not None else [])


def test_modes_that_no_operation_reaches_are_left_out() -> None:
    for mode in ("image_generation", "audio_speech", "realtime", "moderation", None):
        assert litellm(mode=mode) == {}
    assert litellm(mode="rerank")["openai", "m"].facts["operations"] == ["rerank"]


def test_corrections() -> None:
    entries = litellm(supports_function_calling=True, supports_mid_conversation_system=True, max_input_tokens=9)
    entries |= litellm(key="gone")
    done = result(
        entries,
        drop=[{"name": "^gone$"}],
        rules=[
            {"provider": "openai", "having": ["tools"], "add": ["citations"], "takes": ["document"]},
            {"provider": "openai", "lacking": ["tools"], "add": ["logprobs"]},
            {"names": ["m*"], "except": ["mm*"], "remove": ["system-turns"], "set": {"max_output_tokens": 3}},
            {"provider": "mistral", "add": ["logprobs"]},
        ],
        models=[
            {"provider": "openai", "model": "m", "deprecated": "2026-10-01", "unset": ["context_tokens"]},
            {"provider": "ollama", "model": "l", "operations": ["chat"], "input": ["text"], "local": True},
        ],
    )
    assert list(done.rows) == [("ollama", "l"), ("openai", "m")]
    row = done.rows["openai", "m"]
    assert (row["capabilities"], row["input"]) == (["tools", "citations"], ["text", "document"])
    assert row["deprecated"] == "2026-10-01"
    assert "context_tokens" not in row
    assert row["sources"] == ["litellm", "corrections"]
    assert done.rows["ollama", "l"]["sources"] == ["corrections"]


def test_our_own_corrections_are_well_formed() -> None:
    given = yaml.safe_load((Path(changes.__file__).parent / "corrections.yaml").read_text())
    assert given.keys() == {"prefer", "drop", "rules", "models"}
    keys = {"provider", "names", "except", "operation", "having", "lacking", "add", "remove", "takes", "set", "unset"}
    assert all(rule.keys() <= keys for rule in given["rules"])
    assert {one["source"] for one in given["prefer"]} <= {"litellm", "genai-prices"}
    models = [(row["provider"], row["model"]) for row in given["models"]]
    assert len(set(models)) == len(models)


def test_summary_and_refusal() -> None:
    old: Rows = {("p", name): {"model": name, "price": {"input": 10}} for name in "abcdefghijklmnop"}
    new: Rows = {
        **old,
        ("p", "a"): {"model": "a", "price": {"input": 101}},
        ("p", "b"): {"model": "b", "price": {"input": 99}},
    }
    new |= {("p", "c"): {"model": "c", "price": {"input": 10}, "context_tokens": 3}, ("p", "z"): {"model": "z"}}
    del new["p", "d"]
    found = changes.compared(old, new)
    assert (found.added, found.removed) == (["p/z"], ["p/d"])
    assert [line.partition(":")[0] for line in found.prices] == ["p/a", "p/b"]
    assert found.facts == ["p/c: context_tokens"]
    assert found.absurd == ["p/a: input 10 -> 101"]
    assert "1 removed\n  p/d" in found.summary(full=False)
    assert changes.compared(old, {key: row for key, row in old.items() if key[1] > "c"}).absurd == [
        "3 of 16 models gone"
    ]
    assert changes.compared({("p", "a"): {"price": {"input": 0}}}, {("p", "a"): {"price": {"input": 1}}}).absurd


def test_a_row_keeps_its_day_until_it_changes() -> None:
    old: Rows = {
        ("p", "a"): {"model": "a", "checked": "2026-01-01"},
        ("p", "b"): {"model": "b", "checked": "2026-01-01"},
    }
    new: Rows = {("p", "a"): {"model": "a"}, ("p", "b"): {"model": "b", "local": True}}
    assert [row["checked"] for row in changes.dated(old, new, "2026-11-20")] == ["2026-01-01", "2026-11-20"]


def test_an_empty_price_list_says_nothing() -> None:
    assert PriceList({"output": 5}, unpriced=["audio"]).row() == {}
