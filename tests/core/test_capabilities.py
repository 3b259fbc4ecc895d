"""What requests need, and what cards say that models lack."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley_server.core.capabilities import (
    USUAL_OUTPUT,
    Lack,
    Needs,
    expected_cost,
    missing,
    needs_of,
    window,
)
from tests.fakes import chat

IMAGE = v1.Part(image=v1.ImagePart(source=v1.MediaSource(data=b"x", mime_type="image/png")))
PDF = v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"x", mime_type="application/pdf")))
NOTE = v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"x" * 40, mime_type="text/plain")))
SPEECH = v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"x", mime_type="audio/wav")))


def asking(*parts: v1.Part, **fields: Any) -> v1.ChatRequest:
    request = v1.ChatRequest(model="m", **fields)
    request.messages.add(role=v1.ROLE_USER).parts.extend([v1.Part(text="12345678"), *parts])
    return request


SCHEMA = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(json_schema="{}"))
TOOL = [v1.Tool(function=v1.FunctionTool(name="f"))]
RESULT = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[IMAGE]))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asking(), Needs(input_tokens=2)),
        (asking(tools=TOOL), Needs(tools=True, input_tokens=3)),
        (asking(output=SCHEMA), Needs(json_schema=True, input_tokens=3)),
        (asking(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW)), Needs(reasoning=True, input_tokens=2)),
        (asking(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE)), Needs(input_tokens=2)),
        (asking(reasoning=v1.ReasoningOptions(budget_tokens=5)), Needs(reasoning=True, input_tokens=2)),
        (asking(IMAGE, PDF), Needs(media=frozenset([v1.MODALITY_IMAGE, v1.MODALITY_DOCUMENT]), input_tokens=2)),
        (asking(RESULT), Needs(media=frozenset([v1.MODALITY_IMAGE]), input_tokens=2)),
        (asking(SPEECH), Needs(media=frozenset([v1.MODALITY_AUDIO]), input_tokens=2)),
        (asking(NOTE), Needs(input_tokens=12)),
        (asking(sampling=v1.SamplingOptions(max_output_tokens=9)), Needs(input_tokens=2, max_output_tokens=9)),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="1234")]), Needs(input_tokens=1)),
    ],
    ids=[
        "text", "tools", "schema", "effort", "no_effort", "budget", "media", "media_of_tools", "audio",
        "attached_text", "max_output", "embedding",
    ],
)  # fmt: skip
def test_needs(request_: v1.ChatRequest, expected: Needs) -> None:
    assert needs_of(request_) == expected


CARD = v1.Model(
    capabilities=["tools"],
    input_modalities=[v1.MODALITY_TEXT],
    limits=v1.ModelLimits(context_tokens=1000, max_output_tokens=100),
)


@pytest.mark.parametrize(
    ("needs", "card", "lacks"),
    [
        (Needs(tools=True), CARD, []),
        (Needs(json_schema=True), CARD, ["does not do json-schema"]),
        (Needs(reasoning=True), CARD, ["does not do reasoning"]),
        (Needs(tools=True), v1.Model(capabilities=["reasoning"]), ["does not do tools"]),
        (Needs(tools=True, media=frozenset([v1.MODALITY_IMAGE])), v1.Model(), []),
        (Needs(tools=True), None, []),
        (Needs(media=frozenset([v1.MODALITY_IMAGE])), CARD, ["takes no image input"]),
        (Needs(input_tokens=1000), CARD, []),  # estimates are off by a fifth
        (Needs(input_tokens=1300), CARD, ["has a window of 1000 tokens, the prompt has about 1300"]),
        (
            Needs(input_tokens=1200, max_output_tokens=90),
            CARD,
            ["has a window of 1000 tokens, the prompt has about 1200 and 90 for the answer"],
        ),
        (Needs(max_output_tokens=101), CARD, ["gives at most 100 tokens, 101 are asked for"]),
        (
            Needs(input_tokens=200),
            v1.Model(limits=v1.ModelLimits(max_input_tokens=100, context_tokens=1000)),
            ["takes at most 100 tokens, the prompt has about 200"],
        ),
    ],
)
def test_lacks(needs: Needs, card: v1.Model | None, lacks: list[str]) -> None:
    found = missing(needs, card)
    assert [lack.what for lack in found] == lacks
    assert all((lack.lack is Lack.WINDOW) == ("prompt" in lack.what) for lack in found)


def test_windows() -> None:
    assert window(CARD) == 1000
    assert window(None) is None
    assert window(v1.Model()) is None


NO_IMAGES = v1.Model(
    pricing=v1.ModelPricing(input_nano_usd=1, output_nano_usd=1, unpriced_modalities=[v1.MODALITY_IMAGE])
)
SEARCHES = v1.Model(pricing=v1.ModelPricing(search_nano_usd=7))
PRICED = v1.Model(
    pricing=v1.ModelPricing(input_nano_usd=1_000_000_000, output_nano_usd=10_000_000_000),  # 1 and 10 $ a million
)


@pytest.mark.parametrize(
    ("request_", "card", "cost"),
    [
        (asking(), PRICED, 2 * 1000 + USUAL_OUTPUT * 10_000),
        (asking(sampling=v1.SamplingOptions(max_output_tokens=5)), PRICED, 2 * 1000 + 5 * 10_000),
        (asking(), v1.Model(), None),
        (asking(), None, None),
        (asking(IMAGE), NO_IMAGES, None),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="1234")]), PRICED, 1000),
        (v1.RerankRequest(model="m", query="q", documents=["d"]), SEARCHES, 7),
        (asking(routing=v1.RoutingOptions(service_tier="flex")), PRICED, None),
    ],
    ids=["usual_answer", "limited", "no_price", "unknown_model", "media", "embedding", "search", "tier"],
)  # fmt: skip
def test_expected_costs(request_: v1.ChatRequest, card: v1.Model | None, cost: int | None) -> None:
    assert expected_cost(needs_of(request_), request_, card) == cost


def test_a_target_may_have_options_of_its_own() -> None:
    needs = needs_of(chat())
    fewer = v1.SamplingOptions(max_output_tokens=7)
    assert needs.with_options(fewer, None, replaces=False).max_output_tokens == 7
    mine = needs.with_options(fewer, None, replaces=False).with_options(
        v1.SamplingOptions(top_k=1), None, replaces=False
    )
    assert mine.max_output_tokens == 7
    assert mine.with_options(v1.SamplingOptions(top_k=1), None, replaces=True).max_output_tokens is None
    assert needs.with_options(None, v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH), replaces=True).reasoning
