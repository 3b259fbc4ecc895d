"""The adapters there are, by family."""

from __future__ import annotations

from importlib import import_module

from tests.conformance.adapter import ChatAdapter, EmbedAdapter

FAMILIES = ("openai",)


def adapters() -> list[ChatAdapter | EmbedAdapter]:
    """All adapters, in the order in which they are asked whether they cover a recording."""
    return [adapter for family in FAMILIES for adapter in import_module(f"tests.conformance.{family}").ADAPTERS]
