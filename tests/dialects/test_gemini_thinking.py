"""How hard to think: levels from Gemini 3 on, budgets before, nothing for models that do not think."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.gemini.families import traits
from tests.dialects.gemini_ask import config_of, request, warned

R = v1.ReasoningOptions
NONE, MINIMAL, LOW = v1.REASONING_EFFORT_NONE, v1.REASONING_EFFORT_MINIMAL, v1.REASONING_EFFORT_LOW
MEDIUM, HIGH, MAX = v1.REASONING_EFFORT_MEDIUM, v1.REASONING_EFFORT_HIGH, v1.REASONING_EFFORT_MAX
EFFORT, BUDGET = ("reasoning.effort", "CLAMPED"), ("reasoning.budget_tokens", "CLAMPED")


def thinks(model: str, **options: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """`thinkingConfig` and warnings."""
    asked, target = request(reasoning=R(**options)), Target("gemini", model)
    return config_of(asked, target).get("thinkingConfig", {}), warned(asked, target)


@pytest.mark.parametrize(
    ("model", "effort", "level", "warnings"),
    [
        ("gemini-3-flash-preview", MINIMAL, "MINIMAL", []),
        ("gemini-3-flash-preview", HIGH, "HIGH", []),
        ("gemini-3-flash-preview", MAX, "HIGH", [EFFORT]),
        ("gemini-3-flash-preview", NONE, "MINIMAL", [EFFORT]),
        ("gemini-3-pro-preview", MEDIUM, "LOW", [EFFORT]),
        ("gemini-3-pro-preview", NONE, "LOW", [EFFORT]),
        ("gemini-3.1-pro-preview", MEDIUM, "MEDIUM", []),
        ("gemini-3.8-flash", MINIMAL, "LOW", [EFFORT]),
        ("gemini-flash-latest", LOW, "LOW", []),
        ("models/gemini-3.5-flash-001", LOW, "LOW", []),
    ],
)
def test_levels(model: str, effort: int, level: str, warnings: list[Any]) -> None:
    assert thinks(model, effort=effort) == ({"thinkingLevel": level}, warnings)


@pytest.mark.parametrize(
    ("model", "options", "budget", "warnings"),
    [
        ("gemini-2.5-flash", {"budget_tokens": 512}, 512, []),
        ("gemini-2.5-flash", {"budget_tokens": 0}, 0, []),
        ("gemini-2.5-flash", {"budget_tokens": 99_999}, 24_576, [BUDGET]),
        ("gemini-2.5-flash-lite", {"budget_tokens": 100}, 512, [BUDGET]),
        ("gemini-2.5-pro", {"budget_tokens": 0}, 128, [BUDGET]),
        ("gemini-2.5-pro", {"effort": NONE}, 128, [EFFORT]),
        ("gemini-2.5-flash", {"effort": NONE}, 0, []),
        ("gemini-2.5-flash", {"effort": MEDIUM}, 8192, [EFFORT]),
        ("gemini-2.5-flash", {"effort": MAX}, 24_576, [EFFORT]),
        ("gemini-2.5-pro", {"effort": MAX}, 32_768, [EFFORT]),
        ("gemini-2.5-pro", {"effort": MAX, "budget_tokens": 1000}, 1000, []),
    ],
)
def test_budgets(model: str, options: dict[str, Any], budget: int, warnings: list[Any]) -> None:
    assert thinks(model, **options) == ({"thinkingBudget": budget}, warnings)


def test_a_budget_is_no_level() -> None:
    unmet = ("reasoning.budget_tokens", "UNSUPPORTED_PARAMETER")
    assert thinks("gemini-3-flash-preview", budget_tokens=100) == ({}, [unmet])
    assert thinks("gemini-3-flash-preview", budget_tokens=100, effort=LOW) == ({"thinkingLevel": "LOW"}, [unmet])
    assert thinks("gemini-3-flash-preview", budget_tokens=0) == ({"thinkingLevel": "MINIMAL"}, [BUDGET])


@pytest.mark.parametrize("model", ["gemini-3-flash-preview", "gemini-2.5-pro"])
def test_visibility(model: str) -> None:
    assert thinks(model) == ({}, [])
    assert thinks(model, visibility=R.VISIBILITY_OMITTED) == ({"includeThoughts": False}, [])
    assert thinks(model, visibility=R.VISIBILITY_SUMMARY) == ({"includeThoughts": True}, [])
    summary_only = [("reasoning.visibility", "UNSUPPORTED_PARAMETER")]
    assert thinks(model, visibility=R.VISIBILITY_FULL) == ({"includeThoughts": True}, summary_only)


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemini-1.5-pro", "gemma-3-27b-it", "gemini-2.5-flash-image"])
def test_models_that_do_not_think(model: str) -> None:
    assert thinks(model, effort=NONE, visibility=R.VISIBILITY_OMITTED) == ({}, [])
    assert thinks(model, budget_tokens=0) == ({}, [])
    assert [field for field, _ in thinks(model, effort=LOW, visibility=R.VISIBILITY_SUMMARY)[1]] == [
        "reasoning.effort",
        "reasoning.visibility",
    ]
    assert [field for field, _ in thinks(model, budget_tokens=5)[1]] == ["reasoning.budget_tokens"]


def test_the_longest_beginning_of_a_name_counts() -> None:
    assert traits("gemini-2.5-flash-lite-preview-09-2025").budget == (512, 24_576)
    assert traits("gemini-2.5-flash-preview-05-20").budget == (1, 24_576)
    assert traits("gemini-10-flash").levels  # not an old one
