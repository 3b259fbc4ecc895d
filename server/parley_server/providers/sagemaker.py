"""Amazon SageMaker: the calling card. Models are endpoints of one's own, and speak what their containers speak.

Chat is for containers with an OpenAI-style API (vLLM, LMI, TGI with its messages API). TGI's older `generate` takes a
finished prompt, for which the gateway would have to know each model's template, so it is not offered.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from parley_server.dialects.base import EmbedDialect
from parley_server.dialects.bedrock import EndpointChat, EndpointEmbed, PayloadParts
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.tei import TEIEmbed
from parley_server.providers.aws import AwsSettings
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl

CHAT = EndpointChat(OpenAIChat(Quirks.compatible(), framing=PayloadParts))


class SageMaker(AwsSettings):
    """Endpoints of Amazon SageMaker."""

    base_url: BaseUrl = Field("", description="URL of the runtime, where it is not the region's public one.")
    embeddings: dict[str, Literal["openai", "tei"]] = Field(
        {}, description="What endpoints of embeddings speak, by name; openai unless named."
    )
    base_models: dict[str, str] = Field({}, description="What the endpoints serve: names of models, by name.")


def card(name: str, settings: SageMaker, shared: Shared) -> Provider:
    """SageMaker's runtime in one region. Nothing lists endpoints there, so what is configured is what is listed."""
    openai, tei = OpenAIEmbed(), TEIEmbed()

    def embedder(endpoint: str) -> EmbedDialect:
        return tei if settings.embeddings.get(endpoint) == "tei" else openai

    return Provider(
        name=name,
        semconv_name="aws.sagemaker",
        base_url=settings.base_url or f"https://runtime.sagemaker.{settings.region}.{settings.domain}",
        auth=settings.signed(shared, lambda _url: "sagemaker"),
        headers=settings.headers,
        chat=CHAT,
        embed=EndpointEmbed(embedder),
        known_models=tuple({**dict.fromkeys(settings.models), **dict.fromkeys(settings.embeddings)}),
        own_names=True,
        base_models=settings.base_models,
    )


KIND = Kind("sagemaker", SageMaker, card, needs=())
