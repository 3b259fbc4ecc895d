"""Acorn: the calling card. Where it is, who asks, and which dialect serves which operation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from parley_provider_example.dialect import Acorn
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, ProviderSettings, SecretRef


class AcornSettings(ProviderSettings):
    """An Acorn server."""

    variables: ClassVar = {"api_key": ("ACORN_API_KEY",), "base_url": ("ACORN_URL",)}

    base_url: BaseUrl = Field("http://127.0.0.1:8700", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")


def card(name: str, settings: AcornSettings, _shared: Shared) -> Provider:
    """Acorn chats; it lists no models, so those of the settings are all that are known."""
    return Provider(
        name=name,
        base_url=settings.base_url,
        auth=Bearer(settings.api_key),
        headers=settings.headers,
        chat=Acorn(),
        known_models=settings.models,
    )


KIND = Kind("acorn", AcornSettings, card)
