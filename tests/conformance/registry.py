"""The adapters there are, by family."""

from __future__ import annotations

from importlib import import_module

from tests.conformance.adapter import AnyAdapter

FAMILIES = ("openai", "openai_responses", "anthropic", "ollama", "rerank", "cohere", "gemini", "replicate", "bedrock")
"""Modules of this package, each with a tuple ADAPTERS."""


def adapters() -> list[AnyAdapter]:
    """All adapters, in the order in which they are asked whether they cover a recording."""
    modules = [import_module(f"tests.conformance.{family}") for family in FAMILIES]
    return [adapter for module in modules for adapter in module.ADAPTERS]
