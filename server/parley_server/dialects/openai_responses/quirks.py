"""How servers that speak the Responses API differ from each other, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Levels of `reasoning.effort`, weakest first."""


def _by_model(model: str) -> Mapping[str, str]:
    return {"model": model}


def _by_preset(model: str) -> Mapping[str, str]:
    """Perplexity's presets stand beside its models: "preset/fast", and the names that chat completions had for them."""
    preset = _SONAR_PRESETS.get(model) or (model.removeprefix("preset/") if model.startswith("preset/") else "")
    if preset:
        return {"preset": preset}
    return {"model": "perplexity/sonar" if model == "sonar" else model}


_SONAR_PRESETS = {"sonar-pro": "fast", "sonar-reasoning-pro": "low"}


@dataclass(frozen=True, slots=True)
class ResponsesQuirks:
    """One server's way of speaking the Responses API. The defaults suit most; `openai()` is api.openai.com."""

    # ------------------------------------------------------------------------------------------------- body fields

    naming: Callable[[str], Mapping[str, str]] = _by_model
    """From the name of a model to the fields of the body that ask for it."""

    missing: frozenset[str] = frozenset({"verbosity", "prompt_cache_key", "prompt_cache_options"})
    """Body fields (and `strict` of tools, `verbosity` of `text`) that the server does not know: left out, with a
    warning."""

    further_sampling: frozenset[str] = frozenset()
    """Sampling fields taken besides temperature, top_p and top_logprobs: "top_k", "presence_penalty", …"""

    stores: bool = True
    """Keeps answers for later unless told not to (`store`)."""

    least_output_tokens: int = 1
    """Smallest `max_output_tokens` that is taken; less is clamped, with a warning."""

    end_user_field: str = "user"
    """Field for the pseudonym of the end user; empty: there is none."""

    allowed_tools: bool = False
    """Takes a tool choice that allows only some tools; otherwise the others are not even listed, with a warning."""

    efforts: tuple[str, ...] = EFFORTS
    """Levels of `reasoning.effort` that the server takes, weakest first; others are clamped, with a warning."""

    efforts_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The same of some models, by names with the wildcards of a shell; the first that fits counts. No levels: the
    effort cannot be told."""

    summaries: bool = False
    """Takes the wish for a summary of the reasoning (`reasoning.summary`); otherwise its text is shown, if anything."""

    shows_unasked: bool = True
    """Reasoning, or a summary of it, is part of the answer whether anybody asked for it or not."""

    encrypted_reasoning: Literal["", "families", "always"] = ""
    """Which models are asked for reasoning in a form that can go back: none, those that reason (`openai_families.py`,
    the others refuse to be asked), all."""

    cache_breakpoints: bool = False
    """Content parts may mark the end of a reusable prefix (`prompt_cache_breakpoint`)."""

    obfuscation: bool = False
    """Pads the deltas of streams unless told not to."""

    model_families: bool = False
    """Models refuse parameters by family, as `openai_families.py` has it."""

    # ------------------------------------------------------------------------------------------------------- input

    reasoning_replay: Literal["encrypted", "any"] = "any"
    """Which reasoning goes back. "encrypted": only with its encrypted content, since otherwise it would be looked up in
    the store."""

    loose_reasoning: bool = True
    """Takes encrypted reasoning with nothing of its turn behind it, as an answer that was cut off leaves it."""

    refusals: bool = False
    """Takes refusals in assistant turns; otherwise a refusal goes back as the text it was."""

    calls_last: bool = False
    """Takes function calls only behind all else that the turn says."""

    # ------------------------------------------------------------------------------------------------------ output

    call_ids_repeat: bool = False
    """IDs of calls are unique in one response only: ours get the ID of the response in front."""

    reasoning_beside: bool = False
    """Reasoning stands beside the output items, as a text in `reasoning`."""

    def levels(self, model: str) -> tuple[str, ...]:
        """Levels of effort that a model takes."""
        return next((levels for name, levels in self.efforts_of if fnmatchcase(model, name)), self.efforts)

    @classmethod
    def compatible(cls) -> ResponsesQuirks:
        """Any server of which nothing else is known."""
        return cls()

    @classmethod
    def openai(cls) -> ResponsesQuirks:
        """api.openai.com."""
        return cls(
            missing=frozenset(),
            least_output_tokens=16,
            end_user_field="safety_identifier",
            allowed_tools=True,
            summaries=True,
            shows_unasked=False,
            encrypted_reasoning="families",
            cache_breakpoints=True,
            obfuscation=True,
            model_families=True,
            reasoning_replay="encrypted",
            loose_reasoning=False,
            refusals=True,
        )

    @classmethod
    def azure(cls) -> ResponsesQuirks:
        """OpenAI's models on Azure, which is behind OpenAI in what it takes, by the version of its API."""
        return replace(
            cls.openai(),
            missing=frozenset({"prompt_cache_options"}),
            end_user_field="user",
            allowed_tools=False,
            cache_breakpoints=False,
            obfuscation=False,
        )

    @classmethod
    def mantle(cls) -> ResponsesQuirks:
        """Bedrock's OpenAI-compatible endpoint. Open models show their reasoning; call IDs begin anew each time."""
        return replace(
            cls.openai(),
            missing=frozenset({"prompt_cache_options"}),
            cache_breakpoints=False,
            obfuscation=False,
            reasoning_replay="any",
            call_ids_repeat=True,
        )

    @classmethod
    def xai(cls) -> ResponsesQuirks:
        """api.x.ai. Reasoning is shown in summaries, unasked."""
        return cls(
            missing=frozenset({"verbosity", "prompt_cache_options"}),
            efforts=("none", "low", "medium", "high", "xhigh"),
            efforts_of=(
                ("*non-reasoning*", ()),
                ("grok-4.20*", ()),
                ("grok-4.5*", ("low", "medium", "high")),
                ("grok-4.3*", ("none", "low", "medium", "high")),
            ),
            summaries=True,
            encrypted_reasoning="always",
        )

    @classmethod
    def openrouter(cls) -> ResponsesQuirks:
        """openrouter.ai, in front of models of all kinds."""
        return cls(
            missing=frozenset({"prompt_cache_options"}),
            further_sampling=frozenset({"top_k", "presence_penalty", "frequency_penalty"}),
            summaries=True,
            encrypted_reasoning="always",
        )

    @classmethod
    def deepseek(cls) -> ResponsesQuirks:
        """api.deepseek.com. Each function call is merged into the assistant message beside it."""
        return cls(efforts=("low", "high", "max"), calls_last=True)

    @classmethod
    def mistralrs(cls) -> ResponsesQuirks:
        """mistral.rs."""
        return cls(reasoning_beside=True)

    @classmethod
    def perplexity(cls) -> ResponsesQuirks:
        """Perplexity's Agent API. Models of several vendors, and presets of model, tools and instructions together."""
        return cls(naming=_by_preset)
