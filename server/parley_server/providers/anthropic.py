"""Anthropic: the calling card."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from pydantic import Field

from parley_server.dialects.anthropic import AnthropicMessages, AnthropicModels
from parley_server.providers.auth import Header, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, KeyedSettings, SecretRef


class Anthropic(KeyedSettings):
    """Anthropic's own API."""

    variables: ClassVar = {"api_key": ("ANTHROPIC_API_KEY",)}

    base_url: BaseUrl = Field("https://api.anthropic.com/v1", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")


def card(name: str, settings: Anthropic, _shared: Shared) -> Provider:
    """Anthropic's own API. It has no embeddings."""
    return Provider(
        name=name,
        semconv_name="anthropic",
        catalog="anthropic",
        base_url=settings.base_url,
        auth=of_keys(settings.keys, partial(Header, "x-api-key"), name),
        headers=settings.headers,
        chat=AnthropicMessages(),
        models=AnthropicModels(),
        known_models=settings.models,
    )


KIND = Kind("anthropic", Anthropic, card)
