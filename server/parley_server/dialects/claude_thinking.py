"""How each family of Claude models is asked to think, wherever it is served, and what else its members do not take.

The listing of models tells only part of this, and nothing of a model that was never listed: hence one small table, by
the beginning of the name. An unknown name gets `_UNKNOWN`, which is what newer models are likely to take; the provider
refuses the rest in clear words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes

Kind = Literal["adaptive", "enabled", "disabled"]

FALLBACK_MAX_TOKENS = 4096
"""`max_tokens` is required: this is sent where neither the caller nor the model's card says anything."""
_LEAST_BUDGET = 1024
_LEAST_ANSWER = 1024  # tokens left for the answer where we choose the budget


@dataclass(frozen=True, slots=True)
class Traits:
    """What a family of models takes."""

    thinking: tuple[Kind, ...]
    efforts: tuple[str, ...] = ()
    """Levels of `output_config.effort`."""
    unasked: bool = False
    """It thinks unless told not to."""
    sampling: bool = True
    """It takes temperature, top_p and top_k."""
    forced_tools: bool = True
    """It takes `tool_choice` any and tool."""
    efforts_elsewhere: bool = True
    """Its efforts are known to other APIs than Messages too."""


_THREE = ("low", "medium", "high")
_FOUR = (*_THREE, "max")
_FIVE = (*_THREE, "xhigh", "max")

_NONE = Traits(thinking=())
_BUDGET = Traits(thinking=("enabled", "disabled"))
_OPUS_4_5 = Traits(thinking=("enabled", "disabled"), efforts=_THREE, efforts_elsewhere=False)
_BOTH = Traits(thinking=("adaptive", "enabled", "disabled"), efforts=_FOUR)
_ADAPTIVE = Traits(thinking=("adaptive", "disabled"), efforts=_FIVE, sampling=False)
_OPUS_5 = Traits(thinking=("adaptive", "disabled"), efforts=_FIVE, unasked=True, sampling=False)
_ALWAYS = Traits(thinking=("adaptive",), efforts=_FIVE, unasked=True, sampling=False, forced_tools=False)
_UNKNOWN = Traits(thinking=("adaptive", "disabled"), efforts=_FIVE, unasked=True)

# From the pages of the models and GET /v1/models, November 2026. The longest beginning that fits counts.
_TABLE = {
    "2": _NONE,
    "3": _NONE,
    "3-7": _BUDGET,
    "instant": _NONE,
    "sonnet-4": _BUDGET,
    "opus-4": _BUDGET,
    "haiku-4-5": _BUDGET,
    "opus-4-5": _OPUS_4_5,
    "sonnet-4-6": _BOTH,
    "opus-4-6": _BOTH,
    "opus-4-7": _ADAPTIVE,
    "opus-4-8": _ADAPTIVE,
    "sonnet-5": _ADAPTIVE,
    "haiku-5-5": _ADAPTIVE,
    "opus-5": _OPUS_5,
    "opus-5-5": _ALWAYS,
    "sonnet-5-5": _ALWAYS,
    "fable-5": _ALWAYS,
    "mythos": _ALWAYS,
}
_BY_LENGTH = sorted(_TABLE.items(), key=lambda row: -len(row[0]))
_FAMILY = re.compile(r"claude-(.+)")

_EFFORTS = {
    v1.REASONING_EFFORT_MINIMAL: "minimal",
    v1.REASONING_EFFORT_LOW: "low",
    v1.REASONING_EFFORT_MEDIUM: "medium",
    v1.REASONING_EFFORT_HIGH: "high",
    v1.REASONING_EFFORT_XHIGH: "xhigh",
    v1.REASONING_EFFORT_MAX: "max",
}
_ORDER = ("minimal", *_FIVE)
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
"""Where a model takes only a budget, these stand for an effort, with a warning."""


def traits(model: str) -> Traits:
    """What `model` takes, by any of its names: "claude-opus-4-5-20251101", "anthropic.claude-opus-4-5-…", "…-4.5"."""
    family = _FAMILY.search(model)
    name = family[1].replace(".", "-") if family else ""
    return next((row for beginning, row in _BY_LENGTH if re.match(rf"{beginning}(?!\d)", name)), _UNKNOWN)


@dataclass(slots=True)
class Thought:
    """The fields of the body that say how hard to think."""

    max_tokens: int
    thinking: dict[str, Any] | None = None
    effort: str = ""


def thought(request: v1.ChatRequest, target: Target, wishes: Wishes, *, messages_api: bool = True) -> Thought:
    """`max_tokens`, `thinking` and `output_config.effort` for the reasoning options of a request."""
    row = traits(target.known_as)
    if not messages_api and not row.efforts_elsewhere:
        row = replace(row, efforts=())
    options = request.reasoning
    stated = request.sampling.HasField("max_output_tokens")
    card_limit = target.card.limits.max_output_tokens if target.card is not None else 0
    answer = Thought(request.sampling.max_output_tokens if stated else card_limit or FALLBACK_MAX_TOKENS)
    room = answer.max_tokens if stated or card_limit else None

    off = options.budget_tokens == 0 if options.HasField("budget_tokens") else _none(options)
    if off:
        _switch_off(answer, row, wishes)
    elif options.HasField("budget_tokens") and "enabled" in row.thinking:
        _spend(answer, options.budget_tokens, room, wishes)
    elif options.HasField("budget_tokens") or options.effort:
        if options.HasField("budget_tokens"):
            wishes.unmet("reasoning.budget_tokens", "this model takes an effort, not a budget of tokens")
        _try_hard(answer, _EFFORTS.get(options.effort, ""), row, room, wishes)
    elif options.visibility and row.unasked:
        answer.thinking = {"type": "adaptive"}
    _show(answer, options.visibility, off, wishes)
    return answer


def _none(options: v1.ReasoningOptions) -> bool:
    return options.effort == v1.REASONING_EFFORT_NONE


def _switch_off(answer: Thought, row: Traits, wishes: Wishes) -> None:
    if "disabled" in row.thinking:
        answer.thinking = {"type": "disabled"}
    elif row.thinking:
        answer.effort = row.efforts[0]
        wishes.unmet("reasoning.effort", f"this model always thinks: effort {answer.effort} is the least", "CLAMPED")


def _try_hard(answer: Thought, effort: str, row: Traits, room: int | None, wishes: Wishes) -> None:
    if effort and row.efforts:
        answer.effort = _clamped(effort, row.efforts)
        if answer.effort != effort:
            wishes.unmet("reasoning.effort", f"this model has no effort {effort}: {answer.effort} was sent", "CLAMPED")
    if "adaptive" in row.thinking:
        answer.thinking = {"type": "adaptive"}
    elif "enabled" in row.thinking:
        budget = _BUDGETS[effort]
        if room is not None:
            budget = min(budget, max(room - _LEAST_ANSWER, room // 2))
        if budget < _LEAST_BUDGET:
            wishes.unmet("reasoning.effort", f"{room} output tokens leave no room for thinking: it takes 1024 or more")
            return
        problem = f"this model takes a budget: {budget} tokens were sent for effort {effort}"
        wishes.unmet("reasoning.effort", problem, "CLAMPED")
        _spend(answer, budget, room, wishes)
    elif not row.efforts:
        wishes.unmet("reasoning.effort", "this model does not think")


def _clamped(effort: str, levels: tuple[str, ...]) -> str:
    """The highest level that is not above `effort`, or the lowest there is."""
    rank = _ORDER.index(effort)
    return max((level for level in levels if _ORDER.index(level) <= rank), key=_ORDER.index, default=levels[0])


def _spend(answer: Thought, asked: int, room: int | None, wishes: Wishes) -> None:
    """A budget of 1024 tokens or more that leaves at least one of `max_tokens`, which grows where nobody set it."""
    budget = max(asked, _LEAST_BUDGET)
    if room is None:
        answer.max_tokens = budget + FALLBACK_MAX_TOKENS
    elif room <= _LEAST_BUDGET:
        wishes.unmet(
            "reasoning.budget_tokens", f"{room} output tokens leave no room for thinking: it takes 1024 or more"
        )
        return
    else:
        budget = min(budget, room - 1)
    if budget != asked:
        wishes.unmet("reasoning.budget_tokens", f"{budget} was sent for a budget of {asked} tokens", "CLAMPED")
    answer.thinking = {"type": "enabled", "budget_tokens": budget}


def _show(answer: Thought, visibility: v1.ReasoningOptions.Visibility.ValueType, off: bool, wishes: Wishes) -> None:
    thinks = answer.thinking is not None and answer.thinking["type"] != "disabled"
    match visibility:
        case v1.ReasoningOptions.VISIBILITY_OMITTED if thinks:
            answer.thinking = {**(answer.thinking or {}), "display": "omitted"}
        case v1.ReasoningOptions.VISIBILITY_SUMMARY | v1.ReasoningOptions.VISIBILITY_FULL if thinks:
            answer.thinking = {**(answer.thinking or {}), "display": "summarized"}
            if visibility == v1.ReasoningOptions.VISIBILITY_FULL:
                wishes.unmet("reasoning.visibility", "Claude shows summaries of its reasoning, not all of it")
        case v1.ReasoningOptions.VISIBILITY_SUMMARY | v1.ReasoningOptions.VISIBILITY_FULL if not off:
            wishes.unmet("reasoning.visibility", "there is no reasoning to show: this model thinks on request only")
