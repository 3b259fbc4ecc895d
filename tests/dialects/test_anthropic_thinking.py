"""How hard each family of models is asked to think."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from tests.dialects.anthropic_wire import DIALECT

LEGACY, BUDGET, EFFORT_AND_BUDGET = "claude-3-5-haiku-latest", "claude-sonnet-4-5-20250929", "claude-opus-4-5"
BOTH, ADAPTIVE, ALWAYS, UNKNOWN = "claude-opus-4-6", "claude-opus-4-8", "claude-opus-5-5", "claude-novel-9"

SUMMARY, FULL = v1.ReasoningOptions.VISIBILITY_SUMMARY, v1.ReasoningOptions.VISIBILITY_FULL
OMITTED = v1.ReasoningOptions.VISIBILITY_OMITTED
EFFORT = {name.removeprefix("REASONING_EFFORT_").lower(): number for name, number in v1.ReasoningEffort.items()}


def ask(
    model: str, max_tokens: int | None = None, limit: int = 0, **options: Any
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """`thinking`, `effort` and `max_tokens` of the body, and the warnings."""
    request = v1.ChatRequest(
        messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])],
        sampling=v1.SamplingOptions(max_output_tokens=max_tokens),
        reasoning=v1.ReasoningOptions(**options),
    )
    card = v1.Model(limits=v1.ModelLimits(max_output_tokens=limit)) if limit else None
    call = DIALECT.encode(request, Target("anthropic", model, card), stream=False)
    body = json.loads(call.body)
    said = {"max_tokens": body["max_tokens"], "thinking": body.get("thinking")}
    said["effort"] = body.get("output_config", {}).get("effort")
    return said, [(warning.field, warning.code) for warning in call.warnings]


@pytest.mark.parametrize("model", [LEGACY, BUDGET, EFFORT_AND_BUDGET, BOTH, ADAPTIVE, ALWAYS, UNKNOWN])
def test_nothing_is_said_unasked(model: str) -> None:
    assert ask(model) == ({"max_tokens": 4096, "thinking": None, "effort": None}, [])


@pytest.mark.parametrize(
    ("model", "asked", "thinking", "sent", "warned"),
    [
        (ADAPTIVE, "low", "adaptive", "low", False),
        (ADAPTIVE, "xhigh", "adaptive", "xhigh", False),
        (ADAPTIVE, "minimal", "adaptive", "low", True),
        (BOTH, "xhigh", "adaptive", "high", True),
        (BOTH, "max", "adaptive", "max", False),
        (ALWAYS, "medium", "adaptive", "medium", False),
        (UNKNOWN, "max", "adaptive", "max", False),
        ("us.anthropic.claude-opus-4-6-v1", "high", "adaptive", "high", False),
        ("anthropic/claude-opus-4.6", "high", "adaptive", "high", False),
        ("claude-opus-4-6@20260101", "high", "adaptive", "high", False),
    ],
)
def test_effort(model: str, asked: str, thinking: str, sent: str, warned: bool) -> None:
    said, warnings = ask(model, effort=EFFORT[asked])
    assert said == {"max_tokens": 4096, "thinking": {"type": thinking}, "effort": sent}
    assert warnings == ([("reasoning.effort", "CLAMPED")] if warned else [])


def test_effort_becomes_a_budget_where_there_is_nothing_else() -> None:
    said, warnings = ask(BUDGET, effort=EFFORT["medium"])
    assert said == {"max_tokens": 12288, "thinking": {"type": "enabled", "budget_tokens": 8192}, "effort": None}
    assert warnings == [("reasoning.effort", "CLAMPED")]
    said, _ = ask(BUDGET, max_tokens=6000, effort=EFFORT["high"])
    assert said["thinking"] == {"type": "enabled", "budget_tokens": 4976}, "room for the answer stays"
    said, warnings = ask(BUDGET, max_tokens=1500, effort=EFFORT["high"])
    assert said == {"max_tokens": 1500, "thinking": None, "effort": None}
    assert warnings == [("reasoning.effort", "UNSUPPORTED_PARAMETER")]


def test_effort_and_budget_go_together_where_both_are_needed() -> None:
    said, warnings = ask(EFFORT_AND_BUDGET, limit=64000, effort=EFFORT["max"])
    assert said == {"max_tokens": 64000, "thinking": {"type": "enabled", "budget_tokens": 32768}, "effort": "high"}
    assert warnings == [("reasoning.effort", "CLAMPED")] * 2


def test_models_that_do_not_think_say_so() -> None:
    assert ask(LEGACY, effort=EFFORT["high"])[1] == [("reasoning.effort", "UNSUPPORTED_PARAMETER")]
    assert ask(LEGACY, effort=EFFORT["none"]) == ({"max_tokens": 4096, "thinking": None, "effort": None}, [])


@pytest.mark.parametrize("off", [{"effort": EFFORT["none"]}, {"budget_tokens": 0}])
def test_off(off: dict[str, Any]) -> None:
    assert ask(ADAPTIVE, **off) == ({"max_tokens": 4096, "thinking": {"type": "disabled"}, "effort": None}, [])
    said, warnings = ask(ALWAYS, **off)
    assert said == {"max_tokens": 4096, "thinking": None, "effort": "low"}
    assert warnings == [("reasoning.effort", "CLAMPED")]


@pytest.mark.parametrize(
    ("asked", "max_tokens", "limit", "sent", "most", "warned"),
    [
        (5000, None, 0, 5000, 9096, False),
        (5000, 8000, 0, 5000, 8000, False),
        (5000, None, 64000, 5000, 64000, False),
        (100, None, 0, 1024, 5120, True),
        (5000, 3000, 0, 2999, 3000, True),
        (5000, 1024, 0, None, 1024, True),
    ],
)
def test_budget(asked: int, max_tokens: int | None, limit: int, sent: int | None, most: int, warned: bool) -> None:
    said, warnings = ask(BUDGET, max_tokens, limit, budget_tokens=asked)
    assert said["thinking"] == (None if sent is None else {"type": "enabled", "budget_tokens": sent})
    assert said["max_tokens"] == most
    assert bool(warnings) is warned


def test_a_budget_wins_over_effort_where_one_is_taken() -> None:
    said, warnings = ask(BOTH, budget_tokens=2000, effort=EFFORT["max"])
    assert (said["thinking"], said["effort"]) == ({"type": "enabled", "budget_tokens": 2000}, None)
    assert warnings == []
    said, warnings = ask(ADAPTIVE, budget_tokens=2000, effort=EFFORT["max"])
    assert (said["thinking"], said["effort"]) == ({"type": "adaptive"}, "max")
    assert warnings == [("reasoning.budget_tokens", "UNSUPPORTED_PARAMETER")]


def test_visibility() -> None:
    assert ask(ADAPTIVE, effort=EFFORT["low"], visibility=SUMMARY)[0]["thinking"] == {
        "type": "adaptive",
        "display": "summarized",
    }
    assert ask(BUDGET, budget_tokens=2000, visibility=OMITTED)[0]["thinking"]["display"] == "omitted"
    said, warnings = ask(ALWAYS, visibility=FULL)
    assert said["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert warnings == [("reasoning.visibility", "UNSUPPORTED_PARAMETER")]
    said, warnings = ask(ADAPTIVE, visibility=SUMMARY)
    assert said["thinking"] is None, "it does not think unless it is asked to"
    assert warnings == [("reasoning.visibility", "UNSUPPORTED_PARAMETER")]
    assert ask(ADAPTIVE, visibility=OMITTED)[1] == []
    assert ask(ADAPTIVE, effort=EFFORT["none"], visibility=SUMMARY)[1] == []
