"""Servers that speak OpenAI's chat completions under a base URL of their own: one card, quirks as data."""

from __future__ import annotations

from pydantic import Field

from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, ProviderSettings, SecretRef


class OpenAICompatible(ProviderSettings):
    """Any server that speaks OpenAI's chat completions: vLLM, llama.cpp, LM Studio, a proxy."""

    base_url: BaseUrl = Field(description="Base URL, usually ending in /v1.")
    api_key: SecretRef = Field(NO_SECRET, description="API key, if it wants one.")
    embeddings: bool = Field(True, description="Whether it serves /embeddings.")
    quirks: Quirks = Field(Quirks.compatible(), description="How its wire format differs from OpenAI's.")


def card(name: str, settings: OpenAICompatible, _shared: Shared) -> Provider:
    """Any OpenAI-compatible server."""
    return Provider(
        name=name,
        base_url=settings.base_url,
        auth=Bearer(settings.api_key),
        headers=settings.headers,
        chat=OpenAIChat(settings.quirks),
        embed=OpenAIEmbed() if settings.embeddings else None,
        models=OpenAIModels(),
        known_models=settings.models,
    )


KIND = Kind("openai-compatible", OpenAICompatible, card, needs=())
