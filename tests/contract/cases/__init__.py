"""A module for each dialect, with a tuple CASES."""

from __future__ import annotations

from importlib import import_module

from tests.contract.case import Case

DIALECTS = (
    "openai_chat",
    "openai_responses",
    "anthropic",
    "gemini",
    "bedrock",
    "cohere",
    "watsonx",
    "ollama",
    "replicate",
    "acorn",
)
"""Modules of this package, by the dialect's package."""


def cases() -> list[Case]:
    """All cases."""
    return [case for name in DIALECTS for case in import_module(f"tests.contract.cases.{name}").CASES]
