"""How servers that speak chat completions differ from each other, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from parley_server.core.errors import GatewayError
from parley_server.core.target import Target

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Levels of `reasoning_effort`, weakest first."""

UNCOMMON = frozenset({"verbosity", "prediction", "prompt_cache_key", "prompt_cache_options"})
"""Body fields that hardly any server but OpenAI's knows."""

ToolMode = Literal["auto", "none", "required", "named"]
Format = Literal["json_object", "json_schema"]
Switch = Literal[
    "", "thinking.type", "reasoning.enabled", "enable_thinking", "chat_template_kwargs.enable_thinking"
]  # the dots are levels of the body


@dataclass(frozen=True, slots=True)
class Variant:
    """What some models of a server do differently from its others."""

    models: tuple[str, ...]
    """Names of the models, with the wildcards of a shell."""

    missing: frozenset[str] = frozenset()
    """Body fields that these models refuse besides those that the server does not know."""

    efforts: tuple[str, ...] | None = None
    """Levels of effort that these models take, empty where they cannot be told; None: those of the server."""

    streams_only: bool = False
    """Answers nothing but streams."""

    media_in_results: bool = False
    """Takes images in tool results, where the server's others may not."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """One server's way of speaking chat completions. The defaults suit most servers; `openai()` is api.openai.com."""

    # ------------------------------------------------------------------------------------------------- body fields

    missing: frozenset[str] = UNCOMMON
    """Body fields (and `strict` of tools) that the server does not know: left out, with a warning."""

    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Field that bounds the output; OpenAI's reasoning models refuse `max_tokens`, many others know nothing else."""

    top_k_field: str = "top_k"
    """Field for top_k; empty: there is none."""

    min_p_field: str = "min_p"
    """Field for min_p; empty: there is none."""

    repetition_penalty_field: str = "repetition_penalty"
    """Field for repetition_penalty (llama.cpp: `repeat_penalty`); empty: there is none."""

    seed_field: str = "seed"
    """Field for the seed (Mistral: `random_seed`); empty: there is none."""

    end_user_field: str = "user"
    """Field for the pseudonym of the end user; empty: there is none."""

    most_stop_sequences: int = 16
    """Stop sequences that one request may have."""

    logprobs_count: bool = False
    """`logprobs` is the number of alternatives itself, without a `top_logprobs` beside it."""

    formats: frozenset[Format] = frozenset({"json_object", "json_schema"})
    """Forms of output that the server can be held to; a schema becomes any JSON object where only those are left."""

    stream_usage: bool = True
    """Takes `stream_options.include_usage`, without which streams report no usage."""

    obfuscation: bool = False
    """Pads the chunks of streams unless told not to."""

    model_families: bool = False
    """Models refuse parameters by family, as `openai_families.py` has it."""

    variants: tuple[Variant, ...] = ()
    """Models that differ from the server's others; the first that fits counts."""

    # ---------------------------------------------------------------------------------------------------- messages

    developer_role: bool = False
    """Knows the role `developer`; otherwise such messages go as `system`."""

    text_as_string: bool = True
    """Content that is only text goes as one string, several parts joined; many small servers want no lists."""

    refusal_field: bool = False
    """Takes `refusal` in assistant turns; otherwise a refusal goes back as the text it was."""

    participant_names: bool = True
    """Takes `name` in messages."""

    empty_turns: bool = True
    """Takes assistant turns that say nothing; otherwise they are not sent."""

    one_result_a_turn: bool = False
    """Wants a tool message behind the turn with the one call it answers; turns with several calls are split."""

    prefix_field: Literal["", "prefix", "partial"] = ""
    """Marks a last assistant turn that the model is to go on from; empty: such a turn needs no mark."""

    image_urls: bool = True
    """Fetches images from http and https; otherwise only their bytes can be sent."""

    audio: Literal["", "object", "text", "data_url"] = "object"
    """How `input_audio` holds audio: data and format, bare base64, data as a data URL; empty: it takes none."""

    media_in_results: bool = False
    """Takes images in tool results; otherwise they go into a user message behind the results."""

    documents: Literal["", "file", "document_url"] = "file"
    """Type of the content part for documents that are no text; empty: it takes none."""

    cache_breakpoints: Literal["", "prompt_cache_breakpoint", "cache_control"] = ""
    """How a part marks the end of a reusable prefix; empty: not at all."""

    # ------------------------------------------------------------------------------------------------------- tools

    tool_modes: frozenset[ToolMode] = frozenset({"auto", "none", "required", "named"})
    """Choices of tools that it can be told; what others mean is said by listing fewer tools, or left out."""

    required_word: Literal["required", "any"] = "required"
    """What it calls a tool choice that must call some tool."""

    allowed_tools: bool = False
    """Takes a tool choice that allows only some tools; otherwise the others are not even listed, with a warning."""

    free_choice_while_thinking: bool = False
    """Cannot be made to call a tool unless reasoning is switched off."""

    short_tool_ids: bool = False
    """IDs of tool calls have exactly nine letters and digits; others are replaced, in call and result alike."""

    # --------------------------------------------------------------------------------------------------- reasoning

    efforts: tuple[str, ...] = EFFORTS
    """Levels of effort that it takes, weakest first; others are clamped, with a warning. "none": it can be off."""

    effort_field: Literal["reasoning_effort", "reasoning.effort", "chat_template_kwargs.reasoning_effort"] = (
        "reasoning_effort"
    )
    """Field for the effort."""

    reasoning_switch: Switch = ""
    """Field that switches reasoning on and off, where `efforts` have "none"; empty: an effort of "none" does."""

    budget_field: Literal[
        "", "reasoning.max_tokens", "thinking.budget_tokens", "thinking_budget", "thinking_token_budget"
    ] = ""
    """Field for the most tokens of reasoning, which then stands instead of an effort; empty: there is none."""

    hiding_field: Literal["", "reasoning.exclude", "include_reasoning"] = ""
    """Field that keeps reasoning out of the answer; empty: there is none."""

    reasoning_fields: tuple[str, ...] = ("reasoning_content", "reasoning")
    """Where reasoning text stands in a message or delta; the first that is there counts. Empty: it is never shown."""

    think_tags: bool = False
    """Reasoning may stand at the beginning of the content, between <think> and </think>."""

    reasoning_replay: bool = True
    """Reasoning goes back with the turn it belongs to, in the field it came from; otherwise it is left out."""

    reasoning_blocks: Literal["", "thinking", "reasoning"] = ""
    """Type of the content blocks that reasoning goes back in, if it is not a field of the message."""

    keeping_field: Literal["", "clear_thinking", "thinking.clear_thinking"] = ""
    """Field that, set to false, lets reasoning of earlier turns count where any is sent back; empty: it counts."""

    reasoning_placeholder: bool = False
    """Turns that call tools must show reasoning unless it is off: where it is lost, one space stands for it."""

    # ----------------------------------------------------------------------------------------------------- answers

    reasoning_apart: bool = False
    """Reasoning that is more than all output is not counted in it; elsewhere such a count is taken as it is."""

    done_marker: bool = False
    """Never fails to end a stream with [DONE]; otherwise the end of the connection after a finish reason will do."""

    error_inside: Callable[[Mapping[str, Any], Target], GatewayError | None] | None = None
    """Finds an error that an answer or a chunk tells otherwise than as `error`; it gives None where there is none."""

    too_long_status: int = 0
    """Status for a prompt that does not fit, where it is one that elsewhere means something else (Together: 403)."""

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

    def variant(self, model: str) -> Variant:
        """What is special about `model`, by its name without the folders before it."""
        name = model.rpartition("/")[2].lower()
        for one in self.variants:
            if any(fnmatchcase(name, pattern) for pattern in one.models):
                return one
        return _LIKE_THE_OTHERS


_LIKE_THE_OTHERS = Variant(())
