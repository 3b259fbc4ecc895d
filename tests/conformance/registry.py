"""The adapters there are, by family."""

from __future__ import annotations

from importlib import import_module

from tests.conformance.adapter import ChatAdapter, EmbedAdapter

FAMILIES = ("openai", "anthropic", "ollama")
"""Modules of this package. Each has a tuple ADAPTERS, and may have EXTRA: for servers that merely follow it."""


def adapters(*, extra: bool = False) -> list[ChatAdapter | EmbedAdapter]:
    """All adapters, in the order in which they are asked whether they cover a recording."""
    modules = [import_module(f"tests.conformance.{family}") for family in FAMILIES]
    found = [adapter for module in modules for adapter in module.ADAPTERS]
    return found + [adapter for module in modules for adapter in getattr(module, "EXTRA", ())] if extra else found
