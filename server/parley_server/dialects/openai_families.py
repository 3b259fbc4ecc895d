"""What OpenAI's models refuse and when they reason, by family of names. Shared by the dialects of its two chat APIs.

A refused parameter is answered with 400, and neither the listing nor the error names the others, so the one place that
knows is OpenAI's model pages. First match wins; names that match nothing take everything and are not known to reason.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

SAMPLING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
"""Accepted by families that can be told not to reason, while they do not."""

_PENALTIES = frozenset({"presence_penalty", "frequency_penalty", "logit_bias"})


@dataclass(frozen=True, slots=True)
class Family:
    """Models whose names match `pattern` refuse `never`, and SAMPLING unless the effort is one of `sampling_at`."""

    pattern: re.Pattern[str]
    never: frozenset[str]
    sampling_at: frozenset[str]
    """Values of the effort at which the model does not reason; "" stands for an effort that is not given."""


def _family(pattern: str, never: frozenset[str], *sampling_at: str) -> Family:
    return Family(re.compile(pattern), never, frozenset(sampling_at))


_LATER = _PENALTIES | {"stop", "prediction"}

_FAMILIES = (
    _family(r"o1(-|$)", _PENALTIES),  # the only ones that reason and take `stop`
    _family(r"o\d", _PENALTIES | {"stop"}),
    _family(r"gpt-5-chat", frozenset(), "", *("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    _family(r"gpt-5(\.\d+)?-(chat|pro|codex|search)", _LATER),  # reason at an effort of their own
    _family(r"gpt-5\.[1-4](-|$)", _LATER, "", "none"),
    _family(r"gpt-5(\.\d+)?(-|$)", _LATER, "none"),
    _family(r"gpt-[6-9]", _LATER, "none"),
)


@functools.lru_cache(maxsize=1024)
def refused(model: str, effort: str) -> frozenset[str]:
    """Body fields, by their names in chat completions, that `model` refuses at an effort (empty: not given)."""
    family = _of(model)
    if family is None:
        return frozenset()
    return family.never if effort in family.sampling_at else family.never | SAMPLING


@functools.lru_cache(maxsize=1024)
def reasons(model: str, effort: str) -> bool:
    """Whether `model` is known to reason at an effort (empty: not given)."""
    family = _of(model)
    return family is not None and effort not in family.sampling_at


def plain_name(model: str) -> str:
    """The name as OpenAI has it, from the ways others write it: "openai/gpt-5.1", "openai.gpt-5.5", "ft:gpt-4o:…"."""
    return model.rpartition("/")[2].removeprefix("openai.").removeprefix("ft:")


def _of(model: str) -> Family | None:
    name = plain_name(model)
    return next((family for family in _FAMILIES if family.pattern.match(name)), None)
