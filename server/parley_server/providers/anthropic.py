"""Anthropic: the calling card."""

from __future__ import annotations

from collections.abc import Mapping

from parley_server.core.secret import Secret
from parley_server.dialects.anthropic import AnthropicMessages, AnthropicModels
from parley_server.providers.auth import Header
from parley_server.providers.base import Provider


def card(name: str, *, base_url: str, api_key: Secret, headers: Mapping[str, str], models: tuple[str, ...]) -> Provider:
    """Anthropic's own API. It has no embeddings."""
    return Provider(
        name=name,
        semconv_name="anthropic",
        catalog="anthropic",
        base_url=base_url,
        auth=Header("x-api-key", api_key),
        headers=headers,
        chat=AnthropicMessages(),
        models=AnthropicModels(),
        known_models=models,
    )
