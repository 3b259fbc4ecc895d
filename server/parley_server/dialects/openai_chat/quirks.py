"""How servers that speak chat completions differ from each other, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Levels of `reasoning_effort`, weakest first."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """One server's way of speaking chat completions. The defaults suit most servers; `openai()` is api.openai.com."""

    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Field that bounds the output; OpenAI's reasoning models refuse `max_tokens`, many others know nothing else."""

    developer_role: bool = False
    """Knows the role `developer`; otherwise such messages go as `system`."""

    text_as_string: bool = True
    """Content that is only text goes as one string, several parts joined; many small servers want no lists."""

    refusal_field: bool = False
    """Takes `refusal` in assistant turns; otherwise a refusal goes back as the text it was."""

    participant_names: bool = True
    """Takes `name` in messages."""

    missing: frozenset[str] = frozenset({"verbosity", "prediction", "prompt_cache_key", "prompt_cache_options"})
    """Body fields (and `strict` of tools) that the server does not know: left out, with a warning."""

    top_k_field: str = "top_k"
    """Field for top_k; empty: there is none."""

    min_p_field: str = "min_p"
    """Field for min_p; empty: there is none."""

    repetition_penalty_field: str = "repetition_penalty"
    """Field for repetition_penalty (llama.cpp: `repeat_penalty`); empty: there is none."""

    end_user_field: str = "user"
    """Field for the pseudonym of the end user; empty: there is none."""

    most_stop_sequences: int = 16
    """Stop sequences that one request may have."""

    efforts: tuple[str, ...] = EFFORTS
    """Levels of `reasoning_effort` that the server takes, weakest first; others are clamped, with a warning."""

    allowed_tools: bool = False
    """Takes a tool choice that allows only some tools; otherwise the others are not even listed, with a warning."""

    cache_breakpoints: Literal["", "prompt_cache_breakpoint", "cache_control"] = ""
    """How a text part marks the end of a reusable prefix; empty: not at all."""

    stream_usage: bool = True
    """Takes `stream_options.include_usage`, without which streams report no usage."""

    obfuscation: bool = False
    """Pads the chunks of streams unless told not to."""

    reasoning_fields: tuple[str, ...] = ("reasoning_content", "reasoning")
    """Where reasoning text stands in a message or delta; the first that is there counts. Empty: it is never shown."""

    reasoning_replay: bool = True
    """Reasoning goes back with the turn it belongs to, in the field it came from; otherwise it is left out."""

    done_marker: bool = False
    """Never fails to end a stream with [DONE]; otherwise the end of the connection after a finish reason will do."""

    model_families: bool = False
    """Models refuse parameters by family, as `families.py` has it."""

    @classmethod
    def compatible(cls) -> Quirks:
        """Any OpenAI-compatible server of which nothing else is known."""
        return cls()

    @classmethod
    def openai(cls) -> Quirks:
        """api.openai.com."""
        return cls(
            token_limit_field="max_completion_tokens",
            developer_role=True,
            text_as_string=False,
            refusal_field=True,
            missing=frozenset(),
            top_k_field="",
            min_p_field="",
            repetition_penalty_field="",
            end_user_field="safety_identifier",
            most_stop_sequences=4,
            allowed_tools=True,
            cache_breakpoints="prompt_cache_breakpoint",
            obfuscation=True,
            reasoning_fields=(),
            reasoning_replay=False,
            done_marker=True,
            model_families=True,
        )
