"""What many rows begin with."""

from __future__ import annotations

from dataclasses import replace

from parley_server.dialects.openai_chat.quirks import UNCOMMON, Quirks

TEXT_FIRST = ("reasoning", "reasoning_content")
"""Where reasoning stands at servers that have given up the longer name, or never had it."""
PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
LOGPROBS = frozenset({"logprobs", "top_logprobs"})
SAMPLING = frozenset({"temperature", "top_p"})
FEW_EFFORTS = ("low", "medium", "high")

PLAIN = Quirks(
    missing=UNCOMMON | {"service_tier", "strict"},
    end_user_field="",
    most_stop_sequences=4,
    participant_names=False,
    audio="",
    documents="",
)
"""A server that takes what all take; the rows below say what else, and what even of this it does not."""

FEW_KNOBS = replace(PLAIN, top_k_field="", min_p_field="", repetition_penalty_field="")

VLLM = Quirks(
    missing=UNCOMMON | {"service_tier"},
    documents="",
    reasoning_fields=TEXT_FIRST,
    efforts=("none", *FEW_EFFORTS),
    reasoning_switch="chat_template_kwargs.enable_thinking",
    budget_field="thinking_token_budget",
    hiding_field="include_reasoning",
    think_tags=True,
)

PASSES_ON = replace(PLAIN, audio="object", reasoning_fields=TEXT_FIRST, end_user_field="user", think_tags=True)
"""A host of many models that hands requests through to the servers behind it."""
