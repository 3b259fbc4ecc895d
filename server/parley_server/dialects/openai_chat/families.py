"""Which parameters OpenAI's reasoning models refuse, by family of names.

Chat completions answer a refused parameter with 400, and neither the listing nor the error names the others, so the one
place that knows is OpenAI's model pages. First match wins; names that match nothing take everything.
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
    """Values of `reasoning_effort` at which the model does not reason; "" stands for an effort that is not given."""


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
    """Body fields that `model` refuses at a `reasoning_effort` (empty: not given)."""
    name = model.rpartition("/")[2].removeprefix("ft:")
    for family in _FAMILIES:
        if family.pattern.match(name):
            return family.never if effort in family.sampling_at else family.never | SAMPLING
    return frozenset()
