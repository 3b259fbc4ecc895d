"""The operator's file on top of the catalogue, and how it is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.catalog import Catalog
from parley_server.catalog.overlay import Overlay
from parley_server.config import Config, load
from parley_server.config_sources import ConfigError
from tests.catalog.test_catalog import Day, small


def overlay(provider: str = "p", version: str = "", **models: Any) -> dict[str, Any]:
    return Overlay.model_validate({"version": version, "providers": {provider: models}}).rows()


def model(catalog: Catalog, name: str = "m", owner: str = "p") -> v1.Model:
    found = catalog.get("p", name, owner)
    assert found is not None
    return found


def configured(file: Path, text: str, providers: str = "{mock: {}, openai: {api_key: env:K}}") -> Config:
    file.write_text(text)
    return load(f"catalog: {{overlay: {file}}}\nproviders: {providers}", {"K": "k"})


def test_what_a_row_leaves_out_the_catalogue_says() -> None:
    rows = overlay(m={"context_tokens": 5000, "capabilities": ["json-schema"]})
    catalog = small(
        {"context_tokens": 1000, "max_output_tokens": 100, "capabilities": ["tools"], "price": {"input": 5}},
        overlay=rows,
    )
    ours, others = model(catalog), model(catalog, owner="q")
    assert (ours.limits.context_tokens, ours.limits.max_output_tokens) == (5000, 100)
    assert list(ours.capabilities) == ["json-schema"]
    assert ours.pricing == others.pricing
    assert others.limits.context_tokens == 1000
    assert list(others.capabilities) == ["tools"]


def test_prices_replace_the_whole_list() -> None:
    tiers = [{"above": 10, "input": 6}, {"service_tier": "flex", "input": 3}]
    later = [{"from": "2026-01-01", "price": {"input": 8}}]
    prices = {"input": "1.50", "output": 2, "cache_read": 0.15, "cache_write_1h": "3"}
    own = [{"service_tier": "flex", "input": "0.75"}, {"above_input_tokens": 200_000, "input": "3"}]
    rows = overlay(version="2026-11 Acme", m={"prices": prices, "tiers": own, "unpriced": ["audio"]})
    catalog = small({"price": {"input": 5}, "tiers": tiers, "later": later, "unpriced": ["image"]}, overlay=rows)
    assert model(catalog).pricing == v1.ModelPricing(
        input_nano_usd=1_500_000_000,
        output_nano_usd=2_000_000_000,
        cache_read_nano_usd=150_000_000,
        cache_write_1h_nano_usd=3_000_000_000,
        price_version="2026-11 Acme",
        unpriced_modalities=[v1.MODALITY_AUDIO],
        tiers=[
            v1.PriceTier(service_tier="flex", input_nano_usd=750_000_000),
            v1.PriceTier(above_input_tokens=200_000, input_nano_usd=3_000_000_000),
        ],
    )


def test_searches() -> None:
    pricing = model(small({}, overlay=overlay(m={"prices": {"search": "0.002"}}))).pricing
    assert (pricing.search_nano_usd, pricing.HasField("input_nano_usd")) == (2_000_000, False)


def test_prices_that_are_taken_away() -> None:
    pricing = model(small({"price": {"input": 5}}, overlay=overlay(m={"prices": {}}))).pricing
    assert not pricing.HasField("input_nano_usd")


def test_a_price_list_without_a_version_is_told_by_its_content() -> None:
    one, same, other = (
        model(small({}, overlay=overlay(m={"prices": {"input": usd}}))).pricing.price_version for usd in ("1", "1", "2")
    )
    assert one == same != other
    assert one.startswith("overlay-")


def test_models_that_the_catalogue_does_not_have() -> None:
    rows = overlay(own={"operations": ["embed"], "input": ["text"], "embedding_dimensions": 64})
    catalog = small({}, overlay=rows)
    assert [m.provider_model for m in catalog.models("p", "p")] == ["m", "own"]
    assert [m.provider_model for m in catalog.models("p", "q")] == ["m"]
    assert list(model(catalog, "own").operations) == ["embed"]
    assert model(catalog, "OWN").provider_model == "own"
    own = Catalog.load(overlay("my-vllm", llama={"context_tokens": 7})).get("", "llama", "my-vllm")
    assert own is not None
    assert own.limits.context_tokens == 7


def test_days() -> None:
    rows = overlay(
        m={"released": "2026-01-01", "deprecated": "2026-06-01", "shutdown": "2026-12-31"}, n={"shutdown": None}
    )
    catalog = small({}, {"model": "n", "shutdown": "2026-01-01"}, overlay=rows, day=Day("2026-07-01"))
    one, other = model(catalog), model(catalog, "n")
    assert one.state == v1.Model.STATE_DEPRECATED
    assert one.shutdown_time.ToDatetime(UTC) == datetime(2026, 12, 31, tzinfo=UTC)
    assert not other.HasField("shutdown_time")
    assert "n" in [m.provider_model for m in catalog.models("p", "p")]


def test_what_the_operator_alone_says() -> None:
    catalog = small({"context_tokens": 5}, overlay=overlay(m={"max_output_tokens": 3, "shutdown": None}))
    own = catalog.own("M", "p")
    assert own is not None
    assert not own.limits.HasField("context_tokens")
    assert own.limits.max_output_tokens == 3
    assert catalog.own("m", "q") is None
    assert catalog.own("n", "p") is None


def test_a_snapshot_follows_the_row_of_its_model() -> None:
    catalog = small({"price": {"input": 5}}, overlay=overlay(m={"prices": {"input": "1"}}))
    assert model(catalog, "m-2026-01-01").pricing.input_nano_usd == 10**9


@given(st.decimals(0, 1_000_000, places=9))
def test_prices_are_exact(usd: Any) -> None:
    rows = overlay(m={"prices": {"input": str(usd)}})
    assert rows["p"]["m"]["price"]["input"] == int(usd * 10**9)


def test_a_file_that_is_right(tmp_path: Path) -> None:
    text = '{"version": "7", "providers": {"openai": {"gpt-4.1": {"prices": {"input": "1.80", "output": "7.20"}}}}}'
    config = configured(tmp_path / "models.json", text)
    rows = config.catalog.overlay.rows()
    assert rows["openai"]["gpt-4.1"]["price"] == {"input": 1_800_000_000, "output": 7_200_000_000}
    assert load("providers: {}", {}).catalog.overlay.rows() == {}
    assert configured(tmp_path / "empty.yaml", "# nothing yet").catalog.overlay.rows() == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("provders: {}", "provders: unknown key; did you mean providers?"),
        ("providers: {openai: {m: {contxt_tokens: 5}}}", "m.contxt_tokens: unknown key; did you mean context_tokens?"),
        ("providers: {openai: {m: {prices: {imput: 1}}}}", "m.prices.imput: unknown key; did you mean input?"),
        (
            "providers: {openai: {m: {prices: {input: 1}, tiers: [{service_teir: flex, input: 1}]}}}",
            "m.tiers.0.service_teir: unknown key; did you mean service_tier?",
        ),
        ("providers: {openai: {m: {prices: {input: cheap}}}}", "m.prices.input: 'cheap' is no number of dollars"),
        ("providers: {openai: {m: {prices: {input: -1}}}}", "m.prices.input: dollars for a million tokens"),
        ("providers: {openai: {m: {prices: {input: .nan}}}}", "m.prices.input: dollars for a million tokens"),
        ("providers: {openai: {m: {prices: {input: true}}}}", "m.prices.input: dollars for a million tokens"),
        ("providers: {openai: {m: {prices: {input: '1e-10'}}}}", "m.prices.input: prices have at most nine decimals"),
        ("providers: {openai: {m: {tiers: [{service_tier: flex, input: 1}]}}}", "m: tiers and unpriced belong to"),
        ("providers: {openai: {m: {prices: {input: 1}, tiers: [{input: 1}]}}}", "m.tiers.0: says neither"),
        ("providers: {openai: {m: {prices: {input: 1, search: 1}}}}", "m.prices: a model bills searches or tokens"),
        ("providers: {openai: {m: {operations: [sing]}}}", "m.operations.0: Input should be 'chat', 'embed'"),
        ("providers: {openai: {m: {capabilities: [Tools]}}}", "m.capabilities.0: String should match"),
        ("providers: {openai: {m: {shutdown: soon}}}", "m.shutdown: Input should be a valid date"),
        (
            "providers: {openai: {m: {context_tokens: 0}}}",
            "m.context_tokens: Input should be greater than or equal to 1",
        ),
        ("providers: {opnai: {m: {}}}", "catalog.overlay.providers.opnai: no provider goes by this name; did you mean"),
        ("providers: {openai: 5}", "providers.openai: should be a mapping of settings"),
        ("- a list", "catalog.overlay: should be a mapping of settings"),
        ("providers: {", "models.yaml is not YAML: "),
    ],
)
def test_refusals_say_where_and_what_was_meant(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path / "models.yaml", text)
    [said] = caught.value.problems
    assert said.startswith("catalog.overlay")
    assert problem in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"catalog.overlay: cannot read .*none.yaml: No such file"):
        load(f"catalog: {{overlay: {tmp_path}/none.yaml}}", {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(f"catalog: {{overlay: {tmp_path}/binary}}", {})


def test_it_can_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("providers: {mock: {echo: {context_tokens: 9}}}")
    config = load("", {"PARLEY_CATALOG__OVERLAY": str(file)})
    assert config.catalog.overlay.rows() == {"mock": {"echo": {"model": "echo", "context_tokens": 9}}}


def test_a_kind_that_is_not_set_up_here_may_be_in_a_shared_file(tmp_path: Path) -> None:
    assert configured(tmp_path / "m.yaml", "providers: {anthropic: {m: {}}}", "{mock: {}}").catalog.overlay.providers
