"""How hard to think, in each family's own words: `additionalModelRequestFields` passes them on as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects import claude_thinking
from parley_server.dialects.base import Wishes
from parley_server.dialects.bedrock.families import Family

_EFFORTS = {
    v1.REASONING_EFFORT_MINIMAL: "minimal",
    v1.REASONING_EFFORT_LOW: "low",
    v1.REASONING_EFFORT_MEDIUM: "medium",
    v1.REASONING_EFFORT_HIGH: "high",
    v1.REASONING_EFFORT_XHIGH: "xhigh",
    v1.REASONING_EFFORT_MAX: "max",
}
_ORDER = tuple(_EFFORTS.values())
_THREE = ("low", "medium", "high")


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
    if family.thinking == "claude":
        _of_claude(answer, request, target, wishes)
        return answer
    options = request.reasoning
    off = options.budget_tokens == 0 if options.HasField("budget_tokens") else _is_none(options)
    asked = off or options.HasField("budget_tokens") or bool(options.effort)
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


def _of_claude(answer: Thought, request: v1.ChatRequest, target: Target, wishes: Wishes) -> None:
    """As the Messages API has it, in fields of the same names; Converse needs no limit of tokens beside a budget."""
    row = claude_thinking.traits(target.known_as)
    how = claude_thinking.thought(request, target, wishes, messages_api=False)
    on_a_budget = how.thinking is not None and how.thinking["type"] == "enabled"
    answer.sampling = row.sampling
    answer.forced_tools = row.forced_tools and not on_a_budget
    if how.thinking is not None:
        answer.fields["thinking"] = how.thinking
    if how.effort:
        answer.fields["output_config"] = {"effort": how.effort}


def _clamped(effort: str, levels: tuple[str, ...], wishes: Wishes) -> str:
    """The highest level that is not above `effort`, or the lowest there is."""
    rank = _ORDER.index(effort)
    level = max((word for word in levels if _ORDER.index(word) <= rank), key=_ORDER.index, default=levels[0])
    if level != effort:
        wishes.unmet("reasoning.effort", f"this model has no effort {effort}: {level} was sent", "CLAMPED")
    return level
