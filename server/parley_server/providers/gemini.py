"""The Gemini API of Google AI: the calling card."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from parley_server.dialects.gemini import GeminiChat, GeminiEmbed, GeminiModels
from parley_server.providers.auth import Header
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, ProviderSettings, SecretRef


class Gemini(ProviderSettings):
    """The Gemini API of Google AI."""

    variables: ClassVar = {"api_key": ("GOOGLE_API_KEY", "GEMINI_API_KEY")}  # in the order of Google's own clients

    base_url: BaseUrl = Field("https://generativelanguage.googleapis.com/v1beta", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")


def card(name: str, settings: Gemini, _shared: Shared) -> Provider:
    """The Gemini API of Google AI."""
    return Provider(
        name=name,
        semconv_name="gcp.gemini",
        catalog="gemini",
        base_url=settings.base_url,
        auth=Header("x-goog-api-key", settings.api_key),
        headers=settings.headers,
        chat=GeminiChat(),
        embed=GeminiEmbed(),
        models=GeminiModels(),
        known_models=settings.models,
    )


KIND = Kind("gemini", Gemini, card)
