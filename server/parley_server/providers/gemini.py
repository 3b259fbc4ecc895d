"""The Gemini API of Google AI: the calling card."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from pydantic import Field

from parley_server.dialects.gemini import GeminiChat, GeminiEmbed, GeminiModels
from parley_server.providers.auth import Header, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, KeyedSettings, SecretRef


class Gemini(KeyedSettings):
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
        auth=of_keys(settings.keys, partial(Header, "x-goog-api-key"), name),
        headers=settings.headers,
        chat=GeminiChat(),
        embed=GeminiEmbed(),
        models=GeminiModels(),
        known_models=settings.models,
    )


KIND = Kind("gemini", Gemini, card)
