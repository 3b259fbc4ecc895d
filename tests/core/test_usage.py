"""Whole-number costs, and honest estimates."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.usage import cost, estimated_input, estimated_tokens, from_cache, has_media, total, unfinished
from tests.fakes import chat
from tests.strategies import pricings, tiered_pricings, usages

PRICES = v1.ModelPricing(
    input_nano_usd=3_000_000_000,
    output_nano_usd=15_000_000_000,
    cache_read_nano_usd=300_000_000,
    cache_write_nano_usd=3_750_000_000,
    price_version="2026-11-20",
)


def test_four_disjoint_classes() -> None:
    usage = v1.Usage(input_tokens=1000, cache_read_input_tokens=700, cache_write_input_tokens=200, output_tokens=50)
    bill = cost(PRICES, usage)
    assert bill == v1.Cost(
        input_nano_usd=100 * 3000,
        cache_read_nano_usd=700 * 300,
        cache_write_nano_usd=200 * 3750,
        output_nano_usd=50 * 15000,
        total_nano_usd=300_000 + 210_000 + 750_000 + 750_000,
        price_version="2026-11-20",
    )


@given(pricings, usages())
def test_total_is_the_sum_of_the_parts_and_exact_to_half_a_unit_each(pricing: v1.ModelPricing, usage: v1.Usage) -> None:
    bill = cost(pricing, usage)
    assert bill is not None
    parts = (bill.input_nano_usd, bill.cache_read_nano_usd, bill.cache_write_nano_usd, bill.output_nano_usd)
    assert sum(parts) == bill.total_nano_usd
    assert all(part >= 0 for part in parts)
    assert abs(bill.output_nano_usd * 1_000_000 - usage.output_tokens * pricing.output_nano_usd) <= 500_000


LONG = v1.ModelPricing(
    input_nano_usd=2_000_000,
    output_nano_usd=10_000_000,
    cache_read_nano_usd=200_000,
    cache_write_nano_usd=2_500_000,
    cache_write_1h_nano_usd=4_000_000,
    tiers=[
        v1.PriceTier(above_input_tokens=1000, input_nano_usd=8_000_000, output_nano_usd=9_000_000),
        v1.PriceTier(
            above_input_tokens=100,
            input_nano_usd=4_000_000,
            output_nano_usd=15_000_000,
            cache_read_nano_usd=400_000,
            cache_write_nano_usd=5_000_000,
            cache_write_1h_nano_usd=8_000_000,
        ),
        v1.PriceTier(service_tier="flex", input_nano_usd=1_000_000, output_nano_usd=5_000_000),
        v1.PriceTier(service_tier="flex", above_input_tokens=100, input_nano_usd=2_000_000, output_nano_usd=7_000_000),
        v1.PriceTier(service_tier="priority", input_nano_usd=3_000_000),
    ],
)


@pytest.mark.parametrize(
    ("counts", "tier", "total"),
    [
        ({"input_tokens": 100, "output_tokens": 1}, "", 100 * 2 + 10),
        ({"input_tokens": 101, "output_tokens": 1}, "", 101 * 4 + 15),
        ({"input_tokens": 1000, "output_tokens": 1}, "", 1000 * 4 + 15),
        ({"input_tokens": 1001, "output_tokens": 1}, "", 1001 * 8 + 9),
        ({"input_tokens": 110, "cache_read_input_tokens": 110}, "", 44),
        ({"input_tokens": 110, "cache_write_input_tokens": 10}, "", 400 + 50),
        ({"input_tokens": 0}, "", 0),
        ({"input_tokens": 100, "output_tokens": 1}, "flex", 100 + 5),
        ({"input_tokens": 0, "output_tokens": 1}, "flex", 5),
        ({"input_tokens": 101, "output_tokens": 1}, "flex", 202 + 7),
        ({"input_tokens": 100}, "priority", 300),
    ],
)
def test_the_price_list_that_applies_covers_all_tokens(counts: dict[str, Any], tier: str, total: int) -> None:
    bill = cost(LONG, v1.Usage(**counts), tier)
    assert bill is not None
    assert bill.total_nano_usd == total


@pytest.mark.parametrize(
    ("counts", "tier"),
    [
        ({"input_tokens": 10}, "batch"),
        ({"input_tokens": 1001}, "flex"),
        ({"input_tokens": 101}, "priority"),
        ({"input_tokens": 10, "output_tokens": 1}, "priority"),
        ({"input_tokens": 10, "cache_read_input_tokens": 1}, "flex"),
        ({"input_tokens": 10, "cache_write_input_tokens": 1}, "flex"),
        ({"input_tokens": 10, "cache_write_input_tokens": 1, "cache_write_1h_input_tokens": 1}, "flex"),
        ({"input_tokens": 1001, "cache_read_input_tokens": 1}, ""),
    ],
    ids=[
        "service_tier_without_a_list",
        "no_list_of_the_service_tier_for_this_prompt_size",
        "no_list_of_the_service_tier_for_long_prompts",
        "no_price_of_output",
        "no_price_of_cache_reads",
        "no_price_of_cache_writes",
        "no_price_of_long_cache_writes",
        "no_price_of_cache_reads_in_long_prompts",
    ],
)
def test_a_price_list_of_its_own_takes_nothing_from_the_standard_one(counts: dict[str, Any], tier: str) -> None:
    assert cost(LONG, v1.Usage(**counts), tier) is None


def test_tokens_of_a_cache_that_is_billed_as_input_are_so_at_every_service_tier() -> None:
    pricing = v1.ModelPricing(
        input_nano_usd=1_000_000, tiers=[v1.PriceTier(service_tier="flex", input_nano_usd=500_000)]
    )
    bill = cost(pricing, v1.Usage(input_tokens=10, cache_read_input_tokens=4), "flex")
    assert bill is not None
    assert (bill.input_nano_usd, bill.cache_read_nano_usd) == (3, 2)


def test_cache_writes_for_an_hour_have_their_own_price_within_the_class() -> None:
    usage = v1.Usage(input_tokens=50, cache_write_input_tokens=30, cache_write_1h_input_tokens=10)
    bill = cost(LONG, usage)
    assert bill is not None
    assert (bill.input_nano_usd, bill.cache_write_nano_usd) == (40, 50 + 40)
    bill = cost(PRICES, usage)  # no such price: they cost what other writes cost
    assert bill is not None
    assert bill.cache_write_nano_usd == 30 * 3750


@st.composite
def detailed(draw: st.DrawFn) -> v1.Usage:
    usage = draw(usages())
    usage.cache_write_1h_input_tokens = draw(st.integers(0, usage.cache_write_input_tokens))
    return usage


@given(tiered_pricings(), detailed(), st.sampled_from(["", "flex", "priority"]))
def test_bills_are_exact_whatever_list_applies(pricing: v1.ModelPricing, usage: v1.Usage, tier: str) -> None:
    bill = cost(pricing, usage, tier)
    lists = [
        t for t in pricing.tiers if t.service_tier == tier and usage.input_tokens >= max(1, t.above_input_tokens + 1)
    ]
    lists += [
        t for t in pricing.tiers if t.service_tier == tier and not t.above_input_tokens and not usage.input_tokens
    ]
    standard = [
        t.above_input_tokens for t in pricing.tiers if not t.service_tier and usage.input_tokens > t.above_input_tokens
    ]
    prices = max(lists, key=lambda t: t.above_input_tokens, default=None)
    if tier and (prices is None or prices.above_input_tokens < max(standard, default=0)):
        assert bill is None
        return
    assert bill is not None
    listed = prices if prices is not None else pricing
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    exact = Fraction(
        (usage.input_tokens - read - written) * listed.input_nano_usd
        + read * listed.cache_read_nano_usd
        + (written - usage.cache_write_1h_input_tokens) * listed.cache_write_nano_usd
        + usage.cache_write_1h_input_tokens * listed.cache_write_1h_nano_usd
        + usage.output_tokens * listed.output_nano_usd,
        1_000_000,
    )
    assert abs(bill.total_nano_usd - exact) <= 2  # half a unit for each of four classes


@given(
    tiered_pricings(),
    detailed(),
    st.sampled_from(["plain", "read", "written", "output"]),
    st.integers(0, 10**8),
    st.sampled_from(["", "flex"]),
)
def test_more_tokens_never_cost_less_where_long_prompts_are_not_cheaper(
    pricing: v1.ModelPricing, usage: v1.Usage, kind: str, more: int, tier: str
) -> None:
    larger = v1.Usage()
    larger.CopyFrom(usage)
    match kind:
        case "output":
            larger.output_tokens += more
        case "read":
            larger.cache_read_input_tokens += more
        case "written":
            larger.cache_write_input_tokens += more
    if kind != "output":
        larger.input_tokens += more
    one, other = cost(pricing, usage, tier), cost(pricing, larger, tier)
    if one is not None and other is not None:
        assert one.total_nano_usd <= other.total_nano_usd


def test_media_are_found_wherever_they_are() -> None:
    request = chat()
    assert not has_media(request, {"audio", "image"})
    result = v1.ToolResult(parts=[v1.Part(text="x"), v1.Part(image=v1.ImagePart())])
    request.messages.add(parts=[v1.Part(tool_result=result)])
    assert has_media(request, {"audio", "image"})
    assert not has_media(request, {"audio"})
    assert not has_media(v1.EmbedRequest(), {"audio"})


@pytest.mark.parametrize(
    ("pricing", "usage"),
    [
        (v1.ModelPricing(), v1.Usage(input_tokens=1)),
        (v1.ModelPricing(input_nano_usd=1), v1.Usage(input_tokens=1, output_tokens=1)),
        (v1.ModelPricing(output_nano_usd=1), v1.Usage(input_tokens=1, output_tokens=1)),
        (PRICES, v1.Usage()),
        (PRICES, v1.Usage(output_tokens=5)),
    ],
    ids=["no_price", "no_output_price", "no_input_price", "nothing_counted", "input_not_counted"],
)
def test_unknown_stays_unknown(pricing: v1.ModelPricing, usage: v1.Usage) -> None:
    assert cost(pricing, usage) is None


def test_embeddings_need_no_output_price() -> None:
    bill = cost(v1.ModelPricing(input_nano_usd=20_000_000), v1.Usage(input_tokens=8))
    assert bill is not None
    assert bill.total_nano_usd == 160


def test_searches_are_billed_in_place_of_tokens() -> None:
    pricing = v1.ModelPricing(search_nano_usd=2_000_000, price_version="v")
    usage = v1.Usage(input_tokens=500, server_tool_calls={"search": 3})
    assert cost(pricing, usage) == v1.Cost(other_nano_usd=6_000_000, total_nano_usd=6_000_000, price_version="v")
    assert cost(pricing, v1.Usage(server_tool_calls={"search": 1})) is not None
    assert cost(pricing, v1.Usage(input_tokens=500)) is None  # nobody counted searches


def test_free_is_not_unknown() -> None:
    bill = cost(v1.ModelPricing(input_nano_usd=0, output_nano_usd=0), v1.Usage(input_tokens=1, output_tokens=1))
    assert bill is not None
    assert bill.total_nano_usd == 0


def test_cache_tokens_cost_what_input_costs_where_the_cache_has_no_price() -> None:
    pricing = v1.ModelPricing(input_nano_usd=2_000_000, output_nano_usd=0)
    bill = cost(pricing, v1.Usage(input_tokens=10, cache_read_input_tokens=4, cache_write_input_tokens=3))
    assert bill is not None
    assert (bill.input_nano_usd, bill.cache_read_nano_usd, bill.cache_write_nano_usd) == (6, 8, 6)


def test_details_larger_than_the_total_never_make_a_negative_bill() -> None:
    bill = cost(PRICES, v1.Usage(input_tokens=10, cache_read_input_tokens=25))
    assert bill is not None
    assert bill.input_nano_usd == 0


def test_halves_round_up() -> None:
    bill = cost(
        v1.ModelPricing(input_nano_usd=500_000, output_nano_usd=499_999), v1.Usage(input_tokens=1, output_tokens=1)
    )
    assert bill is not None
    assert (bill.input_nano_usd, bill.output_nano_usd) == (1, 0)


@pytest.mark.parametrize(("chars", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_four_characters_are_about_a_token(chars: int, tokens: int) -> None:
    assert estimated_tokens(chars) == tokens


def test_what_the_provider_said_is_partial_while_nothing_came_after_it() -> None:
    usage = unfinished(v1.Usage(input_tokens=10, output_tokens=4, total_tokens=14), chat(), 0)
    assert (usage.source, usage.input_tokens, usage.output_tokens) == (v1.Usage.SOURCE_PARTIAL, 10, 4)


def test_what_came_after_the_last_report_is_estimated_on_top() -> None:
    usage = unfinished(v1.Usage(input_tokens=10, output_tokens=1, total_tokens=11), chat(), 400)
    assert (usage.source, usage.input_tokens, usage.output_tokens) == (v1.Usage.SOURCE_ESTIMATED, 10, 101)
    assert not usage.HasField("total_tokens")


def test_silent_provider_is_estimated_from_characters() -> None:
    usage = unfinished(None, chat(text="x" * 40), 8)
    assert (usage.source, usage.input_tokens, usage.output_tokens) == (v1.Usage.SOURCE_ESTIMATED, 10, 2)


def test_estimate_counts_every_text_that_is_sent_but_no_media() -> None:
    request = chat(text="a" * 4)
    image = v1.ImagePart(source=v1.MediaSource(data=b"x" * 10_000, mime_type="image/png"))
    result = v1.ToolResult(tool_call_id="c", parts=[v1.Part(text="b" * 4)])
    request.messages.add(parts=[v1.Part(image=image), v1.Part(tool_result=result)])
    request.messages.add(parts=[v1.Part(tool_call=v1.ToolCall(name="f" * 4, arguments_json="{}  "))])
    request.messages.add(parts=[v1.Part(reasoning=v1.ReasoningPart(text="c" * 4))])
    request.tools.add(function=v1.FunctionTool(name="n" * 4, description="d" * 4, parameters_json_schema="{}  "))
    request.output.json_schema.json_schema = "{}  "
    assert estimated_input(request) == 9


def test_token_ids_are_counted_as_they_are() -> None:
    inputs = [v1.EmbedInput(text="abcde"), v1.EmbedInput(tokens=v1.TokenIds(ids=[1, 2, 3]))]
    assert estimated_input(v1.EmbedRequest(inputs=inputs)) == 5


def billed(nano_usd: int, **counts: int) -> v1.Usage:
    bill = v1.Cost(output_nano_usd=nano_usd, total_nano_usd=nano_usd, price_version="v")
    return v1.Usage(source=v1.Usage.SOURCE_PROVIDER, cost=bill, **counts)  # type: ignore[arg-type]


def test_attempts_add_up() -> None:
    one = billed(7, input_tokens=10, output_tokens=4, total_tokens=15)
    one.server_tool_calls["search"] = 1
    other = billed(5, input_tokens=1, output_tokens=2, reasoning_output_tokens=2)
    other.server_tool_calls["search"] = 2
    both = total([one, other])
    assert (both.source, both.input_tokens, both.output_tokens) == (v1.Usage.SOURCE_PROVIDER, 11, 6)
    assert (both.total_tokens, both.reasoning_output_tokens) == (18, 2)
    assert not both.HasField("cache_read_input_tokens")
    assert dict(both.server_tool_calls) == {"search": 3}
    assert (both.cost.total_nano_usd, both.cost.output_nano_usd, both.cost.price_version) == (12, 12, "v")
    assert total([one]) == one


def test_what_is_unknown_of_one_attempt_is_unknown_of_all() -> None:
    one = billed(7, input_tokens=10, output_tokens=4)
    other = v1.Usage(source=v1.Usage.SOURCE_ESTIMATED, output_tokens=1)
    both = total([one, other])
    assert (both.source, both.input_tokens, both.output_tokens) == (v1.Usage.SOURCE_ESTIMATED, 10, 5)
    assert not both.HasField("cost")


@given(usages())
def test_from_the_cache_the_counts_are_the_same_and_nothing_is_billed(usage: v1.Usage) -> None:
    usage.cost.CopyFrom(v1.Cost(total_nano_usd=9, output_nano_usd=9, price_version="v"))
    cached = from_cache(usage)
    assert cached.source == v1.Usage.SOURCE_CACHE
    assert cached.cost == v1.Cost(price_version="v")
    cached.source = usage.source
    cached.cost.CopyFrom(usage.cost)
    assert cached == usage
    assert not from_cache(v1.Usage()).HasField("cost")
