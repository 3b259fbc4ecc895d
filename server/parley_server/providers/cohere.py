"""Cohere: the calling card."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from parley_server.dialects.cohere import CohereChat, CohereEmbed, CohereModels, CohereRerank
from parley_server.providers.auth import Bearer, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, KeyedSettings, SecretRef


class Cohere(KeyedSettings):
    """Cohere's own API."""

    variables: ClassVar = {"api_key": ("COHERE_API_KEY", "CO_API_KEY")}

    base_url: BaseUrl = Field("https://api.cohere.com", description="Base URL, without the version.")
    api_key: SecretRef = Field(description="API key.")


def card(name: str, settings: Cohere, _shared: Shared) -> Provider:
    """Cohere's own API, version 2."""
    return Provider(
        name=name,
        semconv_name="cohere",
        catalog="cohere",
        base_url=settings.base_url,
        auth=of_keys(settings.keys, Bearer, name),
        headers=settings.headers,
        chat=CohereChat(),
        embed=CohereEmbed(),
        rerank=CohereRerank(),
        models=CohereModels(),
        known_models=settings.models,
    )


KIND = Kind("cohere", Cohere, card)
