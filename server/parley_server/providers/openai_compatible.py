"""Servers that speak OpenAI's chat completions under a base URL of their own: one card, quirks as data."""

from __future__ import annotations

from collections.abc import Mapping

from parley_server.core.secret import Secret
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider


def card(
    name: str,
    *,
    base_url: str,
    api_key: Secret,
    headers: Mapping[str, str],
    models: tuple[str, ...],
    embeddings: bool,
    quirks: Quirks,
) -> Provider:
    """Any OpenAI-compatible server."""
    return Provider(
        name=name,
        base_url=base_url,
        auth=Bearer(api_key),
        headers=headers,
        chat=OpenAIChat(quirks),
        embed=OpenAIEmbed() if embeddings else None,
        models=OpenAIModels(),
        known_models=models,
    )
