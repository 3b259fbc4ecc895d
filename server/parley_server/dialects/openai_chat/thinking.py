"""How hard to think, how much, and whether to show it: the fields of a body that say so."""

from __future__ import annotations

from typing import Any

from parley import v1
from parley_server.dialects.base import Wishes
from parley_server.dialects.openai_chat.quirks import EFFORTS, Quirks, Variant

Body = dict[str, Any]

_POSITIONS: dict[str, tuple[Any, Any]] = {"thinking.type": ("disabled", "enabled")}
"""Off and on, where a switch is no boolean."""
_HIDES = {"reasoning.exclude": True, "include_reasoning": False}
"""What a hiding field says to hide."""


def ask(body: Body, reasoning: v1.ReasoningOptions, quirks: Quirks, variant: Variant, wishes: Wishes) -> None:
    """Put the wishes of `reasoning` into `body`."""
    effort = ""
    if reasoning.effort:
        effort = v1.ReasoningEffort.Name(reasoning.effort).removeprefix("REASONING_EFFORT_").lower()
    levels = quirks.efforts if variant.efforts is None else variant.efforts
    if reasoning.HasField("budget_tokens"):
        if reasoning.budget_tokens == 0 and "none" in levels:
            effort = "none"
        elif quirks.budget_field:
            put(body, quirks.budget_field, reasoning.budget_tokens)
            if quirks.budget_field == "thinking.budget_tokens":
                put(body, "thinking.type", "enabled")
            if quirks.budget_field == "thinking.budget_tokens":  # which says nothing without it
                put(body, "thinking.type", "enabled")
            _switch(body, levels, quirks, on=True)
            effort = ""  # the budget wins
        else:
            wishes.unmet("reasoning.budget_tokens", "reasoning takes an effort here, not a number of tokens")
    if effort:
        _effort(body, effort, levels, quirks, wishes)
    shown = quirks.reasoning_fields or quirks.reasoning_blocks or quirks.think_tags
    match reasoning.visibility:
        case v1.ReasoningOptions.VISIBILITY_SUMMARY:
            wishes.unmet("reasoning.visibility", "there are no summaries of reasoning here")
        case v1.ReasoningOptions.VISIBILITY_FULL if not shown:
            wishes.unmet("reasoning.visibility", "reasoning is not shown here")
        case v1.ReasoningOptions.VISIBILITY_OMITTED if quirks.hiding_field:
            put(body, quirks.hiding_field, _HIDES[quirks.hiding_field])
        case v1.ReasoningOptions.VISIBILITY_OMITTED if shown:
            wishes.unmet("reasoning.visibility", "reasoning cannot be kept out of the answer here")


def is_off(reasoning: v1.ReasoningOptions) -> bool:
    """Whether the request wants no reasoning."""
    none_to_spend = reasoning.HasField("budget_tokens") and reasoning.budget_tokens == 0
    return reasoning.effort == v1.REASONING_EFFORT_NONE or none_to_spend


def put(body: Body, field: str, value: Any) -> None:
    """Set a field of `body`; dots in its name are levels."""
    *above, name = field.split(".")
    for step in above:
        body = body.setdefault(step, {})
    body[name] = value


def _effort(body: Body, wanted: str, levels: tuple[str, ...], quirks: Quirks, wishes: Wishes) -> None:
    if wanted == "none" and "none" in levels:
        if quirks.reasoning_switch:
            _switch(body, levels, quirks, on=False)
        else:
            put(body, quirks.effort_field, "none")
        return
    thinking = [level for level in levels if level != "none"]
    effort = _nearest(wanted, thinking)
    if effort:
        put(body, quirks.effort_field, effort)
    if wanted != "none":
        _switch(body, levels, quirks, on=True)
    if effort != wanted:
        instead = f"{effort} is asked for" if effort else "it is left to the model"
        wishes.unmet("reasoning.effort", f"there is no effort {wanted} here; {instead}", code="CLAMPED")


def _switch(body: Body, levels: tuple[str, ...], quirks: Quirks, *, on: bool) -> None:
    if quirks.reasoning_switch and "none" in levels:  # a model that always thinks has nothing to switch
        put(body, quirks.reasoning_switch, _POSITIONS.get(quirks.reasoning_switch, (False, True))[on])


def _nearest(wanted: str, levels: list[str]) -> str:
    """The strongest of `levels` that is not above `wanted`, or the weakest there is; empty if there are none."""
    rank = EFFORTS.index(wanted)
    within = [level for level in levels if EFFORTS.index(level) <= rank]
    return within[-1] if within else next(iter(levels), "")
