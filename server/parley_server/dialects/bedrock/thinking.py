"""How hard to think, in each family's own words: `additionalModelRequestFields` passes them on as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.bedrock.families import Family

Way = Literal["adaptive", "enabled", "disabled"]

_LEAST_BUDGET = 1024
_LEAST_ANSWER = 1024  # tokens left for the answer where we choose the budget
_EFFORTS = {
    v1.REASONING_EFFORT_MINIMAL: "minimal",
    v1.REASONING_EFFORT_LOW: "low",
    v1.REASONING_EFFORT_MEDIUM: "medium",
    v1.REASONING_EFFORT_HIGH: "high",
    v1.REASONING_EFFORT_XHIGH: "xhigh",
    v1.REASONING_EFFORT_MAX: "max",
}
_ORDER = tuple(_EFFORTS.values())
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
"""Where a model takes only a budget, these stand for an effort, with a warning."""
_THREE = ("low", "medium", "high")
_FIVE = (*_THREE, "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Claude:
    """What a line of Claude models takes."""

    ways: tuple[Way, ...]
    efforts: tuple[str, ...] = ()
    unasked: bool = False
    """It thinks unless told not to."""
    sampling: bool = True
    """It takes temperature, top_p and top_k."""
    forced_tools: bool = True


_BUDGET = Claude(("enabled", "disabled"))
_ADAPTIVE = Claude(("adaptive", "disabled"), _FIVE, sampling=False)
_ALWAYS = Claude(("adaptive",), _FIVE, unasked=True, sampling=False, forced_tools=False)
_NEWEST = Claude(("adaptive", "disabled"), _FIVE, unasked=True)

# The first that the name begins with behind "claude-" counts. From the models' pages, November 2026.
_CLAUDES: tuple[tuple[str, Claude], ...] = (
    (r"3-7", _BUDGET),
    (r"[23]|v2|instant", Claude(())),
    (r"opus-4-[78]|(sonnet|haiku)-5(?!-5)|haiku-5-5", _ADAPTIVE),
    (r"opus-5(?!-5)", Claude(("adaptive", "disabled"), _FIVE, unasked=True, sampling=False)),
    (r"(opus|sonnet)-5-5|fable-5|mythos", _ALWAYS),
    (r"(sonnet|opus)-4-6", Claude(("adaptive", "enabled", "disabled"), (*_THREE, "max"))),
    (r"opus-4-5", Claude(("enabled", "disabled"))),  # its effort is known to the Messages API only
    (r"(sonnet|opus|haiku)-4", _BUDGET),
)


def claude(model: str) -> Claude:
    """What the Claude model of this name takes; an unknown one is taken for the newest."""
    name = model.rpartition("claude-")[2]
    return next((row for beginning, row in _CLAUDES if re.match(rf"({beginning})(?!\d)", name)), _NEWEST)


@dataclass(slots=True)
class Thought:
    """What the body says of thinking."""

    fields: dict[str, Any] = field(default_factory=dict)
    """For `additionalModelRequestFields`."""
    max_tokens: int | None = None
    forced_tools: bool = True
    """A tool can be forced while it thinks so."""
    sampling: bool = True


def thought(request: v1.ChatRequest, target: Target, family: Family, wishes: Wishes) -> Thought:
    """The fields for the reasoning options of a request, and the token limit that goes with them."""
    answer = Thought(forced_tools=family.forced_tools)
    if request.sampling.HasField("max_output_tokens"):
        answer.max_tokens = request.sampling.max_output_tokens
    options = request.reasoning
    off = options.budget_tokens == 0 if options.HasField("budget_tokens") else _is_none(options)
    asked = off or options.HasField("budget_tokens") or bool(options.effort)
    if family.thinking == "claude":
        _of_claude(answer, options, asked, off, claude(target.known_as), wishes)
        return answer
    if options.visibility:
        wishes.unmet("reasoning.visibility", "this model shows its reasoning as it likes")
    if not asked:
        return answer
    if options.HasField("budget_tokens") and not off:
        wishes.unmet("reasoning.budget_tokens", "this model takes no budget of tokens")
    effort = _EFFORTS.get(options.effort, "")
    match family.thinking:
        case "nova":
            _of_nova(answer, effort, off, request.sampling, wishes)
        case "effort" if off or effort:
            level = _clamped("minimal" if off else effort, _THREE, wishes)
            answer.fields["reasoning_effort"] = level
        case "qwen" if off:
            wishes.unmet("reasoning", "this model cannot be told not to think")
        case "qwen" if effort:
            answer.fields["reasoning_config"] = _clamped(effort, ("low", "high"), wishes)
        case "" if effort:
            wishes.unmet("reasoning.effort", "this model cannot be told how hard to think")
        case "" if off and family.unsigned_reasoning:
            wishes.unmet("reasoning", "this model cannot be told not to think")
    return answer


def _is_none(options: v1.ReasoningOptions) -> bool:
    return options.effort == v1.REASONING_EFFORT_NONE


def _of_nova(answer: Thought, effort: str, off: bool, sampling: v1.SamplingOptions, wishes: Wishes) -> None:
    if off:
        answer.fields["reasoningConfig"] = {"type": "disabled"}
    elif effort:
        level = _clamped(effort, _THREE, wishes)
        bounds = [name for name in ("temperature", "top_p", "top_k") if sampling.HasField(name)]
        if level == "high" and bounds:
            level = "medium"
            problem = f"this model takes effort high only without {' and '.join(bounds)}: medium was sent"
            wishes.unmet("reasoning.effort", problem, "CLAMPED")
        answer.fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}


def _of_claude(
    answer: Thought, options: v1.ReasoningOptions, asked: bool, off: bool, row: Claude, wishes: Wishes
) -> None:
    answer.sampling = row.sampling
    answer.forced_tools = row.forced_tools
    effort = _EFFORTS.get(options.effort, "")
    if off and "disabled" in row.ways:
        answer.fields["thinking"] = {"type": "disabled"}
    elif off and row.ways:
        answer.fields["output_config"] = {"effort": row.efforts[0]}
        wishes.unmet("reasoning.effort", f"this model always thinks: effort {row.efforts[0]} is the least", "CLAMPED")
    elif options.HasField("budget_tokens") and "enabled" in row.ways and not off:
        _spend(answer, options.budget_tokens, wishes)
    elif asked and not off:
        if options.HasField("budget_tokens"):
            wishes.unmet("reasoning.budget_tokens", "this model takes an effort, not a budget of tokens")
        _try_hard(answer, effort, row, wishes)
    elif options.visibility and row.unasked:
        answer.fields["thinking"] = {"type": "adaptive"}
    _show(answer, options.visibility, off, wishes)


def _try_hard(answer: Thought, effort: str, row: Claude, wishes: Wishes) -> None:
    if effort and row.efforts:
        answer.fields["output_config"] = {"effort": _clamped(effort, row.efforts, wishes)}
    if "adaptive" in row.ways:
        answer.fields["thinking"] = {"type": "adaptive"}
    elif "enabled" in row.ways and effort:
        budget, room = _BUDGETS[effort], answer.max_tokens
        if room is not None:
            budget = min(budget, max(room - _LEAST_ANSWER, room // 2))
        if budget < _LEAST_BUDGET:
            wishes.unmet("reasoning.effort", f"{room} output tokens leave no room for thinking: it takes 1024 or more")
            return
        problem = f"this model takes a budget: {budget} tokens were sent for effort {effort}"
        wishes.unmet("reasoning.effort", problem, "CLAMPED")
        _spend(answer, budget, wishes)
    elif not row.ways:
        wishes.unmet("reasoning.effort", "this model does not think")


def _spend(answer: Thought, asked: int, wishes: Wishes) -> None:
    """A budget of 1024 tokens or more that leaves at least one of the limit, where the caller set one."""
    budget = max(asked, _LEAST_BUDGET)
    room = answer.max_tokens
    if room is not None:
        if room <= _LEAST_BUDGET:
            problem = f"{room} output tokens leave no room for thinking: it takes 1024 or more"
            wishes.unmet("reasoning.budget_tokens", problem)
            return
        budget = min(budget, room - 1)
    if budget != asked:
        wishes.unmet("reasoning.budget_tokens", f"{budget} was sent for a budget of {asked} tokens", "CLAMPED")
    answer.fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    answer.forced_tools = False


def _show(answer: Thought, visibility: v1.ReasoningOptions.Visibility.ValueType, off: bool, wishes: Wishes) -> None:
    thinking: dict[str, Any] = answer.fields.get("thinking") or {}
    thinks = thinking.get("type") not in (None, "disabled")
    match visibility:
        case v1.ReasoningOptions.VISIBILITY_OMITTED if thinks:
            thinking["display"] = "omitted"
        case v1.ReasoningOptions.VISIBILITY_SUMMARY | v1.ReasoningOptions.VISIBILITY_FULL if thinks:
            thinking["display"] = "summarized"
            if visibility == v1.ReasoningOptions.VISIBILITY_FULL:
                wishes.unmet("reasoning.visibility", "Claude shows summaries of its reasoning, not all of it")
        case v1.ReasoningOptions.VISIBILITY_SUMMARY | v1.ReasoningOptions.VISIBILITY_FULL if not off:
            wishes.unmet("reasoning.visibility", "there is no reasoning to show: this model thinks on request only")


def _clamped(effort: str, levels: tuple[str, ...], wishes: Wishes) -> str:
    """The highest level that is not above `effort`, or the lowest there is."""
    rank = _ORDER.index(effort)
    level = max((word for word in levels if _ORDER.index(word) <= rank), key=_ORDER.index, default=levels[0])
    if level != effort:
        wishes.unmet("reasoning.effort", f"this model has no effort {effort}: {level} was sent", "CLAMPED")
    return level
