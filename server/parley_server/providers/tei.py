"""Text Embeddings Inference: the calling card."""

from __future__ import annotations

from pydantic import Field

from parley_server.dialects.tei import TEIEmbed, TEIRerank
from parley_server.providers.auth import Bearer, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, KeyedSettings, SecretRef


class TextEmbeddings(KeyedSettings):
    """A server of Text Embeddings Inference, in its native form. It serves one model, whatever that is called."""

    base_url: BaseUrl = Field(description="Base URL, without /v1.")
    api_key: SecretRef = Field(NO_SECRET, description="API key, if it wants one.")
    batch_size: int = Field(32, ge=1, le=2048, description="Its --max-client-batch-size.")


def card(name: str, settings: TextEmbeddings, _shared: Shared) -> Provider:
    """A server of Text Embeddings Inference. What its model does not do, it refuses itself."""
    return Provider(
        name=name,
        base_url=settings.base_url,
        auth=of_keys(settings.keys, Bearer, name),
        headers=settings.headers,
        embed=TEIEmbed(batch_limit=settings.batch_size),
        rerank=TEIRerank(),
        known_models=settings.models,
    )


KIND = Kind("tei", TextEmbeddings, card, needs=())
