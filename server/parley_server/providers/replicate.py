"""Replicate: the calling card."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from parley_server.dialects.replicate import ReplicateChat, ReplicateModels
from parley_server.providers.auth import Bearer
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, ProviderSettings, SecretRef

_HOSTS = (".replicate.com", ".replicate.net")
"""Predictions stream from hosts of their own, which change: stream.replicate.com, or one at c.replicate.net."""


class Replicate(ProviderSettings):
    """Replicate's own API, for language models."""

    variables: ClassVar = {"api_key": ("REPLICATE_API_TOKEN",)}

    base_url: BaseUrl = Field("https://api.replicate.com/v1", description="Base URL.")
    api_key: SecretRef = Field(description="API token.")


def card(name: str, settings: Replicate, _shared: Shared) -> Provider:
    """Replicate's own API. The catalogue does not know its models; most are billed by the second."""
    return Provider(
        name=name,
        base_url=settings.base_url,
        auth=Bearer(settings.api_key),
        headers=settings.headers,
        hosts=_HOSTS,
        chat=ReplicateChat(),
        models=ReplicateModels(),
        known_models=settings.models,
    )


KIND = Kind("replicate", Replicate, card)
