"""Ollama: the calling card."""

from __future__ import annotations

from collections.abc import Mapping

from parley_server.core.secret import Secret
from parley_server.dialects.ollama import OllamaChat, OllamaEmbed, OllamaModels
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider


def card(name: str, *, base_url: str, api_key: Secret, headers: Mapping[str, str], models: tuple[str, ...]) -> Provider:
    """An Ollama server, in its native dialect."""
    return Provider(
        name=name,
        semconv_name="ollama",
        catalog="ollama",
        base_url=base_url,
        auth=Bearer(api_key),
        headers=headers,
        chat=OllamaChat(),
        embed=OllamaEmbed(),
        models=OllamaModels(),
        known_models=models,
    )
