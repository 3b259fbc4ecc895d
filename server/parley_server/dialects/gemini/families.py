"""What each family of Gemini models takes, and how it is asked to think.

The listing of models says only whether one thinks, so this is a small table, by the beginning of the name; an unknown
name gets `_NEWEST`, which is what newer models are likely to take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes


@dataclass(frozen=True, slots=True)
class Traits:
    """What a family of models takes."""

    levels: tuple[str, ...] = ()
    """Levels of `thinkingLevel`, lowest first; empty: it takes a budget, or does not think."""
    budget: tuple[int, int] | None = None
    """Least and most tokens of `thinkingBudget`, where it takes one."""
    can_stop: bool = False
    """A budget of 0 keeps it from thinking."""
    sampling: bool = True
    """It heeds temperature, topP and topK; newer families ignore them."""
    penalties: bool = True
    """It takes presence and frequency penalties."""
    signatures: bool = False
    """It refuses a history whose function calls have no thought signature."""
    validated: bool = True
    """It knows the mode VALIDATED: calls follow their schema, and may be restricted to some functions."""
    third: bool = False
    """Gemini 3 or later: media resolution by part, media in function responses, its own tools beside functions."""


_FOUR = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_OLD = Traits(validated=False)
_FLASH_2_5 = Traits(budget=(1, 24_576), can_stop=True)
_THREE = Traits(levels=_FOUR, penalties=False, signatures=True, third=True)
_PRO = replace(_THREE, levels=("LOW", "MEDIUM", "HIGH"))
_DEAF = replace(_THREE, sampling=False)
_DEAF_NO_MINIMAL = replace(_PRO, sampling=False)
_NEWEST = _THREE

# From the pages of the models, November 2026. The longest beginning that fits counts.
_TABLE = {
    "gemma": _OLD,
    "gemini-1": _OLD,
    "gemini-2.0": _OLD,
    "gemini-2.5": _FLASH_2_5,
    "gemini-2.5-flash-lite": replace(_FLASH_2_5, budget=(512, 24_576)),
    "gemini-2.5-flash-image": Traits(),
    "gemini-2.5-pro": Traits(budget=(128, 32_768)),
    "gemini-3": _THREE,
    "gemini-3-pro": replace(_THREE, levels=("LOW", "HIGH")),
    "gemini-3.1-pro": _PRO,
    "gemini-3.5-pro": _PRO,
    "gemini-3.5-flash-lite": _DEAF,
    "gemini-3.6": _DEAF,
    "gemini-3.6-pro": _DEAF_NO_MINIMAL,
    "gemini-3.7": _DEAF_NO_MINIMAL,
    "gemini-3.8": _DEAF_NO_MINIMAL,
    "gemini-4": _DEAF_NO_MINIMAL,
    "gemini-pro-latest": _PRO,
}
_BY_LENGTH = sorted(_TABLE.items(), key=lambda row: -len(row[0]))

_LEVELS = {
    v1.REASONING_EFFORT_MINIMAL: "MINIMAL",
    v1.REASONING_EFFORT_LOW: "LOW",
    v1.REASONING_EFFORT_MEDIUM: "MEDIUM",
    v1.REASONING_EFFORT_HIGH: "HIGH",
    v1.REASONING_EFFORT_XHIGH: "XHIGH",
    v1.REASONING_EFFORT_MAX: "MAX",
}
_ORDER = (*_FOUR, "XHIGH", "MAX")
_BUDGETS = {"MINIMAL": 1024, "LOW": 1024, "MEDIUM": 8192, "HIGH": 24_576, "XHIGH": 32_768, "MAX": 32_768}
"""What an effort means as a budget; up to HIGH as the API itself translates it for OpenAI's clients."""


def traits(model: str) -> Traits:
    """What `model` takes, by any of its names: "gemini-2.5-pro", "models/gemini-2.5-pro-001"."""
    name = model.rpartition("/")[2]
    return next((row for start, row in _BY_LENGTH if re.match(rf"{re.escape(start)}(?!\d)", name)), _NEWEST)


def thinking(request: v1.ChatRequest, target: Target, wishes: Wishes) -> dict[str, Any]:
    """`thinkingConfig` for the reasoning options of a request; empty if there is nothing to say."""
    options, row = request.reasoning, traits(target.known_as)
    config: dict[str, Any] = {}
    budgeted = options.HasField("budget_tokens")
    if not row.levels and row.budget is None:
        _thoughtless(options, budgeted, wishes)
        return config
    if options.budget_tokens == 0 if budgeted else options.effort == v1.REASONING_EFFORT_NONE:
        _least(config, row, "reasoning.budget_tokens" if budgeted else "reasoning.effort", wishes)
    elif budgeted and row.budget is not None:
        config["thinkingBudget"] = _within(options.budget_tokens, row.budget, wishes)
    else:
        if budgeted:
            wishes.unmet("reasoning.budget_tokens", "this model takes a level of thinking, not a budget of tokens")
        if options.effort:
            _try_hard(config, _LEVELS[options.effort], row, wishes)
    match options.visibility:
        case v1.ReasoningOptions.VISIBILITY_OMITTED:
            config["includeThoughts"] = False
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            config["includeThoughts"] = True
        case v1.ReasoningOptions.VISIBILITY_FULL:
            config["includeThoughts"] = True
            wishes.unmet("reasoning.visibility", "the Gemini API shows summaries of the reasoning, not all of it")
    return config


def _thoughtless(options: v1.ReasoningOptions, budgeted: bool, wishes: Wishes) -> None:
    if budgeted and options.budget_tokens:
        wishes.unmet("reasoning.budget_tokens", "this model does not think")
    elif options.effort not in (v1.REASONING_EFFORT_UNSPECIFIED, v1.REASONING_EFFORT_NONE):
        wishes.unmet("reasoning.effort", "this model does not think")
    if options.visibility in (v1.ReasoningOptions.VISIBILITY_SUMMARY, v1.ReasoningOptions.VISIBILITY_FULL):
        wishes.unmet("reasoning.visibility", "this model does not think, so there is nothing to show")


def _least(config: dict[str, Any], row: Traits, wish: str, wishes: Wishes) -> None:
    if row.can_stop:
        config["thinkingBudget"] = 0
        return
    if row.budget is not None:
        config["thinkingBudget"] = row.budget[0]
        said = f"a budget of {row.budget[0]} tokens"
    else:
        config["thinkingLevel"] = row.levels[0]
        said = f"level {row.levels[0]}"
    wishes.unmet(wish, f"this model always thinks: {said} is the least", "CLAMPED")


def _within(asked: int, bounds: tuple[int, int], wishes: Wishes) -> int:
    budget = min(max(asked, bounds[0]), bounds[1])
    if budget != asked:
        wishes.unmet("reasoning.budget_tokens", f"{budget} was sent for a budget of {asked} tokens", "CLAMPED")
    return budget


def _try_hard(config: dict[str, Any], wanted: str, row: Traits, wishes: Wishes) -> None:
    if row.budget is not None:
        config["thinkingBudget"] = budget = min(max(_BUDGETS[wanted], row.budget[0]), row.budget[1])
        problem = f"this model takes a budget: {budget} tokens were sent for effort {wanted.lower()}"
        wishes.unmet("reasoning.effort", problem, "CLAMPED")
        return
    rank = _ORDER.index(wanted)
    level = max((one for one in row.levels if _ORDER.index(one) <= rank), key=_ORDER.index, default=row.levels[0])
    config["thinkingLevel"] = level
    if level != wanted:
        wishes.unmet("reasoning.effort", f"there is no level {wanted}: {level} was sent", "CLAMPED")
