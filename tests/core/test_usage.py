"""Whole-number costs, and honest estimates."""

from __future__ import annotations

import pytest
from hypothesis import given

from parley import v1
from parley_server.core.usage import cost, estimated_input, estimated_tokens, unfinished
from tests.fakes import chat
from tests.strategies import pricings, usages

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
