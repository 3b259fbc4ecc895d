"""OpenAI: the calling card."""

from __future__ import annotations

from collections.abc import Mapping

from parley_server.core.secret import Secret
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider


def card(name: str, *, base_url: str, api_key: Secret, headers: Mapping[str, str], models: tuple[str, ...]) -> Provider:
    """OpenAI's own API."""
    return Provider(
        name=name,
        semconv_name="openai",
        catalog="openai",
        base_url=base_url,
        auth=Bearer(api_key),
        headers=headers,
        chat=OpenAIChat(Quirks.openai()),
        embed=OpenAIEmbed(),
        models=OpenAIModels(),
        known_models=models,
    )
